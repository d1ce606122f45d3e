"""Kernels of the pointwise losses.

Operands are staged by chunks of up to SPAN elements: contiguous ones are read where they lie, all others are brought into
scratch first.  So a loss is two loops over contiguous arrays, whatever came in.  Rows shorter than half a chunk share one.
Which elements share a chunk, and so the order of every sum, depends on the shape alone.

What float32 can't hold on the way is computed again in float64: an element where its result is not finite, a block of a sum where that is
not.  An element of weight 0 is taken out, whatever it is.
"""

from libc.string cimport memcpy, memset

cdef extern from "inner.h" nogil:
    bint all_finite_float(const float *v, Py_ssize_t n) noexcept
    bint all_finite_double(const double *v, Py_ssize_t n) noexcept
    void replace_float(const double *wide, Py_ssize_t n, float *v) noexcept
    void replaced_double(const float *v, Py_ssize_t n, double *wide) noexcept


cdef extern from "machine.h":
    bint GOES_ON(Py_ssize_t i, int k) noexcept nogil


cdef enum:
    TOTAL = 1
    EACH = 2
    SLOPE = 4

cdef enum:
    FEW = 128  # rows whose sums are taken one after the other


cdef union Numbers:  # of the type computed in
    float single[8]  # up to seven parameters, and what slopes are multiplied by
    double wide[8]


cdef struct Job:
    const Arithmetic *real
    const Formula *formula
    Operand operand[3]  # x, y, z
    Operand w
    Numbers parameters
    double scale  # what slopes are multiplied by
    Py_ssize_t middle  # rows of the second axis
    Py_ssize_t size  # elements of a row
    int what
    char *out
    bint *suspect  # set where a loss is not finite


cdef struct Sums:
    double values[16]
    double weights[16]
    double total[2]  # of what came before, and the rounding errors of that
    double total_weight[2]
    Py_ssize_t chunks


cdef struct Scratch:  # room for the padding of sums
    double operand[3][1024]
    double values[1024 + 64]
    double weights[1024 + 64]
    float losses[1024]


cdef bint is_packed(const Job *job, const Operand *operand, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t n) noexcept nogil:
    """Whether n_rows rows of n elements follow one another, so that they may be read as one."""
    return n_rows == 1 or (
        operand.step[1] == n * operand.step[2] and row // job.middle == (row + n_rows - 1) // job.middle
    )


cdef void stage_rows(
    const Job *job, const Operand *operand, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t start, Py_ssize_t n, char *out
) noexcept nogil:
    """n elements of each of n_rows rows, one row after the other."""
    cdef Py_ssize_t k
    for k in range(n_rows):
        job.real.copied(
            at(operand, (row + k) // job.middle, (row + k) % job.middle, start), operand.step[2], operand.kind, n,
            out + k * n * job.real.size,
        )


cdef void stage(
    const Job *job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t start, Py_ssize_t n, Scratch *scratch, const void **operands
) noexcept nogil:
    """The operands' n elements of each of n_rows rows, contiguous and in the type computed in; NULL for absent ones."""
    cdef const Operand *operand
    cdef int k
    for k in range(3):
        operand = &job.operand[k]
        operands[k] = NULL
        if operand.data == NULL:
            continue
        operands[k] = scratch.operand[k]
        if is_packed(job, operand, row, n_rows, n):
            operands[k] = job.real.staged(
                at(operand, row // job.middle, row % job.middle, start), operand.step[2], operand.kind, n * n_rows,
                scratch.operand[k],
            )
        else:
            stage_rows(job, operand, row, n_rows, start, n, <char *>scratch.operand[k])


cdef double *stage_weights(
    const Job *job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t start, Py_ssize_t n, Scratch *scratch
) noexcept nogil:
    """Their weights in float64, or NULL."""
    cdef Py_ssize_t k
    if job.w.data == NULL:
        return NULL
    for k in range(n_rows):
        if job.w.step[2] == SIZE_OF(job.w.kind):
            ask_ahead(at(&job.w, (row + k) // job.middle, (row + k) % job.middle, start), n * job.w.step[2])
        copied_double(
            at(&job.w, (row + k) // job.middle, (row + k) % job.middle, start), job.w.step[2], job.w.kind, n,
            scratch.weights + k * n,
        )
    return scratch.weights


cdef bint run_loop(const Job *job, Loop loop, const void **operands, Py_ssize_t n, void *out) noexcept nogil:
    """Whether all results are finite."""
    return job.real.looped(loop, operands[0], operands[1], operands[2], &job.parameters, n, out)


cdef void widen(const Job *job, Job *wide) noexcept nogil:
    """A job in float32 as one in float64."""
    cdef int k
    wide[0] = job[0]
    wide.real = &ARITHMETICS[1]
    wide.formula = &ARITHMETICS[1].formulas[job.formula - job.real.formulas]
    for k in range(7):
        wide.parameters.wide[k] = job.parameters.single[k]
    if job.what & SLOPE:
        wide.parameters.wide[job.formula.parameters] = job.scale


cdef void compute_wide(
    const Job *job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t start, Py_ssize_t n, bint slopes, Scratch *scratch
) noexcept nogil:
    """Losses or slopes of a job in float32, computed in float64, to scratch.values; the weights stay there."""
    cdef Job wide
    cdef const void *operands[3]
    widen(job, &wide)
    stage(&wide, row, n_rows, start, n, scratch, operands)
    run_loop(&wide, wide.formula.slopes if slopes else wide.formula.values, operands, n * n_rows, scratch.values)


cdef void run_chunk(
    const Job *job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t start, Py_ssize_t n, Sums *sums, Scratch *scratch
) noexcept nogil:
    """Everything that is wanted of n elements, from `start`, of each of n_rows rows; n * n_rows is at most SPAN."""
    cdef const void *operands[3]
    cdef Py_ssize_t size = n * n_rows
    cdef double *w = stage_weights(job, row, n_rows, start, n, scratch)
    cdef char *out
    cdef bint finite
    stage(job, row, n_rows, start, n, scratch, operands)
    if job.what & TOTAL:
        if w == NULL:
            job.real.summed(
                job.formula, operands[0], operands[1], operands[2], &job.parameters, size, sums.values
            )
        else:
            run_loop(job, job.formula.values, operands, size, scratch.values)
            job.real.add_weighted(scratch.values, w, size, sums.values, sums.weights)
    if not job.what & (EACH | SLOPE):
        return
    out = job.out + (row * job.size + start) * job.real.size
    finite = run_loop(job, job.formula.slopes if job.what & SLOPE else job.formula.values, operands, size, out)
    if w != NULL:
        job.real.weigh(out, w, size)
        finite = all_finite_float(<float *>out, size) if job.real.size == 4 else all_finite_double(<double *>out, size)
    if not finite:
        job.suspect[0] = True
        if job.real.size == 8:
            return
        compute_wide(job, row, n_rows, start, n, job.what & SLOPE, scratch)
        if w != NULL:
            ARITHMETICS[1].weigh(scratch.values, w, size)
        replace_float(scratch.values, size, <float *>out)


cdef void take_over(double *sums, double *total) noexcept nogil:
    """Sums in lanes go to a compensated total (Neumaier 1974) and are 0 again."""
    cdef double value = folded_double(sums), larger = total[0] + value
    cdef int k
    if fabs(total[0]) >= fabs(value):
        total[1] += (total[0] - larger) + value
    else:
        total[1] += (value - larger) + total[0]
    total[0] = larger
    for k in range(16):
        sums[k] = 0.0


cdef double total_of(const double *sums, const double *total) noexcept nogil:
    """What was taken over, and what has come since."""
    cdef double value = folded_double(sums)
    value = value + total[1] + total[0]
    return value if fabs(value) < INFINITY else folded_double(sums) + total[0]  # the compensation of infinities is NaN


cdef void count_chunk(Sums *sums) noexcept nogil:
    """After so many chunks lanes begin anew, or in a long row their rounding errors would add up."""
    sums.chunks += 1
    if sums.chunks % 8 == 0:
        take_over(sums.values, sums.total)
        take_over(sums.weights, sums.total_weight)


cdef void run_rows(
    const Job *job, Py_ssize_t first, Py_ssize_t last, Py_ssize_t start, Py_ssize_t stop, Sums *sums, Scratch *scratch
) noexcept nogil:
    """Elements [start, stop) of rows [first, last)."""
    cdef Py_ssize_t row = first, at_once, k
    memset(sums, 0, sizeof(Sums))
    at_once = SPAN // (stop - start) if stop > start else 1
    if at_once > 1:
        while row < last:
            run_chunk(job, row, smaller(at_once, last - row), start, stop - start, sums, scratch)
            count_chunk(sums)
            row += at_once
        return
    for row in range(first, last):
        k = start
        while k < stop and GOES_ON(k - start, 20):
            run_chunk(job, row, 1, k, smaller(SPAN, stop - k), sums, scratch)
            count_chunk(sums)
            k += SPAN


cdef void run_block(
    Job *job, Py_ssize_t first, Py_ssize_t last, Py_ssize_t start, Py_ssize_t stop, double *partial
) noexcept nogil:
    """As `run_rows`, and the sums of weight * loss and of weights in `partial`, if that is wanted."""
    cdef Sums sums
    cdef Scratch scratch
    cdef Job wide
    run_rows(job, first, last, start, stop, &sums, &scratch)
    if not job.what & TOTAL:
        return
    partial[0] = total_of(sums.values, sums.total)
    partial[1] = <double>((last - first) * (stop - start))
    if job.w.data != NULL:
        partial[1] = total_of(sums.weights, sums.total_weight)
    if job.real.size == 4 and not fabs(partial[0]) < INFINITY:
        # losses or their sums may have overflowed where those in float64 do not
        widen(job, &wide)
        wide.what = TOTAL
        run_rows(&wide, first, last, start, stop, &sums, &scratch)
        partial[0] = total_of(sums.values, sums.total)


cdef void run_each_row(Job *job, Py_ssize_t first, Py_ssize_t last, double *partials) noexcept nogil:
    """The sums of each of the rows [first, last), which have at most SPAN // 2 elements, several at a time."""
    cdef Scratch scratch
    cdef const void *operands[3]
    cdef double sums[2][16]
    cdef double *w
    cdef Py_ssize_t row = first, n = job.size, n_rows, k
    while row < last:
        n_rows = smaller(SPAN // n, last - row)
        w = stage_weights(job, row, n_rows, 0, n, &scratch)
        stage(job, row, n_rows, 0, n, &scratch, operands)
        run_loop(job, job.formula.values, operands, n * n_rows, scratch.values)
        if w == NULL:
            job.real.sum_rows(scratch.values, n, n_rows, partials + 2 * row)
        for k in range(n_rows - 1, -1, -1):  # the last one first, as weighted rows are padded over their successors
            if w == NULL:
                partials[2 * (row + k) + 1] = <double>n
            else:
                memset(sums, 0, sizeof(sums))
                job.real.add_weighted(<char *>scratch.values + k * n * job.real.size, w + k * n, n, sums[0], sums[1])
                partials[2 * (row + k)], partials[2 * (row + k) + 1] = folded_double(sums[0]), folded_double(sums[1])
            if job.real.size == 4 and not fabs(partials[2 * (row + k)]) < INFINITY:
                run_block(job, row + k, row + k + 1, 0, n, partials + 2 * (row + k))
        row += n_rows


cdef enum Schedule:
    FLAT  # one long axis, cut into blocks
    BY_ROWS  # rows of any strides, so many per block
    BY_LANES  # sums over the middle axis


cdef struct Division:  # of a job into blocks
    Job *job
    Schedule schedule
    Py_ssize_t outer
    Py_ssize_t block
    double *partials


cdef void divided(void *division, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Blocks [first, last) of a job, as any of several threads may compute them."""
    cdef Division d = (<Division *>division)[0]
    cdef Job job = d.job[0]  # a copy, as blocks write to it
    cdef Py_ssize_t b, n_rows = d.outer * job.middle
    if d.schedule == BY_ROWS and d.block == 1 and job.what == TOTAL and 0 < job.size <= SPAN // 2:
        run_each_row(&job, first, last, d.partials)
        return
    for b in range(first, last):
        if d.schedule == FLAT:
            run_block(&job, 0, 1, b * d.block, smaller((b + 1) * d.block, job.size), d.partials + 2 * b)
        elif d.schedule == BY_ROWS:
            run_block(&job, b * d.block, smaller((b + 1) * d.block, n_rows), 0, job.size, d.partials + 2 * b)
        else:
            add_lanes(
                &job, b % d.outer, (b // d.outer) * d.block, smaller((b // d.outer + 1) * d.block, job.middle),
                d.partials + (b // d.outer * 2 * d.outer + b % d.outer) * job.size,
                d.partials + ((b // d.outer * 2 + 1) * d.outer + b % d.outer) * job.size,
            )


@cython.final
cdef class ElementKernel:
    """A kernel of one loss for operands of known shape and strides, which computes in float32 or float64.

    `backends` describes the arguments.
    """

    cdef Job job
    cdef Schedule schedule
    cdef Py_ssize_t outer, block

    def __cinit__(self, str name, bint wide, str op, tuple p, tuple shape, tuple layouts, Py_ssize_t block):
        cdef const Formula *formula = ARITHMETICS[wide].formulas
        cdef str schedule, purpose
        cdef int k
        wanted = name.encode()
        while formula.name != NULL and formula.name != wanted:
            formula += 1
        if formula.name == NULL:
            raise KeyError(name)
        if len(p) != formula.parameters:
            raise ValueError("expected as many parameters as the loss has")
        schedule, purpose = op.split("_")
        self.schedule = {"flat": FLAT, "rows": BY_ROWS, "lanes": BY_LANES}[schedule]
        self.job.what = {"total": TOTAL, "each": EACH, "slope": TOTAL | SLOPE}[purpose]
        self.job.real, self.job.formula, self.job.out = &ARITHMETICS[wide], formula, NULL
        for k in range(formula.parameters):
            store(&self.job, k, p[k])
        for k in range(3):
            lay_out(&self.job.operand[k], layouts[k])
            if k < formula.operands and self.job.operand[k].kind == ABSENT:
                raise ValueError("expected as many operands as the loss has")
        lay_out(&self.job.w, layouts[3])
        self.outer, self.job.middle, self.job.size = shape
        self.block = block

    cdef int start(self, Job *job, tuple operands, double scale, out) except -1:
        """A job for these arrays."""
        cdef int k
        job[0] = self.job
        for k in range(3):
            point(&job.operand[k], operands[k])
        point(&job.w, operands[3])
        if job.what & SLOPE:
            store(job, job.formula.parameters, scale if job.real.size == 8 else usable(scale))
            job.scale = scale
        if out is not None:
            job.out = <char *>cnp.PyArray_DATA(<cnp.ndarray?>out)
        return 0

    def run(self, tuple operands, double scale, out, Py_ssize_t first, Py_ssize_t last, partials):
        """Blocks [first, last): sums to `partials`, losses or slopes to `out`; whether one of these may be infinite or NaN."""
        cdef Job job
        cdef bint suspect = False
        cdef double *sums = NULL if partials is None else sums_of(partials)
        cdef Division division = Division(&job, self.schedule, self.outer, self.block, sums)
        self.start(&job, operands, scale, out)
        job.suspect = &suspect
        divide(divided, &division, first, last)
        return suspect

    def sums(self, tuple operands, double scale, out, Py_ssize_t n_blocks):
        """All blocks: their sums of weight * loss and of weights, as floats."""
        cdef Job job
        cdef double few[2 * FEW_BLOCKS]
        cdef double *partials = few
        cdef bytearray many
        cdef bint suspect
        cdef Py_ssize_t b
        cdef Division division
        if n_blocks > FEW_BLOCKS:
            many = bytearray(2 * n_blocks * sizeof(double))
            partials = <double *><char *>many
        memset(partials, 0, 2 * n_blocks * sizeof(double))
        division = Division(&job, self.schedule, self.outer, self.block, partials)
        self.start(&job, operands, scale, out)
        job.suspect = &suspect
        divide(divided, &division, 0, n_blocks)
        for b in range(1, n_blocks):
            partials[0] += partials[2 * b]
            partials[1] += partials[2 * b + 1]
        return partials[0], partials[1]


cdef double usable(double scale) noexcept:
    """NaN, so that all slopes are computed again in float64, if the factor has too few digits in float32 (or none)."""
    cdef double size = fabs(scale)
    return scale if 2.0**-80 <= size <= 2.0**80 or size == 0.0 else NAN


cdef int store(Job *job, int k, double value) except -1:
    """A parameter in the type that is computed in."""
    if job.real.size == 8:
        job.parameters.wide[k] = value
    else:
        job.parameters.single[k] = <float>value
    return 0


cdef void add_span(
    const Job *job, Py_ssize_t row, Py_ssize_t start, Py_ssize_t n, bint carefully, Scratch *scratch, double *total,
    double *weights,
) noexcept nogil:
    """n losses of a row, each added to a sum of its own; `carefully` those that are not finite in float32 are computed in float64."""
    cdef const void *operands[3]
    cdef double *w = stage_weights(job, row, 1, start, n, scratch)
    cdef float *losses = scratch.losses
    stage(job, row, 1, start, n, scratch, operands)
    if not carefully:
        run_loop(job, job.formula.values, operands, n, scratch.values)
        job.real.add_each(scratch.values, w, n, total, weights)
        return
    run_loop(job, job.formula.values, operands, n, losses)
    compute_wide(job, row, 1, start, n, False, scratch)
    replaced_double(losses, n, scratch.values)
    ARITHMETICS[1].add_each(scratch.values, w, n, total, weights)


cdef struct Several:  # losses of several rows, or sums
    double losses[4 * 1024]


cdef void add_unweighted(
    const Job *job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t start, Py_ssize_t n, Scratch *scratch, Several *several,
    double *total,
) noexcept nogil:
    """n sums over rows, four of which are added at a time.  Which four does not depend on how many are computed at a time."""
    cdef const void *operands[3]
    cdef Py_ssize_t at_once = smaller(4 * SPAN // n // 4 * 4, n_rows), size, k
    cdef bint packed = n == job.size
    for k in range(3):
        if job.operand[k].data != NULL:
            packed &= is_packed(job, &job.operand[k], row, n_rows, n) and job.operand[k].kind == job.real.kind
            packed &= job.operand[k].step[2] == job.real.size
    while n_rows:
        at_once = smaller(at_once, n_rows)
        if packed:
            stage(job, row, at_once, start, n, scratch, operands)
            run_loop(job, job.formula.values, operands, n * at_once, several.losses)
        else:
            for k in range(at_once):
                stage(job, row + k, 1, start, n, scratch, operands)
                run_loop(job, job.formula.values, operands, n, <char *>several.losses + k * n * job.real.size)
        job.real.add_rows(several.losses, n, at_once, total)
        row += at_once
        n_rows -= at_once


cdef void add_few(
    const Job *job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t start, Py_ssize_t n, Scratch *scratch, Several *several,
    double *total, double *weights,
) noexcept nogil:
    """n sums over so few rows that their rounding errors do not matter; `total` and `weights` are 0 before."""
    cdef Py_ssize_t k
    if job.w.data == NULL:
        add_unweighted(job, row, n_rows, start, n, scratch, several, total)
    else:
        for k in range(n_rows):
            add_span(job, row + k, start, n, False, scratch, total, weights)
    if job.real.size == 4 and not all_finite_double(total, n):
        memset(several, 0, sizeof(Several))
        for k in range(n_rows):
            add_span(job, row + k, start, n, True, scratch, several.losses, several.losses + SPAN)
        for k in range(n):  # no sum depends on its neighbours
            if not fabs(total[k]) < INFINITY:
                total[k] = several.losses[k]


cdef void add_lanes(
    const Job *job, Py_ssize_t i, Py_ssize_t first, Py_ssize_t last, double *total, double *weights
) noexcept nogil:
    """Sums over positions [first, last) of the middle axis; those of weights if there are any."""
    cdef Scratch scratch
    cdef Several several
    cdef double part[2][1024]
    cdef Py_ssize_t start = 0, j, k, n
    while start < job.size and GOES_ON(start, 20):
        n = smaller(SPAN, job.size - start)
        memset(total + start, 0, n * sizeof(double))
        if job.w.data != NULL:
            memset(weights + start, 0, n * sizeof(double))
        add_few(job, i * job.middle + first, smaller(FEW, last - first), start, n, &scratch, &several, total + start, weights + start)
        j = first + FEW
        while j < last:
            memset(part, 0, sizeof(part))
            add_few(job, i * job.middle + j, smaller(FEW, last - j), start, n, &scratch, &several, part[0], part[1])
            for k in range(n):
                total[start + k] += part[0][k]
            if job.w.data != NULL:
                for k in range(n):
                    weights[start + k] += part[1][k]
            j += FEW
        start += n
