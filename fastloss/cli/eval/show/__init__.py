"""The figures of a run, for people, programs and browsers."""
