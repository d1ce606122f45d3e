# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""Yardsticks, compiled for one instruction set with the flags of the kernels."""

include "limits.pxi"
