"""What a run adds up: data that merge in any order to the same bits."""
