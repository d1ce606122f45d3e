"""A plan carried out: chunk by chunk, here or on a cluster, noted in a journal."""
