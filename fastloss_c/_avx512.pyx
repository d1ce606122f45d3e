# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""The kernels, compiled for one instruction set: see setup.py for the flags."""

include "kernels.pxi"
include "pointwise.pxi"
include "softmax.pxi"
include "scoring.pxi"
include "comparing.pxi"
include "details.pxi"
include "rows.pxi"
include "finish.pxi"
