"""A kernel that finds what more there is to rows than their sums; `backends` describes its arguments."""

from libc.stdlib cimport free, malloc

cdef enum:
    COPIED = 1 << 16  # elements of rows side by side that are copied together


cdef void detail_row(
    Call *call, const Operand *outs, Py_ssize_t m, Py_ssize_t i, Py_ssize_t j, const char *row, Py_ssize_t step,
    int kind, Py_ssize_t n, Py_ssize_t ahead, double *partial
) noexcept nogil:
    """Everything about one row, to where it is wanted; `ahead` is how many bytes after it the next one lies."""
    cdef int64_t *places = <int64_t *>at(&outs[1], 0, i, j)
    call.real.detail(row, step, kind, n, m, ahead, at(&outs[2], 0, i, j), places, <double *>at(&outs[0], 0, i, j))
    rank_row(call, outs, i, j, row, step, kind, n, partial)


cdef void rank_row(
    Call *call, const Operand *outs, Py_ssize_t i, Py_ssize_t j, const char *row, Py_ssize_t step, int kind, Py_ssize_t n,
    double *partial
) noexcept nogil:
    """The rank of a row's target, where it is wanted, and whether it is a class."""
    cdef int64_t label, before = -1
    cdef double own
    if call.target.data == NULL:
        return
    label = label_at(at(&call.target, 0, i, j), call.target.kind, n, call.ignore_index)
    if label == -1:
        note_bad(partial, i * outs[0].length[2] + j)
    if outs[3].data != NULL:
        if label >= 0:
            own = element(row + label * step, kind)
            before = call.real.count_before(row, step, kind, n, label, own)
        (<int64_t *>at(&outs[3], 0, i, j))[0] = before


cdef void detail_blocks(
    Call *call, const Operand *outs, bint across, Py_ssize_t m, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last
) noexcept nogil:
    """Blocks of rows, or of tiles of rows."""
    cdef Py_ssize_t middle = outs[0].length[2], n = call.x.length[1 if across else 2], tiles, b, q, i, j, start, stop
    cdef Py_ssize_t size = call.real.size, step = call.x.step[1 if across else 2]
    cdef char *copies = NULL
    cdef const char *row
    cdef double *partial
    cdef int lane, width, abreast = 1
    cdef Columns x
    if not across:
        for b in range(first, last):
            partial = call.partials + 4 * b
            start_block(partial)
            for q in range(b * block, smaller((b + 1) * block, call.x.length[0] * middle)):
                i, j = q // middle, q % middle
                # the next row is asked for: exponentials leave memory idle
                detail_row(call, outs, m, i, j, at(&call.x, i, j, 0), step, call.x.kind, n, call.x.step[1], partial)
        return
    if step > 8 and n > BLOCK:
        # as many as have their elements in a line of the cache, or as stay in the second-level cache
        abreast = <int>smaller(LANES, COPIED // n if COPIED // n > 16 else 16)
        copies = <char *>malloc(abreast * n * size)
    tiles = (middle + LANES - 1) // LANES
    for b in range(first, last):
        partial = call.partials + 4 * b
        start_block(partial)
        for q in range(b * block, smaller((b + 1) * block, call.x.length[0] * tiles)):
            i = q // tiles
            start, stop = (q - i * tiles) * LANES, smaller((q - i * tiles + 1) * LANES, middle)
            if n <= BLOCK:
                width = <int>(stop - start)
                x = columns_of(&call.x, i, start)
                call.real.detail_columns(
                    &x, <int>n, width, m, at(&outs[2], 0, i, start), outs[2].step[2], at(&outs[1], 0, i, start),
                    outs[1].step[2], at(&outs[0], 0, i, start), outs[0].step[2],
                )
                for j in range(start, stop):
                    rank_row(call, outs, i, j, at(&call.x, i, 0, j), step, call.x.kind, n, partial)
                continue
            while start < stop:
                width = <int>smaller(abreast, stop - start)
                if copies != NULL:
                    x = columns_of(&call.x, i, start)
                    call.real.turned(&x, n, width, copies, n * size)
                for lane in range(width):
                    j = start + lane
                    if copies != NULL:
                        detail_row(call, outs, m, i, j, copies + lane * n * size, size, call.real.kind, n, 0, partial)
                    else:
                        detail_row(call, outs, m, i, j, at(&call.x, i, 0, j), step, call.x.kind, n, 0, partial)
                start += width
    free(copies)
