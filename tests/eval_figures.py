"""What two runs of `fastloss eval` on the same data have in common."""

INCIDENTAL = {"seconds", "rows_per_second", "gigabytes_per_second", "predictions", "targets", "shards", "chunk_size"}
INCIDENTAL |= {"output", "per_sample", "per_document", "report", "threads", "pieces_resumed", "workers", "scheduler"}


def figures(document):
    """The document without what depends on how the data are cut, read and written."""
    return {key: value for key, value in document.items() if key not in INCIDENTAL}
