"""Kernels of the softmax family, computing in float32 or float64; `backends.numba_cpu` describes their arguments.

Row kernels take (outer, middle, n_classes) with the classes contiguous, column kernels (outer, n_classes, inner) with any strides,
LANES rows at a time; gather_index reads one element per row.
"""

cdef enum:
    SIDE_BY_SIDE = 16  # rows whose losses are computed together
    ALONG = 256  # classes from which on the largest of each row is looked for by itself, where they are contiguous
    LONG_ROW = 8192  # rows that are needed a second time after that, and would have left the cache

# Columns of partial sums.
cdef enum:
    LOSS = 0
    WEIGHT = 1
    COUNT = 2
    FIRST_BAD = 3


cdef inline void start_block(double *partial) noexcept nogil:
    partial[LOSS] = partial[WEIGHT] = partial[COUNT] = 0.0
    partial[FIRST_BAD] = INFINITY


cdef inline void note_bad(double *partial, Py_ssize_t position) noexcept nogil:
    if position < partial[FIRST_BAD]:
        partial[FIRST_BAD] = position


cdef inline void note_beyond(double *partial) noexcept nogil:
    """Some probabilities may lie outside [0, 1]."""
    partial[FIRST_BAD] = -1.0


cdef inline void count(double *partial, double loss, double weight, Py_ssize_t n_rows) noexcept nogil:
    partial[LOSS] += loss
    partial[WEIGHT] += weight
    partial[COUNT] += n_rows


# What a call is made of.  Operands that are absent have no data.
cdef struct Call:
    const Arithmetic *real
    Temper temper
    Operand x
    Operand target
    Operand w  # float64, contiguous
    Operand reference  # other logits that x is compared with
    Operand known  # float64: of each row the factor of softmax in its gradient, and the slope at its label; both times the scale
    Operand out
    Operand gradient
    int64_t ignore_index
    double keep
    double spread
    bint mixed  # whether there is a smoothed part, or class probabilities
    double mass  # the weight of the smoothed part, with class indices
    double scale
    bint event  # whether labels say if what is predicted came true
    double *partials


cdef inline double weight_of(const Call *call, int64_t label) noexcept nogil:
    return element(call.w.data + label * call.w.step[2], call.w.kind) if call.w.data != NULL else 1.0


cdef inline double weighed(const Call *call, const int64_t *labels, int n, double *losses) noexcept nogil:
    """Multiply losses by the weights of their labels, all of which are classes; the sum of these."""
    return weigh_losses(labels, n, call.w.data, call.w.step[2], call.w.kind, losses) if call.w.data != NULL else n


cdef inline double logit_at(const Call *call, const char *p) noexcept nogil:
    """An element of x, as rows are computed from it."""
    return call.real.logit(element(p, call.x.kind), call.temper)


cdef void find_mass(Call *call, Py_ssize_t n_classes) noexcept nogil:
    """What the smoothed part of each row weighs."""
    cdef double weights = n_classes
    if call.mixed and call.w.data != NULL:
        weights = sum_of(<const double *>call.w.data, n_classes)
    call.mass = call.spread * weights if call.mixed and call.spread != 0.0 else 0.0


cdef inline void put_loss(const Call *call, Py_ssize_t i, Py_ssize_t j, double loss) noexcept nogil:
    if call.out.data != NULL:
        put(at(&call.out, 0, i, j), SIZE_OF(call.out.kind), loss)


cdef extern from *:
    """
    #define LOW 0x1p-24
    #define LIFT 0x1p96
    """
    const double LOW
    const double LIFT


cdef inline bint is_low(const Call *call, double factor) noexcept nogil:
    """Whether float32 may have few digits of what terms, which are relative to a large power of two, are multiplied by."""
    return call.real.size == 4 and 0.0 < fabs(factor) < LOW


cdef inline double known_slope(const Call *call, Py_ssize_t part, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    """What a row's softmax is multiplied by (part 0), and its slope at the target (part 1)."""
    return call.scale * (<const double *>at(&call.known, part, i, j))[0]


cdef inline double lifted(const Call *call, double factor) noexcept nogil:
    return factor * LIFT if is_low(call, factor) else factor


cdef inline bint lift_factors(const Call *call, Py_ssize_t i, Py_ssize_t start, int width, double *factors) noexcept nogil:
    """Known factors of so many rows, lifted where low; whether any is."""
    cdef bint some = False
    cdef double factor
    cdef int lane
    for lane in range(width):
        factor = known_slope(call, 0, i, start + lane)
        some |= is_low(call, factor)
        factors[lane] = lifted(call, factor)
    return some


cdef inline double steepness_of(const Call *call, const char *p) noexcept nogil:
    """How fast logits, as rows are computed from them, rise with an element of x, but for a temperature."""
    return call.real.steepness(element(p, call.x.kind), call.temper) if call.real.steepness != NULL else 1.0


cdef inline void lower(const Call *call, Py_ssize_t i, Py_ssize_t j, char *slopes, Py_ssize_t step, Py_ssize_t n) noexcept nogil:
    """Take back that a row's factor was lifted, if it was."""
    cdef Py_ssize_t c
    if is_low(call, known_slope(call, 0, i, j)):
        for c in range(n):
            (<float *>(slopes + c * step))[0] *= <float>(1.0 / LIFT)


# --- rows ------------------------------------------------------------------------------------------------------------


cdef struct Group:  # of rows
    int64_t labels[16]
    double s[16]
    double g[16]
    double x[16]
    double most[16]  # the largest of the others
    double losses[16]
    double tops[16]
    double tails[16]
    double totals[16]
    double shares[16]  # of the label in what is lost, times its weight
    double own[16]  # its smoothed part
    double slopes[16]


cdef void index_row(Call *call, Group *group, int k, Py_ssize_t i, Py_ssize_t j, double *partial) noexcept nogil:
    """What a row adds to its block's sums, and its gradient."""
    cdef Py_ssize_t n = call.x.length[2], c
    cdef const char *row = at(&call.x, i, j, 0)
    cdef char *slopes
    cdef const double *w = <const double *>call.w.data
    cdef double v, loss, top = group.tops[k], tail = group.tails[k], smooth, slope, steepness, factor
    cdef int64_t label = group.labels[k]
    if label < 0:
        if label == -1:
            note_bad(partial, i * call.x.length[1] + j)
        put_loss(call, i, j, 0.0 if label == -2 else NAN)
        if call.gradient.data != NULL and label == -2:
            slopes = at(&call.gradient, i, j, 0)
            for c in range(n):
                put(slopes + c * call.gradient.step[2], call.real.size, 0.0)
        return
    v = weight_of(call, label)
    loss = scaled(scaled(call.keep, v), group.losses[k])
    if call.mixed:
        if w != NULL and wants_rest(group.x[k], top, tail, 2.0):
            tail = tail_without_top(call, row, n)
        call.real.mix(row, call.x.kind, n, NULL, 0, ABSENT, w, top, call.keep, call.spread, &smooth, NULL, call.temper)
        loss += mixed_loss(smooth, call.mass, tail)
    count(partial, loss, v, 1)
    put_loss(call, i, j, loss)
    if call.gradient.data != NULL:
        slopes = at(&call.gradient, i, j, 0)
        steepness = steepness_of(call, row + label * call.x.step[2])
        if call.known.data != NULL:
            factor, slope = lifted(call, known_slope(call, 0, i, j)), known_slope(call, 1, i, j)
        else:
            factor = call.scale * (group.shares[k] + call.mass)
            slope = call.scale * group.slopes[k]
        call.real.fill(
            row, call.x.kind, n, top, group.totals[k], factor, call.mixed, NULL, 0, ABSENT, w, call.scale, call.keep,
            call.spread, slopes, call.temper,
        )
        if call.known.data != NULL:
            lower(call, i, j, slopes, call.gradient.step[2], n)
        put(slopes + label * call.gradient.step[2], call.real.size, slope * steepness)


cdef void finish_group(const Call *call, Group *group) noexcept nogil:
    """What gradients and smoothed parts of the rows of a group are made of, for all of them at once."""
    cdef double rate = call.temper.rate, v
    cdef int k
    for k in range(SIDE_BY_SIDE):
        group.tops[k] = group.x[k] if group.x[k] > group.most[k] else group.most[k]
    if call.mixed:
        find_row_tails(group.s, group.g, group.x, group.losses, group.tops, SIDE_BY_SIDE, rate, group.tails)
    if call.gradient.data == NULL:
        return
    find_row_totals(group.s, group.g, group.x, group.tops, SIDE_BY_SIDE, rate, group.totals)
    if call.known.data != NULL:
        return
    for k in range(SIDE_BY_SIDE):
        v = weight_of(call, group.labels[k]) if group.labels[k] >= 0 else 0.0
        group.shares[k] = call.keep * v
        group.own[k] = call.spread * v if call.mass != 0.0 else 0.0
    find_target_slopes(
        group.s, group.g, group.x, group.tops, group.totals, group.shares, call.mass, group.own, SIDE_BY_SIDE, rate,
        group.slopes,
    )


cdef void index_row_blocks(Call *call, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Cross-entropy with class indices over blocks of rows."""
    cdef Py_ssize_t middle = call.x.length[1], n = call.x.length[2], n_rows = call.x.length[0] * middle
    cdef Py_ssize_t b, r, start, end, i, j, at_once
    cdef Group group
    cdef const char *row
    cdef double *partial
    cdef int k, size
    find_mass(call, n)
    at_once = 1 if n >= LONG_ROW and (call.mixed or call.gradient.data != NULL) else SIDE_BY_SIDE
    for k in range(SIDE_BY_SIDE):
        group.s[k] = group.g[k] = group.x[k] = group.most[k] = group.tails[k] = 0.0
        group.labels[k] = -1
    for b in range(first, last):
        partial = call.partials + 4 * b
        start_block(partial)
        end = smaller((b + 1) * block, n_rows)
        start = b * block
        while start < end:
            size = <int>smaller(at_once, end - start)
            for k in range(size):
                i, j = (start + k) // middle, (start + k) % middle
                group.labels[k] = label_at(at(&call.target, 0, i, j), call.target.kind, n, call.ignore_index)
                if group.labels[k] >= 0:
                    row = at(&call.x, i, j, 0)
                    call.real.scan(
                        row, call.x.kind, n, group.labels[k], NAN, &group.s[k], &group.g[k], &group.most[k], call.temper
                    )
                    group.x[k] = logit_at(call, row + group.labels[k] * call.x.step[2])
            call.real.likelihoods(group.s, group.g, group.x, group.losses, SIDE_BY_SIDE, call.temper.rate)
            if call.mixed or call.gradient.data != NULL:
                finish_group(call, &group)
            for k in range(size):
                r = start + k
                index_row(call, &group, k, r // middle, r % middle, partial)
            start += size


cdef inline bint wants_rest(double x, double top, double tail, double limit) noexcept nogil:
    """Whether roundings of a sum with the maximum in it, as x was the one left out, show in what comes on top of the maximum."""
    return x < top and tail < limit


cdef double tail_without_top(const Call *call, const char *row, Py_ssize_t n) noexcept nogil:
    """logsumexp less the maximum, which is left out of the sum."""
    cdef double top, tail, s, g, most
    cdef Py_ssize_t left_out
    top = call.real.logit(call.real.peak_of(row, call.x.kind, n, &left_out), call.temper)
    call.real.scan(row, call.x.kind, n, left_out, top, &s, &g, &most, call.temper)
    call.real.likelihoods(&s, &g, &top, &tail, 1, call.temper.rate)
    return tail


cdef void exact_tails(
    const Call *call, const Columns *x, Py_ssize_t n, int width, double limit, double most, Rows *rows
) noexcept nogil:
    """The same for the rows of one tile that want it and whose logsumexp is no larger than `most`."""
    cdef Rows others
    cdef bint wanted[64]
    cdef bint some = False
    cdef int lane
    for lane in range(width):
        wanted[lane] = wants_rest(rows.x[lane], rows.top[lane], rows.tail[lane], limit)
        wanted[lane] &= fabs(rows.top[lane] * call.temper.rate + rows.tail[lane]) < most
        some |= wanted[lane]
    if not some:
        return
    call.real.find_peaks(x, n, width, &others)
    call.real.scan_columns(x, n, width, &others, call.temper)
    find_tails(&others, width, call.temper.rate)
    for lane in range(width):
        if wanted[lane]:
            rows.tail[lane] = others.tail[lane]


cdef inline Py_ssize_t rows_at_once(const Call *call, Py_ssize_t n) noexcept nogil:
    """How many rows stay in the first-level cache beside what is made of them."""
    cdef Py_ssize_t fit = 16384 // (n * call.real.size + 1)
    return smaller(TOGETHER, fit if fit > 1 else 1)


cdef void dense_row_blocks(Call *call, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Cross-entropy with class probabilities over blocks of rows."""
    cdef Py_ssize_t middle = call.x.length[1], n = call.x.length[2], n_rows = call.x.length[0] * middle, b, i, j
    cdef const char *y
    cdef const double *w = <const double *>call.w.data
    cdef double *partial
    cdef Py_ssize_t start, end, at_once = rows_at_once(call, n)
    cdef const char *rows[16]
    cdef double loss, mass
    cdef int k, size
    cdef Rows found
    for b in range(first, last):
        partial = call.partials + 4 * b
        start_block(partial)
        start, end = b * block, smaller((b + 1) * block, n_rows)
        while start < end:
            size = <int>smaller(at_once, end - start)
            for k in range(size):
                rows[k] = at(&call.x, (start + k) // middle, (start + k) % middle, 0)
            call.real.normalise_rows(rows, call.x.kind, n, size, NULL, NULL, NULL, &found, call.temper)
            for k in range(size):
                i, j = (start + k) // middle, (start + k) % middle
                y = at(&call.target, i, j, 0)
                call.real.mix(
                    rows[k], call.x.kind, n, y, call.target.step[2], call.target.kind, w, found.top[k], call.keep,
                    call.spread, &loss, &mass, call.temper,
                )
                loss = mixed_loss(loss, mass, found.tail[k])
                count(partial, loss, 1.0, 1)
                put_loss(call, i, j, loss)
                if call.gradient.data != NULL:
                    call.real.fill(
                        rows[k], call.x.kind, n, found.top[k], found.total[k], call.scale * mass, True, y,
                        call.target.step[2], call.target.kind, w, call.scale, call.keep, call.spread,
                        at(&call.gradient, i, j, 0), call.temper,
                    )
            start += size


cdef void normalise_row_blocks(
    Call *call, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last, const Operand *log_softmax, const Operand *softmax
) noexcept nogil:
    """logsumexp, log-softmax and softmax of blocks of rows: those that are there."""
    cdef Py_ssize_t middle = call.x.length[1], n = call.x.length[2], end = smaller(last * block, call.x.length[0] * middle)
    cdef Py_ssize_t start = first * block, at_once = rows_at_once(call, n), i, j
    cdef const char *rows[16]
    cdef char *logs[16]
    cdef char *shares[16]
    cdef double lse[16]
    cdef int k, size
    while start < end:
        size = <int>smaller(at_once, end - start)
        for k in range(size):
            i, j = (start + k) // middle, (start + k) % middle
            rows[k] = at(&call.x, i, j, 0)
            logs[k] = at(log_softmax, i, j, 0)
            shares[k] = at(softmax, i, j, 0)
        call.real.normalise_rows(
            rows, call.x.kind, n, size, lse if call.out.data != NULL else NULL,
            logs if log_softmax.data != NULL else NULL, shares if softmax.data != NULL else NULL, NULL, call.temper,
        )
        for k in range(size):
            put_loss(call, (start + k) // middle, (start + k) % middle, lse[k])
        start += size


# --- columns ---------------------------------------------------------------------------------------------------------


cdef inline Columns columns_of(const Operand *operand, Py_ssize_t i, Py_ssize_t start) noexcept nogil:
    """The rows from `start`, of which each lane takes one."""
    cdef Columns columns
    columns.data = at(operand, i, 0, start)
    columns.class_step, columns.lane_step, columns.kind = operand.step[1], operand.step[2], operand.kind
    return columns


cdef inline bint is_mild(const Call *call) noexcept nogil:
    """Whether the smoothed part may be computed from the loss of the label: where that weighs enough, its error times the number of classes
    is small beside it."""
    return call.real.gaps_of_columns != NULL and call.w.data == NULL and call.keep >= 0.5 and call.spread != 0.0


cdef void settle_known(
    Call *call, Py_ssize_t i, Py_ssize_t start, int width, bint some_low, const int64_t *labels
) noexcept nogil:
    """After a tile was filled with softmax times known factors: what was lifted, if any, is lowered, and slopes are put at labels."""
    cdef Py_ssize_t n = call.x.length[1], j
    cdef double slope
    cdef int lane
    for lane in range(width):
        if labels[lane] >= 0:
            j = start + lane
            if some_low:
                lower(call, i, j, at(&call.gradient, i, 0, j), call.gradient.step[1], n)
            slope = known_slope(call, 1, i, j) * steepness_of(call, at(&call.x, i, labels[lane], j))
            put(at(&call.gradient, i, labels[lane], j), call.real.size, slope)


cdef void index_tile(
    Call *call, Py_ssize_t i, Py_ssize_t start, int width, Rows *rows, double *partial, double *sums
) noexcept nogil:
    """Cross-entropy with class indices of the rows of one tile; losses go to `sums`, in lanes."""
    cdef Columns x = columns_of(&call.x, i, start)
    cdef Py_ssize_t n = call.x.length[1]
    cdef bint finishing = call.mixed or call.gradient.data != NULL, missing, some_low = False
    cdef bint quick = call.mixed and is_mild(call)
    cdef double gaps[64]
    cdef double weights[64]
    cdef double same, at_label
    cdef bint once = call.gradient.data != NULL and (quick or not call.mixed)
    cdef const double *w = <const double *>call.w.data
    cdef double weight, loss, v, own
    cdef Py_ssize_t counted = 0
    cdef int lane
    missing = find_labels(
        at(&call.target, 0, i, start), call.target.step[2], call.target.kind, n, call.ignore_index, width, rows.labels
    )
    for lane in range(width, LANES):
        rows.labels[lane] = -1
    if quick:
        call.real.gaps_of_columns(&x, n, width, rows.labels, gaps)  # before slopes are written, maybe where the logits lie
    once = once and call.real.slope_columns != NULL and n <= KEPT
    if once:
        if call.known.data != NULL:
            some_low = lift_factors(call, i, start, width, rows.factor)
        elif call.w.data == NULL:
            for lane in range(width):
                rows.factor[lane] = call.scale * (call.keep + call.mass)
        else:
            for lane in range(width):
                v = weight_of(call, rows.labels[lane]) if rows.labels[lane] >= 0 else 0.0
                rows.factor[lane] = call.scale * (call.keep * v + call.mass)
        same = call.scale * call.spread if quick else 0.0
        at_label = call.scale * (call.mass - call.spread) if quick else 0.0
        call.real.slope_columns(
            &x, n, width, rows, same, at_label, at(&call.gradient, i, 0, start), call.gradient.step[1],
            call.gradient.step[2], call.temper
        )
        if call.known.data != NULL:
            settle_known(call, i, start, width, some_low, rows.labels)
        finishing = call.mixed
    elif call.gradient.data != NULL or call.mixed and not quick:
        call.real.scan_columns(&x, n, width, rows, call.temper)
    else:
        call.real.find_losses(&x, n, width, rows, call.temper)
    if quick:
        for lane in range(width):
            loss = rows.loss[lane]
            rows.smooth[lane] = call.spread * (n * loss + gaps[lane]) if loss < INFINITY else loss
    elif call.mixed:
        find_tails(rows, width, call.temper.rate)
    if finishing and call.gradient.data != NULL and not once:
        find_totals(rows, width, call.temper.rate)
    if call.mixed and not quick:
        for lane in range(LANES):
            rows.mass[lane] = call.mass
        if w != NULL:
            exact_tails(call, &x, n, width, 2.0, INFINITY, rows)
        call.real.mix_columns(&x, NULL, n, width, w, call.keep, call.spread, rows, call.temper)
    if not (missing or finishing):
        weight = weighed(call, rows.labels, width, rows.loss)
        add_losses(rows, width, sums)
        count(partial, 0.0, weight, width)
        if call.out.data != NULL:
            put_all(at(&call.out, 0, i, start), call.out.step[2], SIZE_OF(call.out.kind), rows.loss, width)
        return
    for lane in range(width):
        weights[lane] = 0.0
        if rows.labels[lane] < 0:
            if rows.labels[lane] == -1:
                note_bad(partial, i * call.x.length[2] + start + lane)
            put_loss(call, i, start + lane, 0.0 if rows.labels[lane] == -2 else NAN)
            continue
        v = weight_of(call, rows.labels[lane])
        loss = scaled(scaled(call.keep, v), rows.loss[lane])
        if call.mixed:
            loss += rows.smooth[lane]
        sums[lane % STRIP] += loss
        weights[lane] = v
        counted += 1
        put_loss(call, i, start + lane, loss)
        if finishing and call.gradient.data != NULL and not once:
            own = call.spread * v if call.mass != 0.0 else 0.0
            rows.factor[lane] = call.scale * (call.keep * v + call.mass)
            rows.slope[lane] = call.scale * slope_at_target(
                rows.s[lane], rows.g[lane], rows.x[lane], rows.top[lane], rows.total[lane], call.keep * v, call.mass, own,
                call.temper.rate,
            )
    count(partial, 0.0, sum_of_chosen(weights, width), counted)  # in the order in which losses alone are weighed
    if finishing and call.gradient.data != NULL and not once:
        if call.known.data != NULL:
            some_low = lift_factors(call, i, start, width, rows.factor)
        call.real.fill_columns(
            &x, NULL, n, width, w, call.mixed, 0.0, call.spread, call.scale, True, rows,
            at(&call.gradient, i, 0, start), call.gradient.step[1], call.gradient.step[2], call.temper,
        )
        if call.known.data != NULL:
            settle_known(call, i, start, width, some_low, rows.labels)


cdef void dense_tile(Call *call, Py_ssize_t i, Py_ssize_t start, int width, Rows *rows, double *partial) noexcept nogil:
    """Cross-entropy with class probabilities of the rows of one tile."""
    cdef Columns x = columns_of(&call.x, i, start), y = columns_of(&call.target, i, start)
    cdef Py_ssize_t n = call.x.length[1]
    cdef const double *w = <const double *>call.w.data
    cdef double loss_sum = 0.0
    cdef int lane
    normalise_tile(call, &x, width, rows, call.gradient.data != NULL)
    call.real.mix_columns(&x, &y, n, width, w, call.keep, call.spread, rows, call.temper)
    for lane in range(width):
        loss_sum += rows.smooth[lane]
        put_loss(call, i, start + lane, rows.smooth[lane])
        rows.factor[lane] = call.scale * rows.mass[lane]
    count(partial, loss_sum, width, width)
    if call.gradient.data != NULL:
        call.real.fill_columns(
            &x, &y, n, width, w, True, call.keep, call.spread, call.scale, False, rows,
            at(&call.gradient, i, 0, start), call.gradient.step[1], call.gradient.step[2], call.temper,
        )
        if n == 1:  # what cancels may leave a rounding
            for lane in range(width):
                put(at(&call.gradient, i, 0, start + lane), call.real.size, 0.0 * rows.total[lane])


cdef void normalise_tile(const Call *call, const Columns *x, int width, Rows *rows, bint with_totals) noexcept nogil:
    """The rows' maxima, logsumexp less these, and sums of exp(x - top) where they are wanted."""
    cdef Normal wanted
    if call.real.normalise_columns != NULL:
        wanted.lse, wanted.logs, wanted.shares, wanted.found = NULL, NULL, NULL, rows
        call.real.normalise_columns(x, call.x.length[1], width, &wanted, 0, 0, call.temper)
        return
    call.real.find_peaks(x, call.x.length[1], width, rows)
    call.real.scan_columns(x, call.x.length[1], width, rows, call.temper)
    find_tails(rows, width, call.temper.rate)
    if with_totals:
        find_totals_of_peaks(rows, width, call.temper.rate)


cdef void put_normalised(
    Call *call, Py_ssize_t i, Py_ssize_t start, int width, Rows *rows, const Operand *log_softmax, const Operand *softmax
) noexcept nogil:
    """logsumexp, log-softmax and softmax of the rows of one tile: those that are there."""
    cdef Columns x = columns_of(&call.x, i, start)
    cdef Py_ssize_t n = call.x.length[1]
    cdef const Operand *written
    cdef double top
    cdef int lane
    cdef Normal wanted
    cdef double lse[64]
    if n == 0:
        for lane in range(width):
            put_loss(call, i, start + lane, -INFINITY)
        return
    if call.real.normalise_columns != NULL and (log_softmax.data == NULL or softmax.data == NULL):
        wanted.lse = lse if call.out.data != NULL else NULL
        wanted.logs = at(log_softmax, i, 0, start)
        wanted.shares = at(softmax, i, 0, start)
        wanted.found = NULL
        written = log_softmax if softmax.data == NULL else softmax
        call.real.normalise_columns(&x, n, width, &wanted, written.step[1], written.step[2], call.temper)
        if call.out.data != NULL:
            put_all(at(&call.out, 0, i, start), call.out.step[2], SIZE_OF(call.out.kind), lse, width)
        return
    normalise_tile(call, &x, width, rows, softmax.data != NULL)
    for lane in range(width):
        top = rows.top[lane]
        lse[lane] = top * call.temper.rate + rows.tail[lane]
        if not fabs(top) < INFINITY:
            lse[lane] = infinite_sum(x.data + lane * x.lane_step, x.class_step, x.kind, n, top)
        rows.factor[lane] = 1.0
    if call.out.data != NULL:
        put_all(at(&call.out, 0, i, start), call.out.step[2], SIZE_OF(call.out.kind), lse, width)
    if softmax.data != NULL:
        call.real.fill_columns(
            &x, NULL, n, width, NULL, False, 0.0, 0.0, 1.0, False, rows, at(softmax, i, 0, start), softmax.step[1],
            softmax.step[2], call.temper,
        )
    if log_softmax.data != NULL:
        call.real.log_columns(
            &x, n, width, rows, at(log_softmax, i, 0, start), log_softmax.step[1], log_softmax.step[2], call.temper
        )


cdef enum Wanted:
    WITH_INDICES
    WITH_PROBABILITIES
    NORMALISED


cdef void column_blocks(
    Call *call, Wanted wanted, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last, const Operand *log_softmax,
    const Operand *softmax,
) noexcept nogil:
    """Blocks of tiles; a tile is up to LANES neighbours along the last axis."""
    cdef Py_ssize_t inner = call.x.length[2], tiles = (inner + LANES - 1) // LANES, b, q, i, start
    cdef Rows rows
    cdef double *partial = NULL
    cdef double sums[16]
    cdef int width
    find_mass(call, call.x.length[1])
    memset(sums, 0, sizeof(sums))
    for i in range(LANES):
        rows.factor[i] = rows.slope[i] = 0.0
    for b in range(first, last):
        if call.partials != NULL:
            partial = call.partials + 4 * b
            start_block(partial)
        for q in range(b * block, smaller((b + 1) * block, call.x.length[0] * tiles)):
            i = q // tiles
            start = (q - i * tiles) * LANES
            width = <int>smaller(LANES, inner - start)
            if wanted == WITH_INDICES:
                index_tile(call, i, start, width, &rows, partial, sums)
            elif wanted == WITH_PROBABILITIES:
                dense_tile(call, i, start, width, &rows, partial)
            else:
                put_normalised(call, i, start, width, &rows, log_softmax, softmax)
        if wanted == WITH_INDICES:
            partial[LOSS] += folded_double(sums)
            memset(sums, 0, sizeof(sums))


# --- one element per row ---------------------------------------------------------------------------------------------


cdef inline void put_slope(
    const Call *call, Py_ssize_t i, int64_t label, Py_ssize_t j, double weight, double slope
) noexcept nogil:
    put(at(&call.gradient, i, label, j), call.real.size, scaled(weight * call.scale, slope))


cdef void gather_some(
    Call *call, bint take_log, Py_ssize_t i, Py_ssize_t start, int width, const int64_t *labels, const double *values,
    double *partial
) noexcept nogil:
    """-x[target] or -log x[target] of some rows, weighted by class, of which some may have no label; and their gradient."""
    cdef double slope, v
    cdef double losses[512]
    cdef double weights[512]
    cdef int64_t label
    cdef Py_ssize_t j, counted = 0
    cdef int lane
    for lane in range(width):
        label, j = labels[lane], start + lane
        losses[lane] = weights[lane] = 0.0
        if label < 0:
            if label == -1:
                note_bad(partial, i * call.x.length[2] + j)
            put_loss(call, i, j, 0.0 if label == -2 else NAN)
            continue
        v = weight_of(call, label)
        losses_of_chosen(values + lane, 1, take_log, &losses[lane])
        losses[lane] = scaled(v, losses[lane])
        weights[lane] = v
        counted += 1
        put_loss(call, i, j, losses[lane])
        if call.gradient.data != NULL:
            slopes_of_chosen(values + lane, 1, take_log, &slope)
            put_slope(call, i, label, j, v, slope)
    # in the order in which losses alone are added up
    count(partial, sum_of_chosen(losses, width), sum_of_chosen(weights, width), counted)


cdef void gather_blocks(
    Call *call, bint take_log, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last
) noexcept nogil:
    """The same of blocks of rows, up to CHOSEN_AT_ONCE neighbours at a time; of probabilities, all are checked first,
    but not if there is a gradient, before which that has been done."""
    cdef Py_ssize_t n = call.x.length[1], inner = call.x.length[2], b, end, i, j, r
    cdef Columns x
    cdef bint beyond
    cdef int64_t labels[512]
    cdef double values[512]
    cdef double losses[512]
    cdef double slopes[512]
    cdef double weights
    cdef double *partial
    cdef bint missing
    cdef int width, lane
    for b in range(first, last):
        partial = call.partials + 4 * b
        start_block(partial)
        r, end = b * block, smaller((b + 1) * block, call.x.length[0] * inner)
        beyond = False
        while take_log and call.gradient.data == NULL and r < end:
            i = r // inner
            j = r - i * inner
            x = columns_of(&call.x, i, j)
            beyond |= rows_beyond(&x, n, smaller(inner - j, end - r))
            r += smaller(inner - j, end - r)
        r = b * block
        while r < end:
            i = r // inner
            j = r - i * inner
            width = <int>smaller(CHOSEN_AT_ONCE, smaller(inner - j, end - r))
            missing = find_labels(
                at(&call.target, 0, i, j), call.target.step[2], call.target.kind, n, call.ignore_index, width, labels
            )
            chosen(at(&call.x, i, 0, j), call.x.step[1], call.x.step[2], call.x.kind, labels, width, values)
            if call.gradient.data != NULL:
                clear_rows(
                    at(&call.gradient, i, 0, j), call.gradient.step[1], call.gradient.step[2], call.real.size, n, width
                )
            if missing:
                gather_some(call, take_log, i, j, width, labels, values, partial)
            else:
                losses_of_chosen(values, width, take_log, losses)
                weights = weighed(call, labels, width, losses)
                count(partial, sum_of_chosen(losses, width), weights, width)
                if call.out.data != NULL:
                    put_all(at(&call.out, 0, i, j), call.out.step[2], SIZE_OF(call.out.kind), losses, width)
                if call.gradient.data != NULL:
                    slopes_of_chosen(values, width, take_log, slopes)
                    for lane in range(width):
                        put_slope(call, i, labels[lane], j + lane, weight_of(call, labels[lane]), slopes[lane])
            r += width
        if beyond:
            note_beyond(partial)


# --- distances between predictions and what came true ----------------------------------------------------------------


cdef void distance_blocks(Call *call, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Squared distances of blocks of rows; of one class, which is an event, where that is what is wanted."""
    cdef Py_ssize_t n = call.x.length[1], inner = call.x.length[2], b, end, i, j, r, width
    cdef double *partial
    cdef int64_t labels[512]
    cdef Columns x
    cdef int beyond, missing, k
    cdef Py_ssize_t counted
    cdef double loss
    for b in range(first, last):
        partial = call.partials + 4 * b
        start_block(partial)
        r, end = b * block, smaller((b + 1) * block, call.x.length[0] * inner)
        beyond = 0
        while r < end:
            i = r // inner
            j = r - i * inner
            x = columns_of(&call.x, i, j)
            width = smaller(rows_of_probabilities(&x, n), smaller(inner - j, end - r))
            missing = find_labels(
                at(&call.target, 0, i, j), call.target.step[2], call.target.kind, 2 if call.event else n,
                call.ignore_index, width, labels,
            )
            counted = width
            if missing:
                for k in range(width):
                    counted -= labels[k] < 0
                    if labels[k] == -1:
                        note_bad(partial, r + k)
            if x.kind == FLOAT64:
                loss = distance_of_double(&x, n, <int>width, labels, missing, call.event, &beyond)
            else:
                loss = distance_of_float(&x, n, <int>width, labels, missing, call.event, &beyond)
            count(partial, loss, counted, counted)
            r += width
        if beyond:
            note_beyond(partial)


cdef void calibration_blocks(Call *call, Py_ssize_t bins, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Confidences, hits and rows in each bin, of blocks of rows of probabilities; the weights are the bins' upper edges."""
    cdef Py_ssize_t n = call.x.length[1], inner = call.x.length[2], b, end, i, j, r, at_bin, step
    cdef const double *edges = <const double *>call.w.data
    cdef double *partial
    cdef double *sums
    cdef const char *row
    cdef int64_t labels[64]
    cdef Rows found
    cdef Columns x
    cdef double confidence
    cdef int width, k
    cdef bint hit, beyond
    for b in range(first, last):
        partial = call.partials + (4 + 3 * bins) * b
        sums = partial + 4
        start_block(partial)
        memset(sums, 0, 3 * bins * sizeof(double))
        r, end = b * block, smaller((b + 1) * block, call.x.length[0] * inner)
        while r < end:
            i = r // inner
            j = r - i * inner
            x = columns_of(&call.x, i, j)
            width = <int>smaller(LANES, smaller(inner - j, end - r))
            find_labels(
                at(&call.target, 0, i, j), call.target.step[2], call.target.kind, 2 if call.event else n,
                call.ignore_index, width, labels,
            )
            beyond = rows_beyond(&x, n, width)
            if call.event:
                memset(found.labels, 0, sizeof(found.labels))
            elif n >= ALONG and call.x.step[1] == SIZE_OF(call.x.kind):
                for k in range(width):
                    call.real.peak_of(x.data + k * x.lane_step, x.kind, n, &step)
                    found.labels[k] = step
            else:
                call.real.find_peaks(&x, n, width, &found)
            for k in range(width):
                row = x.data + k * x.lane_step
                if beyond:  # NaN, which peaks leave out, may be among them
                    found.labels[k] = call.real.first_of_all(row, x.class_step, x.kind, n)
                if labels[k] < 0:
                    if labels[k] == -1:
                        note_bad(partial, r + k)
                    continue
                confidence = element(row + found.labels[k] * x.class_step, x.kind)
                hit = labels[k] == 1 if call.event else labels[k] == found.labels[k]
                at_bin = bin_of(confidence, edges, bins)
                sums[at_bin] += confidence
                sums[bins + at_bin] += hit
                sums[2 * bins + at_bin] += 1.0
            if beyond:
                note_beyond(partial)
            r += width
