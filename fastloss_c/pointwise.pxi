"""Kernels of the pointwise losses.

Operands are staged by chunks of up to SPAN elements: contiguous ones are read where they lie, all others are brought into
scratch first.  So a loss is two loops over contiguous arrays, whatever came in.  Rows shorter than half a chunk share one.
Which elements share a chunk, and so the order of every sum, depends on the shape alone.
"""

cdef enum:
    TOTAL = 1
    EACH = 2
    SLOPE = 4


cdef union Numbers:  # of the type computed in
    float single[4]
    double wide[4]


cdef struct Job:
    const Arithmetic *real
    const Formula *formula
    Operand operand[3]  # x, y, z
    Operand w
    Numbers parameters
    Py_ssize_t middle  # rows of the second axis
    Py_ssize_t size  # elements of a row
    int what
    bint exactly  # whether sums are taken in float64 alone
    char *out


cdef struct Sums:
    double values[16]
    double weights[16]


cdef struct Scratch:  # room for the padding of sums
    double operand[3][1024]
    double values[1024 + 64]
    double weights[1024 + 64]


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


cdef void run_chunk(
    const Job *job, Py_ssize_t row, Py_ssize_t n_rows, Py_ssize_t start, Py_ssize_t n, Sums *sums, Scratch *scratch
) noexcept nogil:
    """Everything that is wanted of n elements, from `start`, of each of n_rows rows; n * n_rows is at most SPAN."""
    cdef const void *operands[3]
    cdef const Operand *operand
    cdef Py_ssize_t i = row // job.middle, j = row % job.middle, k, size = n * n_rows
    cdef double *w = NULL
    cdef char *out
    for k in range(3):
        operand = &job.operand[k]
        operands[k] = NULL
        if operand.data == NULL:
            continue
        operands[k] = scratch.operand[k]
        if n_rows == 1:
            operands[k] = job.real.staged(
                at(operand, i, j, start), operand.step[2], operand.kind, n, scratch.operand[k]
            )
        else:
            stage_rows(job, operand, row, n_rows, start, n, <char *>scratch.operand[k])
    if job.w.data != NULL:
        w = scratch.weights
        for k in range(n_rows):
            copied_double(
                at(&job.w, (row + k) // job.middle, (row + k) % job.middle, start), job.w.step[2], job.w.kind, n, w + k * n
            )
    if job.what & TOTAL:
        if w == NULL and not job.exactly:
            job.real.summed(
                job.formula, operands[0], operands[1], operands[2], &job.parameters, size, sums.values
            )
        else:
            job.real.looped(
                job.formula.values, operands[0], operands[1], operands[2], &job.parameters, size, scratch.values
            )
            job.real.add_weighted(scratch.values, w, size, sums.values, sums.weights)
    out = job.out + (row * job.size + start) * job.real.size
    if job.what & EACH:
        job.real.looped(job.formula.values, operands[0], operands[1], operands[2], &job.parameters, size, out)
    elif job.what & SLOPE:
        job.real.looped(job.formula.slopes, operands[0], operands[1], operands[2], &job.parameters, size, out)
    if w != NULL and job.what & (EACH | SLOPE):
        job.real.weigh(out, w, size)


cdef void run_rows(
    const Job *job, Py_ssize_t first, Py_ssize_t last, Py_ssize_t start, Py_ssize_t stop, Sums *sums, Scratch *scratch
) noexcept nogil:
    """Elements [start, stop) of rows [first, last)."""
    cdef Py_ssize_t row = first, at_once, k
    at_once = SPAN // (stop - start) if stop > start else 1
    if at_once > 1:
        while row < last:
            run_chunk(job, row, smaller(at_once, last - row), start, stop - start, sums, scratch)
            row += at_once
        return
    for row in range(first, last):
        k = start
        while k < stop:
            run_chunk(job, row, 1, k, smaller(SPAN, stop - k), sums, scratch)
            k += SPAN


cdef void run_block(
    Job *job, Py_ssize_t first, Py_ssize_t last, Py_ssize_t start, Py_ssize_t stop, double *partial
) noexcept nogil:
    """As `run_rows`, and the sums of weight * loss and of weights in `partial`, if that is wanted."""
    cdef Sums sums
    cdef Scratch scratch
    cdef int wanted = job.what
    cdef int k
    for k in range(16):
        sums.values[k] = sums.weights[k] = 0.0
    run_rows(job, first, last, start, stop, &sums, &scratch)
    if not wanted & TOTAL:
        return
    partial[0] = folded_double(sums.values)
    partial[1] = folded_double(sums.weights) if job.w.data != NULL else <double>((last - first) * (stop - start))
    if job.w.data == NULL and not fabs(partial[0]) < INFINITY:
        # sums in the type computed in may have overflowed where those in float64 do not
        for k in range(16):
            sums.values[k] = 0.0
        job.exactly, job.what = True, TOTAL
        run_rows(job, first, last, start, stop, &sums, &scratch)
        job.exactly, job.what = False, wanted
        partial[0] = folded_double(sums.values)


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
        self.job.real, self.job.formula, self.job.exactly, self.job.out = &ARITHMETICS[wide], formula, False, NULL
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
            store(job, job.formula.parameters, scale)
        if out is not None:
            job.out = <char *>cnp.PyArray_DATA(<cnp.ndarray?>out)
        return 0

    def run(self, tuple operands, double scale, out, Py_ssize_t first, Py_ssize_t last, partials):
        """Blocks [first, last): sums to `partials`, losses or slopes to `out`."""
        cdef Job job
        cdef double *sums = NULL if partials is None else sums_of(partials)
        cdef Division division = Division(&job, self.schedule, self.outer, self.block, sums)
        self.start(&job, operands, scale, out)
        divide(divided, &division, first, last)

    def once(self, tuple operands, double scale, out):
        """The only block: its sums of weight * loss and of weights, as floats."""
        cdef Job job
        cdef double partial[2]
        cdef Division division = Division(&job, self.schedule, self.outer, self.block, &partial[0])
        partial[0] = partial[1] = 0.0
        self.start(&job, operands, scale, out)
        with nogil:
            divided(&division, 0, 1)
        return partial[0], partial[1]


cdef int store(Job *job, int k, double value) except -1:
    """A parameter in the type that is computed in."""
    if job.real.size == 8:
        job.parameters.wide[k] = value
    else:
        job.parameters.single[k] = <float>value
    return 0


cdef void add_lanes(
    const Job *job, Py_ssize_t i, Py_ssize_t first, Py_ssize_t last, double *total, double *weights
) noexcept nogil:
    """Sums over positions [first, last) of the middle axis."""
    cdef Scratch scratch
    cdef const void *operands[3]
    cdef const Operand *operand
    cdef double *w
    cdef Py_ssize_t j, k, start, n
    for k in range(job.size):
        total[k] = weights[k] = 0.0
    for j in range(first, last):
        start = 0
        while start < job.size:
            n = smaller(SPAN, job.size - start)
            for k in range(3):
                operand = &job.operand[k]
                operands[k] = NULL
                if operand.data != NULL:
                    operands[k] = job.real.staged(
                        at(operand, i, j, start), operand.step[2], operand.kind, n, scratch.operand[k]
                    )
            w = NULL
            if job.w.data != NULL:
                w = scratch.weights
                copied_double(at(&job.w, i, j, start), job.w.step[2], job.w.kind, n, w)
            job.real.looped(job.formula.values, operands[0], operands[1], operands[2], &job.parameters, n, scratch.values)
            job.real.add_each(scratch.values, w, n, total + start, weights + start)
            start += n
