/* The softmax family across rows: LANES rows at a time, for few classes or a class axis that is not the last.

Included once for each type, as elementary.h, after softmax.h.  GROUP classes at a time are brought into a tile (class, row);
whatever strides and kind the logits have end there.  x is (n_classes, rows). */

#ifndef FASTLOSS_COLUMNS
#define FASTLOSS_COLUMNS

enum { GROUP = 32 }; /* classes of a tile */
enum { NARROW = 16 }; /* lanes that are computed where there are no more rows */
enum { FETCHED = 8 };  /* tiles ahead that memory is asked for */

/* Where logits of neighbouring rows are. */
typedef struct {
    const char *data;
    Py_ssize_t class_step, lane_step; /* in bytes */
    int kind;
} Columns;

/* What is known about the rows at work, one in each lane. */
typedef struct {
    int64_t labels[LANES]; /* classes left out of the sums; -1 for none */
    double s[LANES], g[LANES]; /* the others sum to s exp(g) */
    double x[LANES], top[LANES], loss[LANES]; /* the one left out, the maximum, the negative log-likelihood of x */
    double tail[LANES], total[LANES]; /* logsumexp less the maximum; sum of exp(x - top) over all classes */
    double smooth[LANES], mass[LANES];        /* the smoothed part of the loss and its weight */
    double factor[LANES], slope[LANES];       /* of the gradient: what softmax is multiplied by; the target's own */
} Rows;

#endif

/* --- tiles ----------------------------------------------------------------------------------------------------------------- */

#if SINGLE && SHUFFLES
typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

/* Four classes of four rows, exchanged. */
INLINE void transposed(const char *rows, Py_ssize_t row_step, float *tile)
{
    const Four a = *(const Four *)rows, b = *(const Four *)(rows + row_step);
    const Four c = *(const Four *)(rows + 2 * row_step), d = *(const Four *)(rows + 3 * row_step);
    const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), AB = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(Four *)tile = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(Four *)(tile + LANES) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    *(Four *)(tile + 2 * LANES) = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
    *(Four *)(tile + 3 * LANES) = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
}

/* And back. */
INLINE void transposed_back(const float *tile, char *rows, Py_ssize_t row_step)
{
    const Four a = *(const Four *)tile, b = *(const Four *)(tile + LANES);
    const Four c = *(const Four *)(tile + 2 * LANES), d = *(const Four *)(tile + 3 * LANES);
    const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), AB = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const Four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), CD = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(Four *)rows = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(Four *)(rows + row_step) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    *(Four *)(rows + 2 * row_step) = __builtin_shufflevector(AB, CD, 0, 1, 4, 5);
    *(Four *)(rows + 3 * row_step) = __builtin_shufflevector(AB, CD, 2, 3, 6, 7);
}
#endif

/* LANES rows of contiguous classes, as REAL. */
INLINE void NAME(load_rows)(const char *rows, Py_ssize_t row_step, int classes, REAL *RESTRICT tile)
{
    const Py_ssize_t class_step = sizeof(REAL);
    if (row_step == classes * class_step && classes == 2) {
        const REAL *RESTRICT from = (const REAL *)rows;
        for (int lane = 0; lane < LANES; lane++) {
            tile[lane] = from[2 * lane];
            tile[LANES + lane] = from[2 * lane + 1];
        }
        return;
    }
#if SINGLE && SHUFFLES
    if (classes >= 4) { /* the last four may have been there before */
        for (int c = 0; c < classes; c += 4) {
            const int first = c + 4 <= classes ? c : classes - 4;
            for (int lane = 0; lane < LANES; lane += 4)
                transposed(rows + lane * row_step + first * class_step, row_step, tile + first * LANES + lane);
        }
        return;
    }
#endif
    for (int c = 0; c < classes; c++)
        for (int lane = 0; lane < LANES; lane++)
            tile[c * LANES + lane] = *(const REAL *)(rows + lane * row_step + c * class_step);
}

/* Classes [start, start + classes) of so many rows; 0 in lanes without a row, of so many lanes. */
static void NAME(load_tile)(const Columns *x, Py_ssize_t start, int classes, int width, const int lanes, REAL *RESTRICT tile)
{
    const char *from = x->data + start * x->class_step;
    const Py_ssize_t size = SIZE_OF(x->kind);
    if (width == LANES && x->class_step == size && x->lane_step != size) {
        if (x->kind == NATIVE) {
            NAME(load_rows)(from, x->lane_step, classes, tile);
            return;
        }
        REAL rows[LANES * GROUP];
        if (x->lane_step == classes * size)
            NAME(copied)(from, size, x->kind, LANES * classes, rows);
        else
            for (int lane = 0; lane < LANES; lane++)
                NAME(copied)(from + lane * x->lane_step, size, x->kind, classes, rows + lane * classes);
        NAME(load_rows)((const char *)rows, classes * sizeof(REAL), classes, tile);
        return;
    }
    for (int c = 0; c < classes; c++) {
        if (width == LANES && x->lane_step == (Py_ssize_t)sizeof(REAL) && x->kind == NATIVE)
            memcpy(tile + c * LANES, from + c * x->class_step, LANES * sizeof(REAL));
        else
            NAME(copied)(from + c * x->class_step, x->lane_step, x->kind, width, tile + c * LANES);
        for (int lane = width; lane < lanes; lane++)
            tile[c * LANES + lane] = 0;
    }
}

/* The way back; REAL only. */
static void NAME(store_tile)(
    const REAL *RESTRICT tile, int classes, int width, char *out, Py_ssize_t class_step, Py_ssize_t lane_step)
{
    const Py_ssize_t size = sizeof(REAL);
    int lane = 0;
    if (lane_step == size) {
        for (int c = 0; c < classes; c++)
            memcpy(out + c * class_step, tile + c * LANES, width * size);
        return;
    }
#if SINGLE && SHUFFLES
    if (class_step == size && classes >= 4)
        for (; lane + 4 <= width; lane += 4)
            for (int c = 0; c < classes; c += 4) {
                const int first = c + 4 <= classes ? c : classes - 4;
                transposed_back(tile + first * LANES + lane, out + lane * lane_step + first * size, lane_step);
            }
#endif
    for (; lane < width; lane++)
        for (int c = 0; c < classes; c++)
            *(REAL *)(out + c * class_step + lane * lane_step) = tile[c * LANES + lane];
}

INLINE int NAME(group)(Py_ssize_t n_classes, Py_ssize_t start)
{
    return n_classes - start < GROUP ? (int)(n_classes - start) : GROUP;
}

/* --- LANES rows, or as many as there are --------------------------------------------------------------------------------- */

/* The rows' labels within a group that begins at `start`; -1 for those outside. */
INLINE void NAME(labels_from)(const Rows *rows, Py_ssize_t start, UINT *RESTRICT labels, const int lanes)
{
    for (int lane = 0; lane < lanes; lane++) {
        const uint64_t label = (uint64_t)rows->labels[lane] - (uint64_t)start;
        labels[lane] = label < GROUP ? (UINT)label : ~(UINT)0;
    }
}

/* The first class of each row that has its maximum; 0 if all is NaN. */
INLINE void NAME(find_lanes_peaks)(const Columns *x, Py_ssize_t n_classes, int width, Rows *rows, const int lanes)
{
    REAL tile[GROUP * LANES], best[LANES];
    for (int lane = 0; lane < lanes; lane++) {
        best[lane] = -(REAL)INFINITY;
        rows->labels[lane] = 0;
    }
    for (Py_ssize_t start = 0; start < n_classes; start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        UINT found[LANES];
        NAME(load_tile)(x, start, classes, width, lanes, tile);
        for (int lane = 0; lane < lanes; lane++)
            found[lane] = GROUP;
        for (int c = 0; c < classes; c++)
            for (int lane = 0; lane < lanes; lane++) {
                const REAL v = tile[c * LANES + lane];
                found[lane] = v > best[lane] ? (UINT)c : found[lane];
                best[lane] = v > best[lane] ? v : best[lane];
            }
        for (int lane = 0; lane < lanes; lane++)
            rows->labels[lane] = found[lane] < GROUP ? start + (int64_t)found[lane] : rows->labels[lane];
    }
}

static void NAME(find_peaks)(const Columns *x, Py_ssize_t n_classes, int width, Rows *rows)
{
    if (width <= NARROW)
        NAME(find_lanes_peaks)(x, n_classes, width, rows, NARROW);
    else
        NAME(find_lanes_peaks)(x, n_classes, width, rows, LANES);
}

/* Class c of a row; -inf where it is the one left out. */
INLINE REAL NAME(other)(REAL v, UINT label, int c)
{
    return label == (UINT)c ? -(REAL)INFINITY : v;
}

/* The terms of two classes, c and the next, added to each row's sum. */
INLINE void NAME(add_pair)(
    const REAL *RESTRICT tile, int c, const UINT *RESTRICT labels, const REAL *RESTRICT lowest,
    const UINT *RESTRICT biases, double *RESTRICT sums, const int lanes)
{
    const REAL *RESTRICT p = tile + c * LANES, *RESTRICT q = p + LANES;
    for (int lane = 0; lane < lanes; lane++) {
        const REAL a = NAME(other)(p[lane], labels[lane], c), b = NAME(other)(q[lane], labels[lane], c + 1);
        sums[lane] += (double)NAME(term)(a, lowest[lane], biases[lane]) + (double)NAME(term)(b, lowest[lane], biases[lane]);
    }
}

/* Each row's s, g, x, top and loss; the class in `labels` is left out of the sum. */
INLINE void NAME(scan_lanes)(const Columns *x, Py_ssize_t n_classes, int width, Rows *rows, const int lanes)
{
    REAL tile[GROUP * LANES], own[LANES], peak[LANES], power[LANES], lowest[LANES];
    UINT labels[LANES], biases[LANES];
    double sums[LANES], totals[LANES], lows[LANES]; /* of some classes; of all before them, as high + low */
    for (int lane = 0; lane < lanes; lane++) {
        totals[lane] = lows[lane] = 0.0;
        own[lane] = 0;
        peak[lane] = -(REAL)INFINITY;
    }
    const _Bool neighbours = x->lane_step == SIZE_OF(x->kind);
    for (Py_ssize_t start = 0; start < n_classes; start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        NAME(load_tile)(x, start, classes, width, lanes, tile);
        NAME(labels_from)(rows, start, labels, lanes);
        if (classes % 2)
            for (int lane = 0; lane < lanes; lane++)
                tile[classes * LANES + lane] = -(REAL)INFINITY;
        for (int lane = 0; lane < lanes; lane++) {
            const UINT label = labels[lane];
            const REAL v = tile[(label < GROUP ? label : 0) * LANES + lane];
            own[lane] = label < GROUP ? v : own[lane];
        }
        REAL before[LANES];
        memcpy(before, peak, sizeof before);
        int c = 0;
        for (; c + 4 <= classes; c += 4)
            for (int lane = 0; lane < lanes; lane++) {
                const REAL *v = tile + c * LANES + lane;
                const REAL ab = v[0] > v[LANES] ? v[0] : v[LANES];
                const REAL cd = v[2 * LANES] > v[3 * LANES] ? v[2 * LANES] : v[3 * LANES];
                /* either comparison may drop a number where there is a NaN: the sum is NaN then */
                const REAL most = ab > cd ? ab : cd;
                peak[lane] = most > peak[lane] ? most : peak[lane];
            }
        for (; c < classes; c++)
            for (int lane = 0; lane < lanes; lane++) {
                const REAL v = tile[c * LANES + lane];
                peak[lane] = v > peak[lane] ? v : peak[lane];
            }
        for (int lane = 0; lane < lanes; lane++) {
            const REAL n = NAME(power_of)(peak[lane]);
            power[lane] = n;
            lowest[lane] = NAME(lowest)(n);
            biases[lane] = NAME(bias)(n);
        }
        for (int lane = 0; lane < lanes; lane++)
            sums[lane] = 0.0;
        if (start > 0)
            for (int lane = 0; lane < lanes; lane++) {
                const double by = power_between((double)NAME(power_of)(before[lane]), (double)power[lane]);
                totals[lane] *= by;
                lows[lane] *= by;
            }
        /* exponentials leave memory idle: meanwhile a part of what tiles to come will read is asked for */
        const char *next = neighbours ? x->data + start * x->class_step + FETCHED * LANES * x->lane_step
                                      : x->data + 2 * LANES * x->lane_step;
        const Py_ssize_t per_class = neighbours ? x->class_step : LANES * x->lane_step / n_classes;
        const Py_ssize_t bytes = neighbours ? LANES * x->lane_step : per_class;
        for (c = 0; c < classes; c += 2) {
            for (int k = c; k < c + 2; k++)
                for (Py_ssize_t line = 0; line < bytes; line += LINE)
                    ASK_FOR(next + (neighbours ? k : start + k) * per_class + line);
            NAME(add_pair)(tile, c, labels, lowest, biases, sums, lanes);
            if (c + 2 < classes && (SINGLE || c % 8 != 6))
                continue;
            if (SINGLE)
                for (int lane = 0; lane < lanes; lane++)
                    totals[lane] += sums[lane];
            else
                for (int lane = 0; lane < lanes; lane++) {
                    accumulate(&totals[lane], &lows[lane], sums[lane]);
                    sums[lane] = 0.0;
                }
        }
    }
    int suspect = 0;
    for (int lane = 0; lane < lanes; lane++) {
        const double top = (double)peak[lane];
        double s = totals[lane] += lows[lane];
        suspect |= (s < TINY) | !(ABS(peak[lane]) <= LIMIT);
#if SINGLE
        const double g = NAME(log_of_reference)(s, power[lane]);
#else
        const double g = based_sum(power[lane], &s);
#endif
        rows->s[lane] = s;
        rows->g[lane] = g;
        rows->x[lane] = (double)own[lane];
        rows->top[lane] = top;
    }
    NAME(likelihoods)(rows->s, rows->g, rows->x, rows->loss, lanes);
    if (!suspect)
        return;
    for (int lane = 0; lane < width; lane++) { /* each by itself: a row's result is the same whatever rows are beside it */
        const double top = fabs(rows->top[lane]);
        if (rows->labels[lane] < 0 || !(totals[lane] < TINY || (top > (double)LIMIT && top < INFINITY)))
            continue;
        const char *row = x->data + lane * x->lane_step;
        rows->s[lane] = exact_sum(row, x->class_step, x->kind, n_classes, rows->labels[lane], rows->g + lane);
        NAME(likelihoods)(rows->s + lane, rows->g + lane, rows->x + lane, rows->loss + lane, 1);
    }
}

static void NAME(scan_columns)(const Columns *x, Py_ssize_t n_classes, int width, Rows *rows)
{
    if (width <= NARROW)
        NAME(scan_lanes)(x, n_classes, width, rows, NARROW);
    else
        NAME(scan_lanes)(x, n_classes, width, rows, LANES);
}

#if !SINGLE
static void find_tails(Rows *rows, int width)
{
    for (int lane = 0; lane < width; lane++)
        rows->tail[lane] = tail_above(rows->s[lane], rows->g[lane], rows->x[lane], rows->loss[lane], rows->top[lane]);
}

static void find_totals(Rows *rows, int width)
{
    for (int lane = 0; lane < width; lane++)
        rows->total[lane] = row_total(rows->s[lane], rows->g[lane], rows->x[lane], rows->top[lane]);
}

/* The same where the ones left out are the maxima. */
static void find_totals_of_peaks(Rows *rows, int width)
{
    for (int lane = 0; lane < width; lane++) {
        const double top = rows->top[lane], total = exp_of_difference(rows->s[lane], rows->g[lane], top) + 1.0;
        rows->total[lane] = top - top == 0.0 ? total : NAN;
    }
}
#endif

/* Each row's smooth, and its mass where there is a y, from q = w (keep y + spread): sums of q nll and of q. */
INLINE void NAME(mix_lanes)(
    const Columns *x, const Columns *y, Py_ssize_t n_classes, int width, const double *w, double keep, double spread,
    Rows *rows, const int lanes)
{
    REAL tile[GROUP * LANES], other[GROUP * LANES];
    double lows[LANES], mass_lows[LANES], sums[LANES], masses[LANES];
    const double unit = SINGLE ? 1.0 : 0.5; /* as in `mix` */
    for (int lane = 0; lane < lanes; lane++) {
        rows->smooth[lane] = lows[lane] = mass_lows[lane] = 0.0;
        if (y)
            rows->mass[lane] = 0.0;
    }
    for (Py_ssize_t start = 0; start < n_classes; start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        NAME(load_tile)(x, start, classes, width, lanes, tile);
        if (y)
            NAME(load_tile)(y, start, classes, width, lanes, other);
        for (int c = 0; c < classes; c++) {
            if (c % 8 == 0)
                for (int lane = 0; lane < lanes; lane++)
                    sums[lane] = masses[lane] = 0.0;
            const REAL *RESTRICT v = tile + c * LANES, *RESTRICT t = other + c * LANES;
            const double same = coefficient(0.0, w, start + c, keep, spread);
            if (y)
                for (int lane = 0; lane < lanes; lane++) {
                    const double q = coefficient((double)t[lane], w, start + c, keep, spread);
                    const double gap = unit * rows->top[lane] - unit * (double)v[lane];
                    sums[lane] += q == 0.0 ? 0.0 : q * gap;
                    masses[lane] += q;
                }
            else if (same != 0.0)
                for (int lane = 0; lane < lanes; lane++)
                    sums[lane] += same * (unit * rows->top[lane] - unit * (double)v[lane]);
            if (c % 8 != 7 && c != classes - 1)
                continue;
            for (int lane = 0; lane < lanes; lane++)
                accumulate(&rows->smooth[lane], &lows[lane], sums[lane]);
            if (y)
                for (int lane = 0; lane < lanes; lane++)
                    accumulate(&rows->mass[lane], &mass_lows[lane], masses[lane]);
        }
    }
    for (int lane = 0; lane < lanes; lane++) {
        rows->mass[lane] += mass_lows[lane];
        rows->smooth[lane] = (rows->smooth[lane] + lows[lane]) / unit + rows->mass[lane] * rows->tail[lane];
    }
}

static void NAME(mix_columns)(
    const Columns *x, const Columns *y, Py_ssize_t n_classes, int width, const double *w, double keep, double spread,
    Rows *rows)
{
    if (width <= NARROW)
        NAME(mix_lanes)(x, y, n_classes, width, w, keep, spread, rows, NARROW);
    else
        NAME(mix_lanes)(x, y, n_classes, width, w, keep, spread, rows, LANES);
}

/* out = factor * softmax - scale * w (keep y + spread), the second part if `mixed`; with `at_labels` each row's slope at its
label, and 0 in rows without.  The largest probability is rounded once. */
INLINE void NAME(fill_lanes)(
    const Columns *x, const Columns *y, Py_ssize_t n_classes, int width, const double *w, int mixed, double keep,
    double spread, double scale, int at_labels, const Rows *rows, char *out, Py_ssize_t class_step, Py_ssize_t lane_step, const int lanes)
{
    REAL tile[GROUP * LANES], other[GROUP * LANES], power[LANES], multiplier[LANES], largest[LANES], peak[LANES];
    UINT labels[LANES];
    int unusual = 0, negative = 0;
    for (int lane = 0; lane < lanes; lane++) {
        const REAL top = (REAL)rows->top[lane];
        const double positive = fabs(rows->factor[lane]) / rows->total[lane];
        unusual |= !(ABS(top) <= LIMIT);
        negative |= rows->factor[lane] < 0.0;
        largest[lane] = top;
        power[lane] = NAME(power_of)(top);
        multiplier[lane] = (REAL)(positive * exp_double(log_of_power((double)power[lane], rows->top[lane])));
        peak[lane] = (REAL)positive;
    }
    for (Py_ssize_t start = 0; start < n_classes; start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        NAME(load_tile)(x, start, classes, width, lanes, tile);
        if (y)
            NAME(load_tile)(y, start, classes, width, lanes, other);
        for (int c = 0; c < classes; c++) {
            REAL *RESTRICT v = tile + c * LANES;
            for (int lane = 0; lane < lanes; lane++) {
                const REAL p = NAME(fine_term)(v[lane], power[lane], multiplier[lane]);
                v[lane] = v[lane] == largest[lane] ? peak[lane] : p > peak[lane] ? peak[lane] : p;
            }
            if (negative)
                for (int lane = 0; lane < lanes; lane++)
                    v[lane] = rows->factor[lane] < 0.0 ? -v[lane] : v[lane];
            if (unusual) /* so large that exponentials need float64, or infinite, which gives NaN */
                for (int lane = 0; lane < width; lane++) {
                    const double top = rows->top[lane];
                    if (fabs(top) <= (double)LIMIT)
                        continue;
                    const double own = element(x->data + (start + c) * x->class_step + lane * x->lane_step, x->kind);
                    v[lane] = (REAL)(rows->factor[lane] * (exp_double(own - top) / rows->total[lane]));
                }
            if (mixed) {
                const REAL *RESTRICT t = other + c * LANES;
                const REAL same = (REAL)(scale * coefficient(0.0, w, start + c, keep, spread));
                if (y)
                    for (int lane = 0; lane < lanes; lane++)
                        v[lane] -= (REAL)(scale * coefficient((double)t[lane], w, start + c, keep, spread));
                else
                    for (int lane = 0; lane < lanes; lane++)
                        v[lane] -= same;
            }
        }
        if (at_labels) {
            NAME(labels_from)(rows, start, labels, lanes);
            for (int lane = 0; lane < width; lane++)
                if (rows->labels[lane] < 0)
                    for (int c = 0; c < classes; c++)
                        tile[c * LANES + lane] = 0;
                else if (labels[lane] < (UINT)classes)
                    tile[labels[lane] * LANES + lane] = (REAL)rows->slope[lane];
        }
        NAME(store_tile)(tile, classes, width, out + start * class_step, class_step, lane_step);
    }
}

static void NAME(fill_columns)(
    const Columns *x, const Columns *y, Py_ssize_t n_classes, int width, const double *w, int mixed, double keep,
    double spread, double scale, int at_labels, const Rows *rows, char *out, Py_ssize_t class_step, Py_ssize_t lane_step)
{
    if (width <= NARROW)
        NAME(fill_lanes)(x, y, n_classes, width, w, mixed, keep, spread, scale, at_labels, rows, out, class_step, lane_step, NARROW);
    else
        NAME(fill_lanes)(x, y, n_classes, width, w, mixed, keep, spread, scale, at_labels, rows, out, class_step, lane_step, LANES);
}

/* out = (x - top) - tail. */
INLINE void NAME(log_lanes)(
    const Columns *x, Py_ssize_t n_classes, int width, const Rows *rows, char *out, Py_ssize_t class_step,
    Py_ssize_t lane_step, const int lanes)
{
    REAL tile[GROUP * LANES], top[LANES], tail[LANES];
    for (int lane = 0; lane < lanes; lane++) {
        top[lane] = (REAL)rows->top[lane];
        tail[lane] = (REAL)rows->tail[lane];
    }
    for (Py_ssize_t start = 0; start < n_classes; start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        NAME(load_tile)(x, start, classes, width, lanes, tile);
        for (int c = 0; c < classes; c++)
            for (int lane = 0; lane < lanes; lane++)
                tile[c * LANES + lane] = (tile[c * LANES + lane] - top[lane]) - tail[lane];
        NAME(store_tile)(tile, classes, width, out + start * class_step, class_step, lane_step);
    }
}

static void NAME(log_columns)(
    const Columns *x, Py_ssize_t n_classes, int width, const Rows *rows, char *out, Py_ssize_t class_step,
    Py_ssize_t lane_step)
{
    if (width <= NARROW)
        NAME(log_lanes)(x, n_classes, width, rows, out, class_step, lane_step, NARROW);
    else
        NAME(log_lanes)(x, n_classes, width, rows, out, class_step, lane_step, LANES);
}
