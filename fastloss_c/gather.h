/* Elements that labels select. */

/* So many rows at a time that what is stored one by one has left the store buffer when it is read in vectors. */
enum { CHOSEN_AT_ONCE = 512 };
enum { SPREAD = 1 << 19 };   /* bytes that they stretch over where memory is asked for ahead: beyond the second-level cache */
enum { ASKED_AHEAD = 48 };   /* rows ahead, then */

/* Of so many rows each its label's, as float64; nothing of rows without a label. */
static void chosen(
    const char *p, Py_ssize_t class_step, Py_ssize_t row_step, int kind, const int64_t *RESTRICT labels, int n,
    double *RESTRICT values)
{
    const int asked = n * (row_step < 0 ? -row_step : row_step) > SPREAD ? n - ASKED_AHEAD : 0;
#define CHOSEN(type, value)                                                                                            \
    for (int i = 0; i < n; i++) {                                                                                      \
        if (i < asked)                                                                                                 \
            ASK_FOR(p + (i + ASKED_AHEAD) * row_step + unknown_index(labels[i + ASKED_AHEAD]) * class_step);           \
        if (labels[i] >= 0) {                                                                                          \
            const type v = *(const type *)(p + i * row_step + unknown_index(labels[i]) * class_step);                  \
            values[i] = (double)(value);                                                                               \
        }                                                                                                              \
    }                                                                                                                  \
    break
    switch (kind) {
    case FLOAT32: CHOSEN(float, v);
    case FLOAT64: CHOSEN(double, v);
    case BFLOAT16: CHOSEN(uint16_t, from_bfloat(v));
    default: CHOSEN(uint16_t, from_half(v));
    }
#undef CHOSEN
}

/* 0 in so many rows of a result, whose elements have a size in bytes. */
static void clear_rows(
    char *out, Py_ssize_t class_step, Py_ssize_t row_step, Py_ssize_t size, Py_ssize_t n_classes, Py_ssize_t n_rows)
{
    if (class_step == size && row_step == n_classes * size) {
        n_classes *= n_rows;
        n_rows = 1;
    }
    const _Bool along_classes = class_step == size; /* then a row is in one piece, else a class may be */
    const Py_ssize_t n = along_classes ? n_rows : n_classes, length = along_classes ? n_classes : n_rows;
    const Py_ssize_t step = along_classes ? row_step : class_step, within = along_classes ? class_step : row_step;
    for (Py_ssize_t i = 0; i < n; i++)
        if (within == size)
            memset(out + i * step, 0, length * size);
        else
            for (Py_ssize_t k = 0; k < length; k++)
                memset(out + i * step + k * within, 0, size);
}

/* Losses from these: minus log-probabilities, or minus the logarithms of probabilities. */
static void losses_of_chosen(const double *RESTRICT values, int n, int take_log, double *RESTRICT losses)
{
    for (int i = 0; i < n; i++)
        losses[i] = -values[i];
    if (take_log)
        for (int i = 0; i < n; i++)
            losses[i] = values[i] <= 1.0 ? -log_double(values[i]) : NAN;
}

/* Their derivatives, with respect to the values. */
static void slopes_of_chosen(const double *RESTRICT values, int n, int take_log, double *RESTRICT slopes)
{
    for (int i = 0; i < n; i++)
        slopes[i] = take_log && values[i] == 0.0 ? -INFINITY : -1.0 / (take_log ? values[i] : 1.0);
}

/* The sum of values, whose order is fixed. */
static double sum_of_chosen(const double *values, int n)
{
    double sums[8] = {0.0};
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        const double *RESTRICT v = values + i;
        IN_LANES
        for (int k = 0; k < 8; k++)
            sums[k] += v[k];
    }
    for (; i < n; i++)
        sums[i % 8] += values[i];
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

/* Losses become those times the weights of their labels, of which there are up to CHOSEN_AT_ONCE; gives the sum of these. */
static double weigh_losses(
    const int64_t *RESTRICT labels, int n, const char *w, Py_ssize_t step, int kind, double *RESTRICT losses)
{
    double weights[CHOSEN_AT_ONCE];
    chosen(w, step, 0, kind, labels, n, weights);
    for (int i = 0; i < n; i++)
        losses[i] = scaled__double(weights[i], losses[i]);
    return sum_of_chosen(weights, n);
}
