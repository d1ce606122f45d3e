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
    float single[8]  # up to seven parameters, and what slopes are multiplied by
    double wide[8]


cdef struct Job:
    const Arithmetic *real
    const Formula *formula
    Operand operand[3]  # x, y, z
    Operand w
    Numbers parameters
    Numbers constants[4]  # operands that are numbers: one in each
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


@cython.final
cdef class Pointwise:
    """The kernels of one loss, computing in float32 or float64; `backends.numba_cpu.pointwise` describes their arguments."""

    cdef const Formula *formula
    cdef const Arithmetic *real

    def __cinit__(self, str name, bint wide):
        self.real = &ARITHMETICS[wide]
        self.formula = self.real.formulas
        wanted = name.encode()
        while self.formula.name != NULL and self.formula.name != wanted:
            self.formula += 1
        if self.formula.name == NULL:
            raise KeyError(name)

    cdef int start(self, Job *job, object x, object y, object z, object w, tuple p, int what) except -1:
        cdef int k = 0
        job.real, job.formula, job.what, job.exactly, job.out = self.real, self.formula, what, False, NULL
        if len(p) != self.formula.parameters:
            raise ValueError("expected as many parameters as the loss has")
        for value in p:
            self.store(&job.parameters, k, value)
            k += 1
        self.take(job, 0, &job.operand[0], x)
        self.take(job, 1, &job.operand[1], y)
        self.take(job, 2, &job.operand[2], z)
        self.take(job, 3, &job.w, w)
        for k in range(self.formula.operands):
            if job.operand[k].data == NULL:
                raise ValueError("expected as many operands as the loss has")
        return 0

    cdef int store(self, Numbers *numbers, int k, double value) except -1:
        if self.real.size == 8:
            numbers.wide[k] = value
        else:
            numbers.single[k] = <float>value
        return 0

    cdef int take(self, Job *job, int k, Operand *operand, value) except -1:
        """An array; or a number, which stands for an array that is the same everywhere."""
        if value is None or isinstance(value, cnp.ndarray):
            return take(operand, value)
        take(operand, None)
        self.store(&job.constants[k], 0, value)
        operand.data, operand.kind = <char *>&job.constants[k], self.real.kind
        return 0

    cdef int flat(self, Job *job, Py_ssize_t size, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last, double *partials) except -1:
        cdef Py_ssize_t b
        job.middle, job.size = 1, size
        with nogil:
            for b in range(first, last):
                run_block(job, 0, 1, b * block, smaller((b + 1) * block, size), partials + 2 * b)
        return 0

    cdef int rows(self, Job *job, tuple shape, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last, double *partials) except -1:
        cdef Py_ssize_t b, n_rows
        job.middle, job.size = shape[1], shape[2]
        n_rows = <Py_ssize_t>shape[0] * job.middle
        with nogil:
            for b in range(first, last):
                run_block(job, b * block, smaller((b + 1) * block, n_rows), 0, job.size, partials + 2 * b)
        return 0

    def flat_total(self, x, y, z, w, tuple p, Py_ssize_t size, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last, partials):
        """Sums over blocks [first, last) of contiguous operands."""
        cdef Job job
        self.start(&job, x, y, z, w, p, TOTAL)
        self.flat(&job, size, block, first, last, sums_of(partials))

    def flat_small(self, cnp.ndarray x, cnp.ndarray y, tuple p):
        """The sum of one block as a float: what `flat_total` computes, with fewer arguments to unpack."""
        cdef Job job
        cdef double partial[2]
        cdef Py_ssize_t size = cnp.PyArray_DIM(x, 0)
        self.start(&job, x, y, None, None, p, TOTAL)
        self.flat(&job, size, size, 0, 1, partial)
        return partial[0]

    def flat_each(self, x, y, z, w, tuple p, Py_ssize_t size, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last, out):
        """out[i] = weight * loss over blocks [first, last)."""
        cdef Job job
        self.start(&job, x, y, z, w, p, EACH)
        job.out = <char *>cnp.PyArray_DATA(<cnp.ndarray?>out)
        self.flat(&job, size, block, first, last, NULL)

    def flat_slope(
        self, x, y, z, w, tuple p, double scale, Py_ssize_t size, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last, gradient,
        partials,
    ):
        """Sums as `flat_total`, and the gradient while the operands are in the first-level cache."""
        cdef Job job
        self.start(&job, x, y, z, w, p, TOTAL | SLOPE)
        self.store(&job.parameters, self.formula.parameters, scale)
        job.out = <char *>cnp.PyArray_DATA(<cnp.ndarray?>gradient)
        self.flat(&job, size, block, first, last, sums_of(partials))

    def rows_total(self, x, y, z, w, tuple p, tuple shape, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last, partials):
        """Sums over blocks of `block` rows of operands of any strides; a row is x[i, j, :], rows in C order."""
        cdef Job job
        self.start(&job, x, y, z, w, p, TOTAL)
        self.rows(&job, shape, block, first, last, sums_of(partials))

    def rows_each(self, x, y, z, w, tuple p, tuple shape, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last, out):
        """out[i, j, k] = weight * loss over blocks of rows."""
        cdef Job job
        self.start(&job, x, y, z, w, p, EACH)
        job.out = <char *>cnp.PyArray_DATA(<cnp.ndarray?>out)
        self.rows(&job, shape, block, first, last, NULL)

    def rows_slope(
        self, x, y, z, w, tuple p, double scale, tuple shape, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last, gradient,
        partials,
    ):
        """Sums as `rows_total`, and the gradient, of the broadcast shape."""
        cdef Job job
        self.start(&job, x, y, z, w, p, TOTAL | SLOPE)
        self.store(&job.parameters, self.formula.parameters, scale)
        job.out = <char *>cnp.PyArray_DATA(<cnp.ndarray?>gradient)
        self.rows(&job, shape, block, first, last, sums_of(partials))

    def lanes_total(self, x, y, z, w, tuple p, tuple shape, Py_ssize_t block, Py_ssize_t first, Py_ssize_t last, partials):
        """Sums over the middle axis of (outer, n, inner); partials is (blocks along the middle axis, 2, outer, inner)."""
        cdef Job job
        cdef Py_ssize_t outer = shape[0], n = shape[1], inner = shape[2], b
        cdef double *sums = sums_of(partials)
        self.start(&job, x, y, z, w, p, TOTAL)
        job.middle, job.size = n, inner
        with nogil:
            for b in range(first, last):
                add_lanes(
                    &job, b % outer, (b // outer) * block, smaller((b // outer + 1) * block, n),
                    sums + (b // outer * 2 * outer + b % outer) * inner,
                    sums + ((b // outer * 2 + 1) * outer + b % outer) * inner,
                )


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
