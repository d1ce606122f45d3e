"""From sums along axes to results."""

from libc.math cimport sqrt


def finish(partials, Py_ssize_t n, Py_ssize_t step, Py_ssize_t weights_from, double divisor, bint by_weight, bint root, out):
    """Write n sums, divided by a number or by the sums of weights, to a contiguous array; whether one of them is NaN.

    partials : float64; sum k of the losses is number k * step of it, that of the weights comes weights_from later.
    """
    cdef const double *sums = sums_of(partials)
    cdef cnp.ndarray array = <cnp.ndarray?>out
    cdef char *written = <char *>cnp.PyArray_DATA(array)
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(array), k
    cdef bint undefined = False
    cdef double value
    with nogil:
        for k in range(n):
            value = sums[k * step]
            undefined |= value != value
            value /= sums[k * step + weights_from] if by_weight else divisor
            put(written + k * size, size, sqrt(value) if root else value)
    return undefined
