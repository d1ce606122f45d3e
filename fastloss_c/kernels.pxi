"""What all kernels share: the inner loops' declarations, and arrays as they come from NumPy."""

cimport cython
from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t

cimport numpy as cnp

cnp.import_array()

cdef extern from "inner.h" nogil:
    enum:
        LANES, STRIP, KEPT, BLOCK, SPAN, AHEAD, TILED, TOGETHER, ABSENT, FLOAT16, BFLOAT16, FLOAT32, FLOAT64

    ctypedef struct Loop:  # a function, to be handed on
        pass

    ctypedef struct Formula:
        const char *name
        int operands
        int parameters
        Loop values
        Loop slopes

    ctypedef struct Temper:
        double value, rate

    ctypedef struct Columns:
        const char *data
        Py_ssize_t class_step, lane_step
        int kind

    ctypedef struct Rows:
        int64_t labels[64]
        double s[64]
        double g[64]
        double x[64]
        double top[64]
        double loss[64]
        double tail[64]
        double total[64]
        double smooth[64]
        double mass[64]
        double factor[64]
        double slope[64]

    ctypedef struct Normal:
        double *lse
        char *logs
        char *shares
        Rows *found

    ctypedef struct Side:
        const char *x
        Py_ssize_t step
        int kind
        double top, tail

    ctypedef struct Others:
        double s, g, most

    ctypedef struct Arithmetic:
        Py_ssize_t size
        int kind
        const Formula *formulas
        void (*copied)(const char *p, Py_ssize_t step, int kind, Py_ssize_t n, void *out) noexcept nogil
        const void *(*staged)(const char *p, Py_ssize_t step, int kind, Py_ssize_t n, void *scratch) noexcept nogil
        bint (*looped)(
            Loop loop, const void *x, const void *y, const void *z, const void *p, Py_ssize_t n, void *out) noexcept nogil
        void (*summed)(
            const Formula *formula, const void *x, const void *y, const void *z, const void *p, Py_ssize_t n,
            double *sums) noexcept nogil
        void (*add_weighted)(void *v, double *w, Py_ssize_t n, double *sums, double *weights) noexcept nogil
        void (*add_each)(const void *v, const double *w, Py_ssize_t n, double *sums, double *weights) noexcept nogil
        void (*sum_rows)(const void *v, Py_ssize_t n, Py_ssize_t n_rows, double *out) noexcept nogil
        void (*add_rows)(const void *v, Py_ssize_t n, Py_ssize_t n_rows, double *sums) noexcept nogil
        void (*weigh)(void *v, const double *w, Py_ssize_t n) noexcept nogil
        void (*likelihoods)(const double *s, const double *g, const double *x, double *losses, int n, double rate) noexcept nogil
        double (*top_of)(const char *x, int kind, Py_ssize_t n) noexcept nogil
        double (*peak_of)(const char *x, int kind, Py_ssize_t n, Py_ssize_t *position) noexcept nogil
        void (*scan)(
            const char *x, int kind, Py_ssize_t n, Py_ssize_t skip, double top, double *s, double *g,
            double *most, Temper temper) noexcept nogil
        void (*mix)(
            const char *x, int kind, Py_ssize_t n, const char *y, Py_ssize_t y_step, int y_kind, const double *w, double base,
            double keep, double spread, double *loss, double *mass, Temper temper) noexcept nogil
        void (*fill)(
            const char *x, int kind, Py_ssize_t n, double top, double total, double factor, int mixed, const char *y,
            Py_ssize_t y_step, int y_kind, const double *w, double scale, double keep, double spread, void *out,
            Temper temper) noexcept nogil
        void (*log_probabilities)(
            const char *x, int kind, Py_ssize_t n, double top, double tail, void *out, Temper temper) noexcept nogil
        void (*add)(void *x, const void *y, Py_ssize_t n) noexcept nogil
        Py_ssize_t (*first_of_all)(const char *x, Py_ssize_t step, int kind, Py_ssize_t n) noexcept nogil
        Py_ssize_t (*count_before)(
            const char *x, Py_ssize_t step, int kind, Py_ssize_t n, Py_ssize_t label, double level) noexcept nogil
        void (*detail)(
            const char *x, Py_ssize_t step, int kind, Py_ssize_t n, Py_ssize_t m, Py_ssize_t ahead, void *values,
            int64_t *places, double *state) noexcept nogil
        void (*detail_columns)(
            const Columns *x, int n, int width, Py_ssize_t m, char *values, Py_ssize_t values_step, char *places,
            Py_ssize_t places_step, char *state, Py_ssize_t state_step) noexcept nogil
        void (*entropy_columns)(
            const Columns *x, int n, int width, const int64_t *largest, double *entropies) noexcept nogil
        void (*turned)(
            const Columns *x, Py_ssize_t n_classes, int width, char *rows, Py_ssize_t row_step) noexcept nogil
        void (*turned_back)(
            const char *rows, Py_ssize_t row_step, Py_ssize_t n_classes, int width, char *out, Py_ssize_t class_step,
            Py_ssize_t lane_step) noexcept nogil
        void (*find_peaks)(const Columns *x, Py_ssize_t n_classes, int width, Rows *rows) noexcept nogil
        void (*scan_columns)(
            const Columns *x, Py_ssize_t n_classes, int width, Rows *rows, Temper temper) noexcept nogil
        void (*find_losses)(const Columns *x, Py_ssize_t n_classes, int width, Rows *rows, Temper temper) noexcept nogil
        void (*mix_columns)(
            const Columns *x, const Columns *y, Py_ssize_t n_classes, int width, const double *w, double keep,
            double spread, Rows *rows, Temper temper) noexcept nogil
        void (*fill_columns)(
            const Columns *x, const Columns *y, Py_ssize_t n_classes, int width, const double *w, int mixed, double keep,
            double spread, double scale, int at_labels, const Rows *rows, char *out, Py_ssize_t class_step,
            Py_ssize_t lane_step, Temper temper) noexcept nogil
        void (*slope_columns)(
            const Columns *x, Py_ssize_t n_classes, int width, Rows *rows, double same, double at_label, char *out,
            Py_ssize_t class_step, Py_ssize_t lane_step, Temper temper) noexcept nogil
        void (*log_columns)(
            const Columns *x, Py_ssize_t n_classes, int width, const Rows *rows, char *out, Py_ssize_t class_step,
            Py_ssize_t lane_step, Temper temper) noexcept nogil
        void (*normalise_columns)(
            const Columns *x, Py_ssize_t n_classes, int width, const Normal *out, Py_ssize_t class_step,
            Py_ssize_t lane_step, Temper temper) noexcept nogil
        void (*normalise_rows)(
            const char *const *x, int kind, Py_ssize_t n, int n_rows, double *lse, char *const *logs,
            char *const *shares, Rows *found, Temper temper) noexcept nogil
        double (*divergence)(const Side *r, const Side *x, Py_ssize_t n, double *gap, Temper temper) noexcept nogil
        int (*quick_divergence)(
            const Side *r, const Side *x, Py_ssize_t n, Py_ssize_t own, double *kl, double *gap, Py_ssize_t *r_peak,
            Py_ssize_t *x_peak, Others *others, Temper temper) noexcept nogil
        void (*diverge_columns)(
            const Columns *r, const Columns *x, Py_ssize_t n_classes, int width, const Rows *reference, const Rows *rows,
            double *kl, double *gaps, Temper temper) noexcept nogil
        void (*gaps_of_columns)(
            const Columns *x, Py_ssize_t n_classes, int width, const int64_t *labels, double *gaps) noexcept nogil
        double (*logit)(double x, Temper temper) noexcept nogil
        double (*steepness)(double x, Temper temper) noexcept nogil

    enum:
        TEMPERED_FLOATS, CAPPED_FLOATS

    const Arithmetic ARITHMETICS[4]  # of float32, float64, and float32 with a temperature, and with a soft cap
    const Temper UNTEMPERED
    Temper temper_of(double temperature) noexcept
    Temper capping(double cap, double temperature, int slopes) noexcept

    enum:
        CHOSEN_AT_ONCE

    void chosen(
        const char *p, Py_ssize_t class_step, Py_ssize_t row_step, int kind, const int64_t *labels, int n,
        double *values) noexcept
    void clear_rows(
        char *out, Py_ssize_t class_step, Py_ssize_t row_step, Py_ssize_t size, Py_ssize_t n_classes,
        Py_ssize_t n_rows) noexcept
    int rows_beyond(const Columns *x, Py_ssize_t n_classes, Py_ssize_t n_rows) noexcept
    Py_ssize_t rows_of_probabilities(const Columns *x, Py_ssize_t n_classes) noexcept
    Py_ssize_t SIZE_OF(int kind) noexcept
    void ask_ahead(const void *x, Py_ssize_t bytes) noexcept
    Py_ssize_t bin_of(double confidence, const double *edges, Py_ssize_t bins) noexcept
    double distance_of_float(
        const Columns *x, Py_ssize_t n_classes, int n_rows, const int64_t *labels, int missing, int event,
        int *found) noexcept
    double distance_of_double(
        const Columns *x, Py_ssize_t n_classes, int n_rows, const int64_t *labels, int missing, int event,
        int *found) noexcept
    double sum_of_chosen(const double *values, int n) noexcept
    void losses_of_chosen(const double *values, int n, int take_log, double *losses) noexcept
    void slopes_of_chosen(const double *values, int n, int take_log, double *slopes) noexcept
    double weigh_losses(
        const int64_t *labels, int n, const char *w, Py_ssize_t step, int kind, double *losses) noexcept
    void copied_double(const char *p, Py_ssize_t step, int kind, Py_ssize_t n, double *out) noexcept
    double folded_double(const double *sums) noexcept
    double element(const char *p, int kind) noexcept
    double exact_sum(
        const char *x, Py_ssize_t step, int kind, Py_ssize_t n, Py_ssize_t skip, double *g, double rate) noexcept
    double sum_of(const double *x, Py_ssize_t n) noexcept
    double infinite_sum(const char *x, Py_ssize_t step, int kind, Py_ssize_t n, double m) noexcept
    double tail_of(double s, double g, double x, double loss, double top, double rate) noexcept
    double slope_at_target(
        double s, double g, double x, double top, double total, double share, double mass, double own,
        double rate) noexcept
    double target_slope "target_slope__double"(
        double others, double p, double share, double mass, double own) noexcept
    double total_of_row(double s, double g, double x, double top, double rate) noexcept
    void find_row_tails(
        const double *s, const double *g, const double *x, const double *losses, const double *tops, int n, double rate,
        double *tails) noexcept
    void find_row_totals(
        const double *s, const double *g, const double *x, const double *tops, int n, double rate, double *totals) noexcept
    void find_target_slopes(
        const double *s, const double *g, const double *x, const double *tops, const double *totals, const double *shares,
        double mass, const double *own, int n, double rate, double *slopes) noexcept
    void find_tails(Rows *rows, int width, double rate) noexcept
    void put_all(char *out, Py_ssize_t step, Py_ssize_t size, const double *values, int n) noexcept
    void add_losses(const Rows *rows, int width, double *sums) noexcept
    void find_totals(Rows *rows, int width, double rate) noexcept
    void find_totals_of_peaks(Rows *rows, int width, double rate) noexcept
    double exp_of(double x) noexcept
    double rise_of(double loss, double base, double d) noexcept
    void rises_of(const double *losses, const double *bases, const double *ds, int n, double *rises) noexcept
    double mixed_loss "mixed_loss__double"(double share, double mass, double tail) noexcept
    double scaled "scaled__double"(double share, double loss) noexcept
    void put(char *out, Py_ssize_t size, double value) noexcept
    int64_t label_at(const char *p, int kind, int64_t n_classes, int64_t ignore_index) noexcept
    int find_labels(
        const char *p, Py_ssize_t step, int kind, int64_t n_classes, int64_t ignore_index, Py_ssize_t n,
        int64_t *labels) noexcept


cdef extern from "pool.h":
    int POOLED  # whether there are threads for the kernels
    ctypedef void (*Blocks)(void *task, Py_ssize_t first, Py_ssize_t last) noexcept nogil
    void grant(int n_threads, long long work, bint interruptible)
    int divide(Blocks blocks, void *task, Py_ssize_t first, Py_ssize_t last) except -1


def share(int n_threads, long long work, bint interruptible):
    """Let the next kernel that this thread calls, for about `work` ns of work, use up to n_threads threads as it sees fit.

    interruptible : whether signal handlers are to run in the middle of it, if it takes long; for the main thread alone.
    """
    grant(n_threads, work, interruptible)


pooled = bool(POOLED)


cdef struct Operand:
    char *data  # NULL where the operand is absent
    Py_ssize_t step[3]  # in bytes, along the last axes; 0 before an array's first axis
    Py_ssize_t length[3]
    int kind


KINDS = {"float16": FLOAT16, "bfloat16": BFLOAT16, "float32": FLOAT32, "float64": FLOAT64}
KINDS.update({f"int{8 * size}": -size for size in (1, 2, 4, 8)})  # of labels
KINDS.update({f"uint{8 * size}": size for size in (1, 2, 4, 8)}, bool=1)


cdef int lay_out(Operand *operand, object layout, tuple lengths=(1, 1, 1)) except -1:
    """Describe an operand whose address is not known yet: layout is (dtype, three strides in bytes), or None if it is absent."""
    cdef int axis
    operand.data = NULL
    operand.kind = ABSENT
    for axis in range(3):
        operand.step[axis], operand.length[axis] = 0, lengths[axis]
    if layout is not None:
        operand.kind = KINDS[layout[0]]
        for axis in range(3):
            operand.step[axis] = layout[axis + 1]
    return 0


cdef inline int point(Operand *operand, object array) except -1:
    """Say where the operand lies."""
    if operand.kind != ABSENT:
        operand.data = <char *>cnp.PyArray_DATA(<cnp.ndarray?>array)
    return 0


cdef int take(Operand *operand, object value, bint labels=False) except -1:
    """An array of up to three axes, or None."""
    cdef cnp.ndarray array
    cdef int axis, offset, number, size
    operand.data = NULL
    operand.kind = ABSENT
    operand.step[:] = [0, 0, 0]
    operand.length[:] = [1, 1, 1]
    if value is None:
        return 0
    array = <cnp.ndarray?>value
    offset = 3 - cnp.PyArray_NDIM(array)
    if offset < 0:
        raise ValueError("expected an array of at most three axes")
    for axis in range(offset, 3):
        operand.step[axis] = cnp.PyArray_STRIDE(array, axis - offset)
        operand.length[axis] = cnp.PyArray_DIM(array, axis - offset)
    operand.data = <char *>cnp.PyArray_DATA(array)
    number, size = cnp.PyArray_TYPE(array), cnp.PyArray_ITEMSIZE(array)
    if labels:
        operand.kind = -size if cnp.PyTypeNum_ISSIGNED(number) else size
    elif cnp.PyTypeNum_ISFLOAT(number):
        operand.kind = FLOAT64 if size == 8 else FLOAT32
    else:
        operand.kind = BFLOAT16 if cnp.PyTypeNum_ISSIGNED(number) else FLOAT16
    return 0


cdef inline char *at(const Operand *operand, Py_ssize_t i, Py_ssize_t j, Py_ssize_t k) noexcept nogil:
    return operand.data + i * operand.step[0] + j * operand.step[1] + k * operand.step[2]


cdef double *sums_of(object partials) except NULL:
    """The partial sums, float64 and contiguous."""
    return <double *>cnp.PyArray_DATA(<cnp.ndarray?>partials)


cdef enum:
    FEW_BLOCKS = 64  # whose sums lie on the stack


cdef inline Py_ssize_t smaller(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a if a < b else b


cdef extern from *:
    unsigned int SCALARS_DIGEST

scalars = SCALARS_DIGEST
