"""Rows of many classes that lie across others: turned into rows of their own first, so that kernels of contiguous rows do the rest.

That pays where kernels across rows have much to do for a class: comparisons, and results of the logits' shape."""

cdef enum:
    TURNED_FROM = 512  # classes; fewer are computed across rows
    TURNED_TO = 4096  # of more, results in memory would wait for each other; comparisons have none
    TURNED_COMPARED = 32768  # of more, so few rows stay in the cache that each line of it is read too often
    TURNED_BYTES = 1 << 19  # of rows at a time


cdef inline bint is_turned(const RowTask *t) noexcept nogil:
    """Whether that is done.  It does not depend on the number of rows, since a row's results do not."""
    cdef Py_ssize_t n = t.call.x.length[1]
    cdef bint shaped = t.op == NORMALISE and (t.outs[1].data != NULL or t.outs[2].data != NULL)
    cdef bint pays = t.op == COMPARE and n <= TURNED_COMPARED or shaped and n <= TURNED_TO
    return t.across and pays and n >= TURNED_FROM and t.call.real.size == 4 and t.call.real.steepness == NULL


cdef inline Py_ssize_t step_of_turned(Py_ssize_t n) noexcept nogil:
    """How many bytes such rows lie apart: an odd number of lines, so that they are not all in one set of the cache."""
    return (((n + 15) // 16) | 1) * 64


cdef inline void turn(const Call *call, Operand *x, Py_ssize_t i, Py_ssize_t start, int width, char *rows) noexcept nogil:
    """Some rows of an operand, which becomes those."""
    cdef Py_ssize_t n = x.length[1], size = call.real.size, row_step = step_of_turned(n)
    cdef Columns columns = columns_of(x, i, start)
    call.real.turned(&columns, n, width, rows, row_step)
    x.data, x.kind = rows, call.real.kind
    x.length[0], x.length[1], x.length[2] = 1, width, n
    x.step[0], x.step[1], x.step[2] = 0, row_step, size


cdef void turned_rows(
    const RowTask *t, Py_ssize_t i, Py_ssize_t start, int width, char *room, double *partial
) noexcept nogil:
    """Rows from `start` on, by the kernels of contiguous ones."""
    cdef Call call = t.call[0]
    cdef Operand outs[6]
    cdef RowTask task = t[0]
    cdef double sums[4]
    cdef Py_ssize_t n = call.x.length[1], bytes = width * step_of_turned(n)
    cdef int k
    task.call, task.outs, task.across, task.block = &call, &outs[0], False, width
    turn(&call, &call.x, i, start, width, room)
    if t.op == COMPARE:
        room += bytes
        turn(&call, &call.reference, i, start, width, room)
    if call.target.data != NULL:
        call.target.data = at(&call.target, 0, i, start)
    for k in range(6):
        outs[k] = t.outs[k]
        if outs[k].data == NULL:
            continue
        if t.op == NORMALISE and k > 0:
            room += bytes
            outs[k].data, outs[k].step[1], outs[k].step[2] = room, call.x.step[1], call.x.step[2]
        else:
            outs[k].data = at(&outs[k], 0, i, start)
    call.out = outs[0]
    if t.call.partials != NULL:
        start_block(sums)
        call.partials = sums
    plain_blocks(&task, 0, 1)
    if t.call.partials != NULL and sums[FIRST_BAD] < INFINITY:
        note_bad(partial, i * t.call.x.length[2] + start + <Py_ssize_t>sums[FIRST_BAD])
    for k in range(1, 6 if t.op == NORMALISE else 0):
        if outs[k].data != NULL:
            call.real.turned_back(
                outs[k].data, outs[k].step[1], n, width, at(&t.outs[k], i, 0, start), t.outs[k].step[1], t.outs[k].step[2]
            )


cdef bint turned_blocks(const RowTask *t, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Blocks of tiles of rows; false if there is no room for that."""
    cdef Py_ssize_t inner = t.call.x.length[2], tiles = (inner + LANES - 1) // LANES, b, q, start, end
    cdef Py_ssize_t bytes = step_of_turned(t.call.x.length[1])
    cdef Py_ssize_t together = smaller(smaller(STRIP, TURNED_BYTES // bytes), inner)
    cdef double *partial = NULL
    cdef int arrays = 2 if t.op == COMPARE else 1 + (t.outs[1].data != NULL) + (t.outs[2].data != NULL)
    cdef char *allocated = <char *>malloc(arrays * together * bytes + 64)
    cdef char *room = allocated + (64 - <size_t>allocated % 64)  # where a line begins
    if allocated == NULL:
        return False
    for b in range(first, last):
        if t.call.partials != NULL:
            partial = t.call.partials + 4 * b
            start_block(partial)
        for q in range(b * t.block, smaller((b + 1) * t.block, t.call.x.length[0] * tiles)):
            start = q % tiles * LANES
            end = smaller(start + LANES, inner)
            while start < end:
                turned_rows(t, q // tiles, start, <int>smaller(together, end - start), room, partial)
                start += together
    free(allocated)
    return True
