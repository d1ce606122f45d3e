"""Kernels that score rows, and that reduce rows, one tile of classes at a time; `backends.numba_cpu.scoring` and `.tiles` describe
their arguments.

A row is gone through for its sums, and again, while it is in cache, for its arg max and the target's rank.
"""

# --- scores ----------------------------------------------------------------------------------------------------------


cdef enum:
    SCORED_TWICE = 6  # classes up to which `score_few` is the faster way


cdef struct Scores:
    Operand nll
    Operand lse
    Operand best
    Operand correct
    Operand rank
    Operand entropy  # of rows of up to BLOCK classes, across lanes


cdef void settle_odd(
    Call *call, const Scores *out, Py_ssize_t i, Py_ssize_t j, const char *row, Py_ssize_t step, Py_ssize_t n,
    int64_t label, double top, bint is_nan, int64_t *best, double *loss, double *lse, double *partial
) noexcept nogil:
    """What a row's scores are if it has no label, a NaN, or a maximum that is infinite; a label below 0 is none."""
    if is_nan:  # NaN comes first, but maxima leave it out
        best[0] = call.real.first_of_all(row, step, call.x.kind, n)
    if not fabs(top) < INFINITY:
        lse[0] = infinite_sum(row, step, call.x.kind, n, top)
    if label == -1:
        note_bad(partial, i * out.nll.length[2] + j)
    if label < 0:
        loss[0] = 0.0


cdef void put_places(
    Call *call, const Scores *out, const Columns *x, Py_ssize_t i, Py_ssize_t j, Py_ssize_t n, int width,
    const int64_t *labels, const int64_t *best
) noexcept nogil:
    """Where so many rows' maxima are, whether these are the labels, and the labels' ranks."""
    cdef Py_ssize_t before
    cdef const char *row
    cdef int k
    for k in range(width):
        (<int64_t *>at(&out.best, 0, i, j + k))[0] = best[k]
        at(&out.correct, 0, i, j + k)[0] = best[k] == labels[k]
    for k in range(width if out.rank.data != NULL else 0):
        before = -1
        if labels[k] >= 0:
            row = x.data + k * x.lane_step
            before = call.real.count_before(
                row, x.class_step, x.kind, n, labels[k], element(row + labels[k] * x.class_step, x.kind)
            )
        (<int64_t *>at(&out.rank, 0, i, j + k))[0] = before


cdef void score_row_blocks(
    Call *call, const Scores *out, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last
) noexcept nogil:
    """Scores of blocks of contiguous rows."""
    cdef Py_ssize_t middle = call.x.length[1], n = call.x.length[2], n_rows = call.x.length[0] * middle
    cdef Py_ssize_t b, start, end, i, j, at_once
    cdef Py_ssize_t left_out[16]
    cdef Py_ssize_t best[16]
    cdef Group group
    cdef const char *row
    cdef Columns one
    cdef double *partial
    cdef double top, tail, lse
    cdef bint is_nan
    cdef int64_t place
    cdef int k, size
    at_once = 1 if n >= LONG_ROW else SIDE_BY_SIDE
    one.class_step, one.lane_step, one.kind = call.x.step[2], 0, call.x.kind
    for k in range(SIDE_BY_SIDE):
        group.s[k] = group.g[k] = group.x[k] = group.tops[k] = 0.0
    for b in range(first, last):
        partial = call.partials + 4 * b
        start_block(partial)
        end = smaller((b + 1) * block, n_rows)
        start = b * block
        while start < end:
            size = <int>smaller(at_once, end - start)
            for k in range(size):
                i, j = (start + k) // middle, (start + k) % middle
                row = at(&call.x, i, j, 0)
                group.labels[k] = label_at(at(&call.target, 0, i, j), call.target.kind, n, call.ignore_index)
                left_out[k] = group.labels[k]
                if left_out[k] < 0:
                    call.real.peak_of(row, call.x.kind, n, &left_out[k])
                call.real.scan(row, call.x.kind, n, left_out[k], NAN, &group.s[k], &group.g[k], &group.most[k],
                    call.temper)
                group.x[k] = logit_at(call, row + left_out[k] * call.x.step[2])
            call.real.likelihoods(group.s, group.g, group.x, group.losses, SIDE_BY_SIDE, call.temper.rate)
            for k in range(size):
                row = at(&call.x, (start + k) // middle, (start + k) % middle, 0)
                group.tops[k] = call.real.logit(call.real.peak_of(row, call.x.kind, n, &best[k]), call.temper)
            find_row_tails(
                group.s, group.g, group.x, group.losses, group.tops, SIDE_BY_SIDE, call.temper.rate, group.tails
            )
            for k in range(size):
                i, j = (start + k) // middle, (start + k) % middle
                row = at(&call.x, i, j, 0)
                top, tail = group.tops[k], group.tails[k]
                if wants_rest(group.x[k], top, tail, 1.0) and fabs(top * call.temper.rate + tail) < 1.0:
                    tail = tail_without_top(call, row, n)
                place = best[k]
                is_nan = group.s[k] != group.s[k] or group.x[k] != group.x[k]
                lse = top * call.temper.rate + tail
                settle_odd(
                    call, out, i, j, row, call.x.step[2], n, group.labels[k], top, is_nan, &place, &group.losses[k], &lse,
                    partial,
                )
                put(at(&out.nll, 0, i, j), call.real.size, group.losses[k])
                put(at(&out.lse, 0, i, j), call.real.size, lse)
                one.data = row
                put_places(call, out, &one, i, j, n, 1, &group.labels[k], &place)
            start += size


cdef void score_tile(
    const Call *call, const Columns *x, Py_ssize_t n, int width, const int64_t *labels, Rows *rows, int64_t *best,
    bint *is_nan
) noexcept nogil:
    """The losses of the rows of one tile, their maxima and where these are, and how far logsumexp lies above them."""
    cdef int lane
    call.real.find_peaks(x, n, width, rows)
    memcpy(best, rows.labels, width * sizeof(int64_t))
    for lane in range(width):
        if labels[lane] >= 0:
            rows.labels[lane] = labels[lane]
    call.real.scan_columns(x, n, width, rows, call.temper)
    find_tails(rows, width, call.temper.rate)
    exact_tails(call, x, n, width, 1.0, 1.0, rows)
    for lane in range(width):
        is_nan[lane] = rows.s[lane] != rows.s[lane] or rows.x[lane] != rows.x[lane]


cdef void score_few(
    const Call *call, const Columns *x, Py_ssize_t n, int width, const int64_t *labels, Rows *rows, int64_t *best,
    bint *is_nan
) noexcept nogil:
    """The same of few classes: what logsumexp lies above the maximum is what a row loses whose label has that.  Losses found twice, in
    lanes, take less time than that in float64, row by row."""
    cdef bint others = False
    cdef int lane
    call.real.find_peaks(x, n, width, rows)
    memcpy(best, rows.labels, width * sizeof(int64_t))
    call.real.find_losses(x, n, width, rows, call.temper)
    memcpy(rows.tail, rows.loss, width * sizeof(double))
    for lane in range(width):
        is_nan[lane] = rows.tail[lane] != rows.tail[lane]
        others |= (labels[lane] >= 0) & (labels[lane] != best[lane])
        rows.labels[lane] = labels[lane] if labels[lane] >= 0 else best[lane]
    if others:
        call.real.find_losses(x, n, width, rows, call.temper)
    chosen(x.data, x.class_step, x.lane_step, x.kind, best, width, rows.top)
    if call.real == &ARITHMETICS[CAPPED_FLOATS]:
        for lane in range(width):
            rows.top[lane] = call.real.logit(rows.top[lane], call.temper)


cdef void score_column_blocks(
    Call *call, const Scores *out, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last
) noexcept nogil:
    """Scores of blocks of tiles."""
    cdef Py_ssize_t n = call.x.length[1], inner = call.x.length[2], tiles = (inner + LANES - 1) // LANES, b, q, i, start
    cdef Columns x
    cdef Rows rows
    cdef int64_t best[64]
    cdef int64_t labels[64]
    cdef bint is_nan[64]
    cdef bint odd
    cdef double lses[64]
    cdef double entropies[64]
    cdef double *partial
    cdef int lane, width
    for b in range(first, last):
        partial = call.partials + 4 * b
        start_block(partial)
        for q in range(b * block, smaller((b + 1) * block, call.x.length[0] * tiles)):
            i = q // tiles
            start = (q - i * tiles) * LANES
            width = <int>smaller(LANES, inner - start)
            x = columns_of(&call.x, i, start)
            find_labels(
                at(&call.target, 0, i, start), call.target.step[2], call.target.kind, n, call.ignore_index, width, labels
            )
            if n <= SCORED_TWICE:
                score_few(call, &x, n, width, labels, &rows, best, is_nan)
            else:
                score_tile(call, &x, n, width, labels, &rows, best, is_nan)
            odd = False
            for lane in range(width):
                lses[lane] = rows.top[lane] * call.temper.rate + rows.tail[lane]
                odd |= is_nan[lane] | (labels[lane] < 0) | (not fabs(rows.top[lane]) < INFINITY)
            for lane in range(width if odd else 0):
                settle_odd(
                    call, out, i, start + lane, x.data + lane * x.lane_step, x.class_step, n, labels[lane], rows.top[lane],
                    is_nan[lane], &best[lane], &rows.loss[lane], &lses[lane], partial,
                )
            put_all(at(&out.nll, 0, i, start), out.nll.step[2], call.real.size, rows.loss, width)
            put_all(at(&out.lse, 0, i, start), out.lse.step[2], call.real.size, lses, width)
            put_places(call, out, &x, i, start, n, width, labels, best)
            if out.entropy.data != NULL:
                call.real.entropy_columns(&x, <int>n, width, best, entropies)
                put_all(at(&out.entropy, 0, i, start), out.entropy.step[2], call.real.size, entropies, width)


# --- tiles of classes --------------------------------------------------------------------------------------------------

# Columns of a row's state.
cdef enum:
    TOP = 0
    S = 1
    G = 2
    OWN = 3
    SHARE = 4
    MASS = 5
    STATE = 6


cdef struct Tile:
    const Arithmetic *real
    Operand x  # logits, in the type computed in
    Operand y
    Operand out
    Py_ssize_t start
    Py_ssize_t width
    const char *bias
    const double *w
    const int64_t *labels
    bint mixed
    double keep
    double spread
    double *state


cdef inline double based(double s, double g, double base) noexcept nogil:
    """s exp(g) relative to exp(base); of nothing, nothing."""
    return s * exp_of(g - base) if s != 0.0 else 0.0


cdef void merge(double *state, double s, double g, double m) noexcept nogil:
    """Take up a tile, of which m is the largest logit and s exp(g) the sum over its others, into a row's state."""
    cdef double low = m if m < state[TOP] else state[TOP]  # the one of the two largest that joins the sum
    cdef double base = g
    if state[S] != 0.0 and state[G] > base:
        base = state[G]
    if low > -INFINITY and low > base:
        base = low
    state[S] = based(state[S], state[G], base) + based(s, g, base) + based(1.0 if low > -INFINITY else 0.0, low, base)
    state[G] = base
    if m > state[TOP]:
        if fabs(state[TOP]) < INFINITY:
            state[SHARE] += state[MASS] * (m - state[TOP])
        state[TOP] = m


cdef Py_ssize_t own_class(const Tile *tile, Py_ssize_t r) noexcept nogil:
    """The row's label within the tile, or -1."""
    if tile.labels == NULL or tile.labels[r] < tile.start or tile.labels[r] >= tile.start + tile.width:
        return -1
    return tile.labels[r] - tile.start


cdef void reduce_row(const Tile *tile, Py_ssize_t r) noexcept nogil:
    """Take up a row's part of a tile into its state."""
    cdef char *row = at(&tile.x, 0, r, 0)
    cdef double *state = tile.state + STATE * r
    cdef double top, s, g, most, share, mass, base
    cdef Py_ssize_t own, left_out
    if tile.bias != NULL:
        tile.real.add(row, tile.bias, tile.width)
    top = tile.real.peak_of(row, tile.real.kind, tile.width, &left_out)
    if fabs(top) < INFINITY:
        tile.real.scan(row, tile.real.kind, tile.width, left_out, top, &s, &g, &most, UNTEMPERED)
    else:  # nothing to be summed up, or NaN
        g = 0.0
        s = 0.0 if infinite_sum(row, tile.real.size, tile.real.kind, tile.width, top) == -INFINITY else NAN
    merge(state, s, g, top)
    own = own_class(tile, r)
    if own >= 0:
        state[OWN] = element(row + own * tile.real.size, tile.real.kind)
    if tile.mixed:
        base = top if fabs(top) < INFINITY else 0.0
        tile.real.mix(
            row, tile.real.kind, tile.width, at(&tile.y, 0, r, 0) if tile.y.data != NULL else NULL, tile.y.step[2],
            tile.y.kind, tile.w, base, tile.keep, tile.spread, &share, &mass, UNTEMPERED,
        )
        if fabs(state[TOP]) < INFINITY:
            share += mass * (state[TOP] - base)
        state[SHARE] += share
        state[MASS] += mass


cdef void slope_row(
    const Tile *tile, Py_ssize_t r, double tail, double share, double own_part, double scale
) noexcept nogil:
    """The derivative of a row's loss with respect to a tile of its logits."""
    cdef char *row = at(&tile.x, 0, r, 0)
    cdef char *slopes = at(&tile.out, 0, r, 0)
    cdef const double *state = tile.state + STATE * r
    cdef double mass = state[MASS], top = state[TOP], total = total_of_row(state[S], state[G], top, top, 1.0), v, p, slope
    cdef Py_ssize_t own, c
    if tile.labels != NULL and tile.labels[r] < 0:
        for c in range(tile.width):
            put(slopes + c * tile.real.size, tile.real.size, 0.0)
        return
    if tile.bias != NULL:
        tile.real.add(row, tile.bias, tile.width)
    tile.real.fill(
        row, tile.real.kind, tile.width, top, total, scale * (share + mass), tile.mixed,
        at(&tile.y, 0, r, 0) if tile.y.data != NULL else NULL, tile.y.step[2], tile.y.kind, tile.w, scale, tile.keep,
        tile.spread, slopes, UNTEMPERED,
    )
    own = own_class(tile, r)
    if own < 0:
        return
    v = element(row + own * tile.real.size, tile.real.kind)
    if v == top:
        slope = slope_at_target(state[S], state[G], v, top, total, share, mass, own_part, 1.0)
    else:  # its softmax is at most a half: nothing cancels
        p = exp_of(v - top) / total
        slope = target_slope(1.0 - p, p, share, mass, own_part)
    put(slopes + own * tile.real.size, tile.real.size, scale * slope)


# --- as threads call them --------------------------------------------------------------------------------------------


cdef struct TileTask:
    Tile *tile
    Py_ssize_t block
    const double *tails
    const double *shares
    const double *owns
    double scale


cdef void reduce_task(void *task, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef TileTask *t = <TileTask *>task
    cdef Py_ssize_t r
    for r in range(first * t.block, smaller(last * t.block, t.tile.x.length[1])):
        reduce_row(t.tile, r)


cdef void slope_task(void *task, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    cdef TileTask *t = <TileTask *>task
    cdef Py_ssize_t r
    for r in range(first * t.block, smaller(last * t.block, t.tile.x.length[1])):
        slope_row(t.tile, r, t.tails[r], t.shares[r], t.owns[r], t.scale)


# --- as Python calls them --------------------------------------------------------------------------------------------


cdef const char *data_of(object array) except? NULL:
    """Where a contiguous array begins; NULL for None."""
    if array is None:
        return NULL
    return <const char *>cnp.PyArray_DATA(<cnp.ndarray?>array)


@cython.final
cdef class TileKernels:
    """The kernels that reduce rows, one tile of classes at a time."""

    cdef const Arithmetic *real

    def __cinit__(self, bint wide):
        self.real = &ARITHMETICS[wide]

    cdef int take_tile(
        self, Tile *tile, x, Py_ssize_t start, Py_ssize_t width, bias, labels, y, w, double keep, spread, state, out
    ) except -1:
        tile.real = self.real
        take(&tile.x, x)
        take(&tile.y, y)
        take(&tile.out, out)
        tile.start, tile.width = start, width
        tile.bias, tile.labels = data_of(bias), <const int64_t *>data_of(labels)
        tile.w = <const double *>data_of(w)
        tile.mixed = spread is not None
        tile.keep, tile.spread = keep, spread if tile.mixed else 0.0
        tile.state = sums_of(state)
        return 0

    def reduce_tile(
        self, x, Py_ssize_t start, Py_ssize_t width, bias, labels, y, w, double keep, spread, Py_ssize_t block,
        Py_ssize_t first, Py_ssize_t last, state,
    ):
        """Take up a tile of logits, and their bias, into the rows' states."""
        cdef Tile tile
        cdef TileTask task = TileTask(&tile, block, NULL, NULL, NULL, 0.0)
        self.take_tile(&tile, x, start, width, bias, labels, y, w, keep, spread, state, None)
        divide(reduce_task, &task, first, last)

    def slope_tile(
        self, x, Py_ssize_t start, Py_ssize_t width, bias, labels, y, w, double keep, spread, Py_ssize_t block,
        Py_ssize_t first, Py_ssize_t last, state, tails, shares, owns, double scale, out,
    ):
        """Derivatives of the rows' losses with respect to a tile of logits."""
        cdef Tile tile
        cdef TileTask task = TileTask(&tile, block, sums_of(tails), sums_of(shares), sums_of(owns), scale)
        self.take_tile(&tile, x, start, width, bias, labels, y, w, keep, spread, state, out)
        divide(slope_task, &task, first, last)
