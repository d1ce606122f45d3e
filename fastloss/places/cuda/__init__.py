"""Arrays of a CUDA device; `place` is the way in."""
