/* Probabilities: whether they are such, how many are taken at a time, and bins of them. */
#ifndef FASTLOSS_PROBABILITIES_H
#define FASTLOSS_PROBABILITIES_H

enum { CHECKED = 8192 };    /* elements that are looked at between two steps */
enum { PROBABLE = 2048 };   /* probabilities at a time, in float64 16 KiB */
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

#endif
