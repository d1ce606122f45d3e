"""Kernels that compare the distributions of two arrays of logits row by row; `backends.numba_cpu.comparing` describes their arguments.

Of each pair of rows a first sweep takes maxima and sums; a second one, while both are in cache, sums the divergence's terms.
"""


cdef struct Comparisons:
    Operand kl
    Operand same
    Operand nll
    Operand reference_nll
    Operand delta_p


cdef void put_comparison(
    Call *call, const Comparisons *out, Py_ssize_t i, Py_ssize_t j, int64_t label, double kl, bint same, double loss,
    double reference, double d, double *partial
) noexcept nogil:
    """What is found out about one row; a label below 0 is none, and d is loss - reference to more digits."""
    if label == -1 and call.target.data != NULL:
        note_bad(partial, i * out.kl.length[2] + j)
    put(at(&out.kl, 0, i, j), call.real.size, kl)
    at(&out.same, 0, i, j)[0] = same
    if out.nll.data != NULL:
        put(at(&out.nll, 0, i, j), call.real.size, loss if label >= 0 else 0.0)
        put(at(&out.reference_nll, 0, i, j), call.real.size, reference if label >= 0 else 0.0)
        put(at(&out.delta_p, 0, i, j), call.real.size, rise_of(loss, reference, d) if label >= 0 else 0.0)


cdef inline int64_t target_at(const Call *call, Py_ssize_t i, Py_ssize_t j, Py_ssize_t n) noexcept nogil:
    """A row's label; -1 without targets."""
    if call.target.data == NULL:
        return -1
    return label_at(at(&call.target, 0, i, j), call.target.kind, n, call.ignore_index)


cdef inline double gap_at(double r, double x, const Side *reference, const Side *other, double excess) noexcept nogil:
    """log p - log q of a class with these logits."""
    return ((r - x) - ((reference.top - other.top) + (reference.tail - other.tail))) + excess


# --- rows ------------------------------------------------------------------------------------------------------------


cdef void scan_side(
    const Call *call, const Operand *x, Py_ssize_t start, Group *group, int size, const int64_t *labels, Side *sides,
    Py_ssize_t *peaks
) noexcept nogil:
    """The sums of some rows of one of the two arrays, without their labels where they have some, and where their maxima are."""
    cdef Py_ssize_t middle = x.length[1], n = x.length[2], left_out
    cdef const char *row
    cdef int k
    for k in range(size):
        row = at(x, (start + k) // middle, (start + k) % middle, 0)
        left_out = labels[k] if labels[k] >= 0 else -1
        call.real.scan(row, x.kind, n, left_out, NAN, &group.s[k], &group.g[k], &group.most[k])
        group.x[k] = element(row + left_out * x.step[2], x.kind) if left_out >= 0 else -INFINITY
    call.real.likelihoods(group.s, group.g, group.x, group.losses, SIDE_BY_SIDE)
    for k in range(size):
        row = at(x, (start + k) // middle, (start + k) % middle, 0)
        sides[k].x, sides[k].step, sides[k].kind = row, x.step[2], x.kind
        sides[k].top = call.real.peak_of(row, x.kind, n, &peaks[k])
        sides[k].tail = tail_of(group.s[k], group.g[k], group.x[k], group.losses[k], sides[k].top)
        if group.s[k] != group.s[k] or group.x[k] != group.x[k]:  # NaN comes first, but maxima leave it out
            peaks[k] = call.real.first_of_all(row, x.step[2], x.kind, n)
            sides[k].tail = NAN


cdef void compare_row_blocks(
    Call *call, const Comparisons *out, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last
) noexcept nogil:
    """Comparisons of blocks of contiguous rows."""
    cdef Py_ssize_t middle = call.x.length[1], n = call.x.length[2], n_rows = call.x.length[0] * middle
    cdef Py_ssize_t b, start, end, at_once
    cdef Py_ssize_t peaks[2][16]
    cdef Group group, reference
    cdef Side sides[2][16]
    cdef double *partial
    cdef double kl, excess
    cdef int k, size
    at_once = 1 if n >= LONG_ROW else SIDE_BY_SIDE
    for k in range(SIDE_BY_SIDE):
        group.s[k] = group.g[k] = group.x[k] = reference.s[k] = reference.g[k] = reference.x[k] = 0.0
    for b in range(first, last):
        partial = call.partials + 4 * b
        start_block(partial)
        end = smaller((b + 1) * block, n_rows)
        start = b * block
        while start < end:
            size = <int>smaller(at_once, end - start)
            for k in range(size):
                group.labels[k] = target_at(call, (start + k) // middle, (start + k) % middle, n)
            scan_side(call, &call.reference, start, &reference, size, group.labels, sides[0], peaks[0])
            scan_side(call, &call.x, start, &group, size, group.labels, sides[1], peaks[1])
            for k in range(size):
                kl, excess = NAN, 0.0
                if fabs(sides[0][k].top) < INFINITY and fabs(sides[1][k].top) < INFINITY:
                    kl = call.real.divergence(&sides[0][k], &sides[1][k], n, &excess)
                put_comparison(
                    call, out, (start + k) // middle, (start + k) % middle, group.labels[k], kl,
                    peaks[0][k] == peaks[1][k], group.losses[k], reference.losses[k],
                    gap_at(reference.x[k], group.x[k], &sides[0][k], &sides[1][k], excess), partial,
                )
            start += size


# --- columns ---------------------------------------------------------------------------------------------------------


cdef void scan_columns_of(
    const Call *call, const Columns *x, Py_ssize_t n, int width, const int64_t *labels, Rows *rows, int64_t *peaks
) noexcept nogil:
    """The sums of the rows of one tile of one of the two arrays, and where their maxima are."""
    cdef int lane
    call.real.find_peaks(x, n, width, rows)
    for lane in range(width):
        peaks[lane] = rows.labels[lane]
        if labels[lane] >= 0:
            rows.labels[lane] = labels[lane]
    call.real.scan_columns(x, n, width, rows)
    find_tails(rows, width)
    for lane in range(width):
        if rows.s[lane] != rows.s[lane] or rows.x[lane] != rows.x[lane]:
            peaks[lane] = call.real.first_of_all(x.data + lane * x.lane_step, x.class_step, x.kind, n)
            rows.tail[lane] = NAN


cdef void compare_column_blocks(
    Call *call, const Comparisons *out, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last
) noexcept nogil:
    """Comparisons of blocks of tiles."""
    cdef Py_ssize_t n = call.x.length[1], inner = call.x.length[2], tiles = (inner + LANES - 1) // LANES, b, q, i, start
    cdef Columns x, r
    cdef Rows rows, reference
    cdef Side sides[2]
    cdef int64_t peaks[2][64]
    cdef int64_t labels[64]
    cdef double kl[64]
    cdef double excess[64]
    cdef double *partial
    cdef int lane, width
    for b in range(first, last):
        partial = call.partials + 4 * b
        start_block(partial)
        for q in range(b * block, smaller((b + 1) * block, call.x.length[0] * tiles)):
            i = q // tiles
            start = (q - i * tiles) * LANES
            width = <int>smaller(LANES, inner - start)
            r, x = columns_of(&call.reference, i, start), columns_of(&call.x, i, start)
            for lane in range(width):
                labels[lane] = target_at(call, i, start + lane, n)
            scan_columns_of(call, &r, n, width, labels, &reference, peaks[0])
            scan_columns_of(call, &x, n, width, labels, &rows, peaks[1])
            call.real.diverge_columns(&r, &x, n, width, &reference, &rows, kl, excess)
            for lane in range(width):
                sides[0].top, sides[0].tail = reference.top[lane], reference.tail[lane]
                sides[1].top, sides[1].tail = rows.top[lane], rows.tail[lane]
                put_comparison(
                    call, out, i, start + lane, labels[lane], kl[lane], peaks[0][lane] == peaks[1][lane], rows.loss[lane],
                    reference.loss[lane], gap_at(reference.x[lane], rows.x[lane], &sides[0], &sides[1], excess[lane]),
                    partial,
                )
