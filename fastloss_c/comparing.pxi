"""Kernels that compare the distributions of two arrays of logits row by row; `backends.numba_cpu.comparing` describes their arguments.

Where models are alike one sweep over a pair of rows sums the divergence's terms; elsewhere a second one does so once maxima and sums are
known.  Likelihoods take sums of their own, while the rows are in cache.
"""


cdef struct Comparisons:
    Operand kl
    Operand same
    Operand nll
    Operand reference_nll
    Operand delta_p


cdef inline double gap_of_losses(double loss, double reference, double between, double gap) noexcept nogil:
    """loss - reference to more digits, between - gap, except where the gap is so large that it has none for that."""
    return between - gap if fabs(gap) < 1e6 else loss - reference


cdef void put_comparison(
    Call *call, const Comparisons *out, Py_ssize_t i, Py_ssize_t j, int64_t label, double kl, bint same, double loss,
    double reference, double between, double gap, double *partial
) noexcept nogil:
    """What is found out about one row; a label below 0 is none."""
    cdef double d = gap_of_losses(loss, reference, between, gap)
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


# --- rows ------------------------------------------------------------------------------------------------------------


cdef inline void take_side(const Operand *x, Py_ssize_t i, Py_ssize_t j, Side *side) noexcept nogil:
    side.x, side.step, side.kind = at(x, i, j, 0), x.step[2], x.kind


cdef void scan_side(
    const Call *call, Group *group, int size, const int64_t *labels, Side *sides, const Others *others, int which,
    const int *found
) noexcept nogil:
    """The sums of some rows of one of the two arrays, without their labels where they have some.

    `found` says of which of them one sweep has found all that is wanted: the divergence (1), and `others` (2).
    """
    cdef Py_ssize_t n = call.x.length[2], left_out
    cdef int k
    for k in range(size):
        left_out = labels[k] if labels[k] >= 0 else -1
        if found[k] == 2:
            group.s[k], group.g[k] = others[2 * k + which].s, others[2 * k + which].g
            group.most[k] = others[2 * k + which].most
        elif found[k] == 1 and left_out < 0:  # the loss is not looked at
            group.s[k], group.g[k], group.most[k] = 0.0, 0.0, -INFINITY
        else:
            call.real.scan(sides[k].x, sides[k].kind, n, left_out, NAN, &group.s[k], &group.g[k], &group.most[k],
                call.temper)
        group.x[k] = -INFINITY
        if left_out >= 0:
            group.x[k] = call.real.logit(element(sides[k].x + left_out * sides[k].step, sides[k].kind), call.temper)
    call.real.likelihoods(group.s, group.g, group.x, group.losses, SIDE_BY_SIDE, call.temper.rate)
    for k in range(size):
        sides[k].top = group.x[k] if group.x[k] > group.most[k] else group.most[k]
        sides[k].tail = tail_of(group.s[k], group.g[k], group.x[k], group.losses[k], sides[k].top, call.temper.rate)
        if group.s[k] != group.s[k] or group.x[k] != group.x[k]:
            sides[k].tail = NAN


cdef inline Py_ssize_t peak_at(const Call *call, const Side *side, Py_ssize_t n) noexcept nogil:
    """Where the row has its maximum; NaN comes first, but maxima leave it out."""
    cdef Py_ssize_t position
    if side.tail != side.tail:
        return call.real.first_of_all(side.x, side.step, side.kind, n)
    call.real.peak_of(side.x, side.kind, n, &position)
    return position


cdef double compared(
    const Call *call, const Side *r, const Side *x, Py_ssize_t n, double *gap, bint *same
) noexcept nogil:
    """A row's divergence, the difference of both logsumexp, and whether both have their maximum at the same class.

    Both sides are known, but where one sweep does they need not be.
    """
    cdef double kl = NAN
    gap[0] = NAN
    if fabs(r.top) < INFINITY and fabs(x.top) < INFINITY:
        kl = call.real.divergence(r, x, n, gap, call.temper)
    same[0] = peak_at(call, r, n) == peak_at(call, x, n)
    return kl


cdef void compare_row_blocks(
    Call *call, const Comparisons *out, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last
) noexcept nogil:
    """Comparisons of blocks of contiguous rows."""
    cdef Py_ssize_t middle = call.x.length[1], n = call.x.length[2], n_rows = call.x.length[0] * middle
    cdef Py_ssize_t b, start, end, at_once, i, j, r_peak, x_peak
    cdef Group group, reference
    cdef Side sides[2][16]
    cdef double kl[16]
    cdef double gaps[16]
    cdef bint same[16]
    cdef int quick[16]
    cdef Others others[32]
    cdef double *partial
    cdef int k, size
    # the sums that likelihoods are made of find a long row in cache
    at_once = 1 if n >= LONG_ROW or call.target.data == NULL else SIDE_BY_SIDE
    for k in range(SIDE_BY_SIDE):
        group.s[k] = group.g[k] = group.x[k] = reference.s[k] = reference.g[k] = reference.x[k] = 0.0
        group.losses[k] = reference.losses[k] = 0.0
    for b in range(first, last):
        partial = call.partials + 4 * b
        start_block(partial)
        end = smaller((b + 1) * block, n_rows)
        start = b * block
        while start < end:
            size = <int>smaller(at_once, end - start)
            for k in range(size):
                i, j = (start + k) // middle, (start + k) % middle
                group.labels[k] = target_at(call, i, j, n)
                take_side(&call.reference, i, j, &sides[0][k])
                take_side(&call.x, i, j, &sides[1][k])
                # the divergence is the same whether there are targets or not
                quick[k] = call.real.quick_divergence(
                    &sides[0][k], &sides[1][k], n, group.labels[k] if group.labels[k] >= 0 else -1, &kl[k], &gaps[k],
                    &r_peak, &x_peak, &others[2 * k], call.temper
                )
                same[k] = r_peak == x_peak if quick[k] else False
            if call.target.data != NULL or not quick[0]:
                scan_side(call, &group, size, group.labels, sides[1], others, 1, quick)
                scan_side(call, &reference, size, group.labels, sides[0], others, 0, quick)
            for k in range(size):
                if not quick[k]:
                    kl[k] = compared(call, &sides[0][k], &sides[1][k], n, &gaps[k], &same[k])
                put_comparison(
                    call, out, (start + k) // middle, (start + k) % middle, group.labels[k], kl[k], same[k],
                    group.losses[k], reference.losses[k], (reference.x[k] - group.x[k]) * call.temper.rate, gaps[k], partial,
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
    call.real.scan_columns(x, n, width, rows, call.temper)
    find_tails(rows, width, call.temper.rate)
    for lane in range(width):
        if rows.s[lane] != rows.s[lane] or rows.x[lane] != rows.x[lane]:
            peaks[lane] = call.real.first_of_all(x.data + lane * x.lane_step, x.class_step, x.kind, n)
            rows.tail[lane] = NAN


cdef void put_compared(
    const Call *call, const Comparisons *out, Py_ssize_t i, Py_ssize_t start, int width, const int64_t *labels,
    bint missing, const double *kl, const double *gaps, const int64_t *peaks, const int64_t *other_peaks, Rows *rows,
    Rows *reference, double *partial
) noexcept nogil:
    """What is found out about the rows of one tile."""
    cdef double between[64]
    cdef double rises[64]
    cdef int lane
    put_all(at(&out.kl, 0, i, start), out.kl.step[2], call.real.size, kl, width)
    for lane in range(width):
        at(&out.same, 0, i, start + lane)[0] = peaks[lane] == other_peaks[lane]
    if out.nll.data == NULL:  # there are no targets
        return
    for lane in range(width):
        between[lane] = gap_of_losses(
            rows.loss[lane], reference.loss[lane], (reference.x[lane] - rows.x[lane]) * call.temper.rate, gaps[lane]
        )
    rises_of(rows.loss, reference.loss, between, width, rises)
    for lane in range(width if missing else 0):
        if labels[lane] == -1:
            note_bad(partial, i * out.kl.length[2] + start + lane)
        if labels[lane] < 0:
            rows.loss[lane] = reference.loss[lane] = rises[lane] = 0.0
    put_all(at(&out.nll, 0, i, start), out.nll.step[2], call.real.size, rows.loss, width)
    put_all(at(&out.reference_nll, 0, i, start), out.reference_nll.step[2], call.real.size, reference.loss, width)
    put_all(at(&out.delta_p, 0, i, start), out.delta_p.step[2], call.real.size, rises, width)


cdef void compare_column_blocks(
    Call *call, const Comparisons *out, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last
) noexcept nogil:
    """Comparisons of blocks of tiles."""
    cdef Py_ssize_t n = call.x.length[1], inner = call.x.length[2], tiles = (inner + LANES - 1) // LANES, b, q, i, start
    cdef Columns x, r
    cdef Rows rows, reference
    cdef int64_t peaks[2][64]
    cdef int64_t labels[64]
    cdef double kl[64]
    cdef double gaps[64]
    cdef double *partial
    cdef bint missing
    cdef int lane, width
    for b in range(first, last):
        partial = call.partials + 4 * b
        start_block(partial)
        for q in range(b * block, smaller((b + 1) * block, call.x.length[0] * tiles)):
            i = q // tiles
            start = (q - i * tiles) * LANES
            width = <int>smaller(LANES, inner - start)
            r, x = columns_of(&call.reference, i, start), columns_of(&call.x, i, start)
            missing = call.target.data != NULL and find_labels(
                at(&call.target, 0, i, start), call.target.step[2], call.target.kind, n, call.ignore_index, width, labels
            )
            for lane in range(0 if call.target.data != NULL else width):
                labels[lane] = -1
            scan_columns_of(call, &r, n, width, labels, &reference, peaks[0])
            scan_columns_of(call, &x, n, width, labels, &rows, peaks[1])
            call.real.diverge_columns(&r, &x, n, width, &reference, &rows, kl, gaps, call.temper)
            put_compared(
                call, out, i, start, width, labels, missing, kl, gaps, peaks[0], peaks[1], &rows, &reference, partial
            )
