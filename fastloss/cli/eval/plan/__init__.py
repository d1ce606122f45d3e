"""What a run is going to do: which loss, which shards of which shapes, how they are cut."""
