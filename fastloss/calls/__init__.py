"""A call before it has a place: what is wanted of it, what its arguments mean, and the plans that are kept for the next one of its kind."""
