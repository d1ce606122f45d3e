"""Yardsticks for `fastloss bench`, and the elementary functions for tests; no kernel uses them."""

cdef extern from "floor.h" nogil:
    enum:
        N_PACES

    void prepare_paces()
    int elements_of_pass(int kind, int n_classes)
    void run_passes(int kind, int written, int n_classes, Py_ssize_t times)
    void move_bytes(const char *source, Py_ssize_t n_in, char *out, Py_ssize_t n_out, Py_ssize_t times)


cdef extern from *:
    """
    static const char *elementary_name(int k) { return elementary_functions[k].name; }
    static void elementary_over(int k, const float *x, float *out, Py_ssize_t n) { elementary_functions[k].over(x, out, n); }
    """
    const char *elementary_name(int k)
    void elementary_over(int k, const float *x, float *out, Py_ssize_t n) nogil


# in the order of the enumeration in floor.h
PACES = ("plain", "exp", "log", "two logs", "softplus", "row", "half row", "planes")
assert len(PACES) == N_PACES
WRITTEN = ("nothing", "values", "slopes")
prepare_paces()


cdef _named_functions():
    cdef int k = 0
    found = []
    while elementary_name(k) != NULL:
        found.append(elementary_name(k).decode())
        k += 1
    return tuple(found)


ELEMENTARY = _named_functions()


def run(str kind, str written, int n_classes, Py_ssize_t times):
    """Compute `times` passes of one of PACES over data in the first-level cache; the number of elements of a pass.

    That is 0 if there is none: for too many classes, or from a compiler that lacks what the passes are written with.  The data are the
    module's: only one thread may call this at a time.
    """
    cdef int which = PACES.index(kind), what = WRITTEN.index(written)
    cdef int n = elements_of_pass(which, n_classes)
    if n:
        with nogil:
            run_passes(which, what, n_classes, times)
    return n


def move(const unsigned char[::1] source, unsigned char[::1] out, Py_ssize_t times):
    """Read all of `source` and write all of `out`, `times` times, without the GIL."""
    cdef Py_ssize_t n_in = source.shape[0], n_out = out.shape[0]
    cdef const char *first = <const char *>&source[0] if n_in else NULL
    cdef char *written = <char *>&out[0] if n_out else NULL
    with nogil:
        move_bytes(first, n_in, written, n_out, times)


def elementary(str name, const float[::1] x, float[::1] out):
    """Write the elementary function of that name of each of `x`."""
    cdef int k = ELEMENTARY.index(name)
    cdef Py_ssize_t n = x.shape[0]
    if out.shape[0] != n:
        raise ValueError("arrays of different lengths")
    if n:
        with nogil:
            elementary_over(k, &x[0], &out[0], n)
