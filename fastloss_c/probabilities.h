/* Probabilities: whether they are such, and how far they are from what came true. */

enum { CHECKED = 8192 };    /* elements that are looked at between two steps */
enum { PROBABLE = 2048 };   /* probabilities in float64 at a time, 16 KiB */
enum { PREDICTED = 512 };   /* rows of these at most */
enum { ABREAST = 128 };     /* rows that lie side by side, where there are many classes */

/* Whether some of n elements, `step` bytes apart, may lie outside [0, 1].  As unsigned integers, bits of what does are larger than
those of 1, and so are those of -0 and NaN, which are probabilities. */
static int beyond(const char *p, Py_ssize_t step, int kind, Py_ssize_t n)
{
#define BEYOND(type, one)                                                                                              \
    do {                                                                                                               \
        type most = 0;                                                                                                 \
        for (Py_ssize_t start = 0; start < n && GOES_ON(start, 18); start += CHECKED) {                                \
            const Py_ssize_t size = n - start < CHECKED ? n - start : CHECKED;                                         \
            if (step == (Py_ssize_t)sizeof(type)) {                                                                    \
                const type *RESTRICT from = (const type *)p + start;                                                   \
                for (Py_ssize_t i = 0; i < size; i++)                                                                  \
                    most = from[i] > most ? from[i] : most;                                                            \
            }                                                                                                          \
            else                                                                                                       \
                for (Py_ssize_t i = start; i < start + size; i++) {                                                    \
                    const type v = *(const type *)(p + i * step);                                                      \
                    most = v > most ? v : most;                                                                        \
                }                                                                                                      \
        }                                                                                                              \
        return most > one;                                                                                             \
    } while (0)
    switch (kind) {
    case FLOAT16: BEYOND(uint16_t, 0x3c00u);
    case BFLOAT16: BEYOND(uint16_t, 0x3f80u);
    case FLOAT32: BEYOND(uint32_t, 0x3f800000u);
    default: BEYOND(uint64_t, 0x3ff0000000000000u);
    }
#undef BEYOND
}

/* Whether rows lie side by side rather than one after the other. */
INLINE int lies_across(const Columns *x)
{
    const Py_ssize_t size = SIZE_OF(x->kind);
    return x->class_step != size && (x->lane_step == size || llabs(x->lane_step) < llabs(x->class_step));
}

/* Whether some of the probabilities of so many rows may lie outside [0, 1]. */
static int rows_beyond(const Columns *x, Py_ssize_t n_classes, Py_ssize_t n_rows)
{
    const Py_ssize_t size = SIZE_OF(x->kind);
    int found = 0;
    if (x->class_step == size && x->lane_step == n_classes * size)
        return beyond(x->data, size, x->kind, n_rows * n_classes);
    if (lies_across(x))
        for (Py_ssize_t c = 0; c < n_classes && GOES_ON(c, 14); c++)
            found |= beyond(x->data + c * x->class_step, x->lane_step, x->kind, n_rows);
    else
        for (Py_ssize_t row = 0; row < n_rows; row++)
            found |= beyond(x->data + row * x->lane_step, x->class_step, x->kind, n_classes);
    return found;
}

/* n probabilities in float64, and whether some may be none. */
static int put_probabilities(const char *p, Py_ssize_t step, int kind, Py_ssize_t n, double *RESTRICT out)
{
    if (kind == FLOAT16) { /* by instructions that make float32 of them */
        float some[PROBABLE];
        copied_float(p, step, kind, n, some);
        copied_double((const char *)some, sizeof(float), FLOAT32, n, out);
    }
    else
        copied_double(p, step, kind, n, out);
    return beyond(p, step, kind, n);
}

/* A label that is 0 or 1. */
INLINE double truth_of(int64_t label)
{
    return double_of(bits_of_double(1.0) & (0 - (uint64_t)label)); /* in bits, as not all CPUs convert such integers */
}

/* As many rows as are taken at a time. */
static Py_ssize_t rows_of_probabilities(const Columns *x, Py_ssize_t n_classes)
{
    const Py_ssize_t fit = n_classes < PROBABLE ? PROBABLE / (n_classes ? n_classes : 1) : 1;
    const Py_ssize_t rows = lies_across(x) && fit < ABREAST ? ABREAST : fit;
    return rows < PREDICTED ? rows : PREDICTED;
}

/* The sum of the squared distances between the predictions of these rows and what came true; rows whose labels are negative have no
part in it.

labels : classes; or, where there is but one, and it is an event's probability, whether the event came true.
found : set where some are no probabilities. */
static double distance_of(
    const Columns *x, Py_ssize_t n_classes, int n_rows, const int64_t *labels, int missing, int event, int *found)
{
    const int across = lies_across(x), together = x->class_step == SIZE_OF(x->kind) && x->lane_step == n_classes * x->class_step;
    const Py_ssize_t most = n_rows == 1 ? PROBABLE : PROBABLE / n_rows;
    double v[PROBABLE + BLOCK], sums[16] = {0};
    for (Py_ssize_t start = 0; start < n_classes && GOES_ON(start / most, 9); start += most) {
        const Py_ssize_t classes = n_classes - start < most ? n_classes - start : most, n = classes * n_rows;
        const Py_ssize_t class_step = across ? n_rows : 1, row_step = across ? 1 : classes;
        const char *from = x->data + start * x->class_step;
        if (together && classes == n_classes)
            *found |= put_probabilities(from, x->class_step, x->kind, n, v);
        else if (across)
            for (Py_ssize_t c = 0; c < classes; c++)
                *found |= put_probabilities(from + c * x->class_step, x->lane_step, x->kind, n_rows, v + c * class_step);
        else
            for (int row = 0; row < n_rows; row++)
                *found |= put_probabilities(from + row * x->lane_step, x->class_step, x->kind, classes, v + row * row_step);
        if (event)
            for (int row = 0; row < n_rows; row++)
                v[row] -= truth_of(labels[row]);
        else if (n_classes == 2 && !across && !missing) /* without waiting for what has just been written */
            for (int row = 0; row < n_rows; row++) {
                v[2 * row] -= 1.0 - truth_of(labels[row]);
                v[2 * row + 1] -= truth_of(labels[row]);
            }
        else
            for (int row = 0; row < n_rows; row++) {
                const uint64_t own = (uint64_t)labels[row] - (uint64_t)start;
                if (own < (uint64_t)classes)
                    v[row * row_step + (Py_ssize_t)own * class_step] -= 1.0;
            }
        if (missing)
            for (int row = 0; row < n_rows; row++)
                for (Py_ssize_t c = 0; labels[row] < 0 && c < classes; c++)
                    v[row * row_step + c * class_step] = 0.0;
        for (Py_ssize_t i = n; i % BLOCK; i++)
            v[i] = 0.0;
        for (Py_ssize_t i = 0; i < n; i += BLOCK)
            for (int k = 0; k < 16; k++)
                sums[k] += (v[i + k] * v[i + k] + v[i + 16 + k] * v[i + 16 + k]) +
                           (v[i + 32 + k] * v[i + 32 + k] + v[i + 48 + k] * v[i + 48 + k]);
    }
    return folded_double(sums);
}

/* The first of the bins whose upper edge is not below a confidence; the last for NaN. */
static Py_ssize_t bin_of(double confidence, const double *edges, Py_ssize_t bins)
{
    const double guess = confidence * (double)bins;
    Py_ssize_t bin = guess < (double)bins ? guess > 0.0 ? (Py_ssize_t)guess : 0 : bins - 1;
    while (bin && edges[bin - 1] >= confidence)
        bin--;
    while (bin + 1 < bins && edges[bin] < confidence)
        bin++;
    return bin;
}
