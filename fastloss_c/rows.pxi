"""Kernels over rows of classes, as Python calls them."""

cdef enum RowOp:
    INDEX
    DENSE
    GATHER
    NORMALISE
    SCORE
    COMPARE
    DETAIL
    DISTANCE
    CALIBRATION


cdef struct RowTask:
    Call *call
    const Operand *outs
    RowOp op
    bint across
    bint take_log
    Py_ssize_t m
    Py_ssize_t block


include "turned.pxi"


cdef void row_blocks(void *task, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Blocks [first, last) of rows, as any of several threads may compute them."""
    if not (is_turned(<RowTask *>task) and turned_blocks(<RowTask *>task, first, last)):
        plain_blocks(<RowTask *>task, first, last)


cdef void plain_blocks(const RowTask *task, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """The same, by the kernels of rows as they lie."""
    cdef RowTask t = task[0]
    cdef Call *call = t.call
    cdef const Operand *outs = t.outs
    cdef Scores scores
    cdef Comparisons found
    if t.op == COMPARE:
        found.kl, found.same, found.nll, found.reference_nll, found.delta_p = outs[0], outs[1], outs[2], outs[3], outs[4]
        if t.across:
            compare_column_blocks(call, &found, t.block, first, last)
        else:
            compare_row_blocks(call, &found, t.block, first, last)
    elif t.op == SCORE:
        scores.nll, scores.lse, scores.best, scores.correct, scores.rank = outs[0], outs[1], outs[2], outs[3], outs[4]
        scores.entropy = outs[5]
        if t.across:
            score_column_blocks(call, &scores, t.block, first, last)
        else:
            score_row_blocks(call, &scores, t.block, first, last)
    elif t.op == DETAIL:
        detail_blocks(call, outs, t.across, t.m, t.block, first, last)
    elif t.op == CALIBRATION:
        calibration_blocks(call, t.m, t.block, first, last)
    elif t.op == DISTANCE:
        distance_blocks(call, t.block, first, last)
    elif t.op == GATHER:
        gather_blocks(call, t.take_log, t.block, first, last)
    elif t.op == INDEX and t.across:
        column_blocks(call, WITH_INDICES, t.block, first, last, NULL, NULL)
    elif t.op == INDEX:
        index_row_blocks(call, t.block, first, last)
    elif t.op == DENSE and t.across:
        column_blocks(call, WITH_PROBABILITIES, t.block, first, last, NULL, NULL)
    elif t.op == DENSE:
        dense_row_blocks(call, t.block, first, last)
    elif t.across:
        column_blocks(call, NORMALISED, t.block, first, last, &outs[1], &outs[2])
    else:
        normalise_row_blocks(call, t.block, first, last, &outs[1], &outs[2])


@cython.final
cdef class RowKernel:
    """A kernel of the softmax family for arrays of known shape and strides, which computes in float32 or float64.

    `backends` describes the arguments.
    """

    cdef Call call
    cdef Operand outs[6]
    cdef RowOp op
    cdef bint across  # whether lanes are rows, rather than classes of one row
    cdef bint take_log
    cdef Py_ssize_t m
    cdef Py_ssize_t block

    def __cinit__(
        self, bint wide, str op, bint across, tuple lengths, x, target, w, tuple outs, Py_ssize_t block, ignore_index=-1,
        double keep=1.0, spread=None, bint take_log=False, Py_ssize_t m=0, double temperature=1.0, double softcap=0.0,
    ):
        cdef int k
        cdef tuple rows = (1, lengths[0], lengths[2] if across else lengths[1])
        self.call.real = &ARITHMETICS[wide if temperature == 1.0 else TEMPERED_FLOATS]
        self.call.temper = temper_of(temperature)
        if softcap != 0.0:
            self.call.real = &ARITHMETICS[CAPPED_FLOATS]
            self.call.temper = capping(softcap, temperature, op != "normalise")
        self.op = {"index": INDEX, "known": INDEX, "dense": DENSE, "gather": GATHER, "normalise": NORMALISE, "score": SCORE,
                   "compare": COMPARE, "detail": DETAIL, "distance": DISTANCE, "event": DISTANCE, "calibration": CALIBRATION,
                   "event calibration": CALIBRATION}[op]
        self.call.event = op in ("event", "event calibration")
        self.across, self.take_log, self.m, self.block = across, take_log, m, block
        lay_out(&self.call.x, x, lengths)
        lay_out(&self.call.target, target)
        lay_out(&self.call.w, w if op not in ("compare", "known") else None)
        lay_out(&self.call.known, w if op == "known" else None)
        lay_out(&self.call.reference, w if self.op == COMPARE else None, lengths)
        lay_out(&self.call.out, None)
        lay_out(&self.call.gradient, None)
        for k in range(6):
            lay_out(&self.outs[k], outs[k] if k < len(outs) else None, rows)
        self.call.ignore_index = ignore_index
        self.call.keep, self.call.scale = keep, 1.0
        self.call.mixed = spread is not None
        self.call.spread = spread if self.call.mixed else 0.0
        self.call.partials = NULL

    cdef int start(self, Call *call, Operand *outs, x, target, w, tuple written, double scale) except -1:
        cdef int k
        call[0] = self.call
        call.scale = scale * call.temper.rate  # a slope of logits over the temperature is one of logits times that
        point(&call.x, x)
        point(&call.target, target)
        if self.call.known.kind != ABSENT:
            point(&call.known, w)
        else:
            point(&call.reference if self.op == COMPARE else &call.w, w)
        for k in range(6):
            outs[k] = self.outs[k]
        for k in range(len(written)):
            point(&outs[k], written[k])
        if self.op < SCORE:
            call.out = outs[0]
        if self.op < NORMALISE:
            call.gradient = outs[1]
        return 0

    def run(self, x, target, w, tuple outs, double scale, Py_ssize_t first, Py_ssize_t last, partials):
        """Blocks [first, last): sums to `partials`, results of rows and gradients to `outs`."""
        cdef Call call
        cdef Operand written[6]
        cdef RowTask task = RowTask(&call, &written[0], self.op, self.across, self.take_log, self.m, self.block)
        self.start(&call, written, x, target, w, outs, scale)
        if partials is not None:
            call.partials = sums_of(partials)
        divide(row_blocks, &task, first, last)

    def sums(self, x, target, w, tuple outs, double scale, Py_ssize_t n_blocks):
        """All blocks: loss, weight and count of their rows, and the first whose label is bad, or inf."""
        cdef Call call
        cdef Operand written[6]
        cdef double few[4 * FEW_BLOCKS]
        cdef RowTask task = RowTask(&call, &written[0], self.op, self.across, self.take_log, self.m, self.block)
        cdef double *partials = few
        cdef bytearray many
        cdef Py_ssize_t b
        if self.op == CALIBRATION:
            raise TypeError("bins have more sums than rows")
        if n_blocks > FEW_BLOCKS:
            many = bytearray(4 * n_blocks * sizeof(double))
            partials = <double *><char *>many
        for b in range(n_blocks):  # not all kernels have sums
            start_block(partials + 4 * b)
        self.start(&call, written, x, target, w, outs, scale)
        if self.op != NORMALISE:
            call.partials = partials
        divide(row_blocks, &task, 0, n_blocks)
        for b in range(1, n_blocks):
            partials[LOSS] += partials[4 * b + LOSS]
            partials[WEIGHT] += partials[4 * b + WEIGHT]
            partials[COUNT] += partials[4 * b + COUNT]
            partials[FIRST_BAD] = min(partials[FIRST_BAD], partials[4 * b + FIRST_BAD])
        return partials[LOSS], partials[WEIGHT], partials[COUNT], partials[FIRST_BAD]

    def weigh(self, target, w):
        """Weight and count of the labels that are not ignored, and the first row whose label is bad, or inf."""
        cdef Call call = self.call
        cdef double partial[4]
        cdef Py_ssize_t outer = call.x.length[0], inner = self.outs[0].length[2], i, j
        cdef Py_ssize_t n = call.x.length[1] if self.across else call.x.length[2]
        cdef int64_t labels[64]
        cdef int lane, width
        cdef bint missing
        point(&call.target, target)
        point(&call.w, w)
        start_block(partial)
        with nogil:
            for i in range(outer):
                j = 0
                while j < inner:
                    width = <int>smaller(LANES, inner - j)
                    missing = find_labels(
                        at(&call.target, 0, i, j), call.target.step[2], call.target.kind, n, call.ignore_index, width, labels
                    )
                    if not missing and call.w.data == NULL:
                        count(partial, 0.0, width, width)
                        width = 0
                    for lane in range(width):
                        if labels[lane] >= 0:
                            count(partial, 0.0, weight_of(&call, labels[lane]), 1)
                        elif labels[lane] == -1:
                            note_bad(partial, i * inner + j + lane)
                    j += LANES
        return partial[WEIGHT], partial[COUNT], partial[FIRST_BAD]
