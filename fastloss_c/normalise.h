/* logsumexp, log-softmax and softmax of rows whose maximum is taken first, each exponential computed once.

Included as often as softmax.h, after columns.h.  Terms are exp(x) 2^-n, with n so far below the maximum's power of two that
no probability that can be told from 0 is cut off.  Those below the maximum are added up, those that equal it counted: what comes on top of
the maximum keeps its digits however small it is.  Softmax leaves its terms where the probabilities go, and scales them there; it needs
no more than the sum of all, which float32 takes without looking for the maximum. */

#ifndef FASTLOSS_NORMALISE
#define FASTLOSS_NORMALISE

enum { TILED = 128 };    /* classes of rows LANES of which are kept; of more they are read again */
enum { TOGETHER = 16 };  /* longer rows that are taken at once */
enum { STEP = 16 };      /* neighbours in a row, one in each lane */

/* What is made of rows: one of these. */
typedef struct {
    double *lse;
    char *logs, *shares; /* log-softmax and softmax */
    Rows *found;         /* each row's top, tail and total */
} Normal;

#endif

#undef WHOLE_SUM
#define WHOLE_SUM (SINGLE && FUSED) /* where terms that are kept are all added up: there is a digit to spare */

/* The probability of a term: times by + low.  The largest is rounded once: the only class of a row gets 1.  Fused operations on floats
round everything once, as `by` and `low` have twice their digits. */
INLINE REAL NAME(share)(REAL e, REAL most, REAL largest, REAL by, REAL low)
{
    const REAL share = MULTIPLY_ADD(e, by, e * low); /* which of the products is fused must not be left to the compiler */
    return SINGLE && FUSED ? share : e == most ? largest : share;
}

/* The sum of a row's terms as s exp(g), of which the maximum has been left out once; `rest` are those below it. */
INLINE void NAME(sum_of_others)(
    double rest, double ties, double most, REAL n, double *s, double *g, const Temper temper)
{
    *s = rest + (ties - 1.0) * most;
#if SINGLE
    *g = (double)n * (DOUBLE_LN2 * temper.value);
#else
    *g = based_sum(n, s);
#endif
}

/* logsumexp less the maximum over T, in float64. */
static double NAME(exact_tail)(const char *x, Py_ssize_t step, int kind, Py_ssize_t n, double top, const Temper temper)
{
    Py_ssize_t own = 0;
    double s, g, tail;
    while (own < n - 1 && element(x + own * step, kind) != top)
        own++;
    s = exact_sum(x, step, kind, n, own, &g, temper.rate);
    NAME(likelihoods)(&s, &g, &top, &tail, 1, temper.rate);
    return tail;
}

/* All of a row in float64. */
static void NAME(normalise_exactly)(
    const char *x, Py_ssize_t step, int kind, Py_ssize_t n, double top, double *lse, char *logs, char *shares,
    Py_ssize_t out_step, Rows *found, int lane, const Temper temper)
{
    const double tail = NAME(exact_tail)(x, step, kind, n, top, temper);
    const _Bool finite = top - top == 0.0;
    const double total = finite ? exp_double(tail) : NAN; /* `tail` may be NaN */
    if (lse)
        *lse = finite ? top * temper.rate + tail : infinite_sum(x, step, kind, n, top);
    if (found) {
        found->top[lane] = top;
        found->tail[lane] = finite ? tail : NAN;
        found->total[lane] = total;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        const double v = element(x + i * step, kind);
        if (logs)
            *(REAL *)(logs + i * out_step) = SINGLE ? (REAL)((v - top) * temper.rate - tail)
                                                    : NAME(gap)((REAL)v, (REAL)top, temper) - (REAL)tail;
        if (shares)
            *(REAL *)(shares + i * out_step) = (REAL)(exp_double((v - top) * temper.rate) / total);
    }
}

/* --- rows across lanes ------------------------------------------------------------------------------------------------- */

/* Raises the peaks of STRIP rows to the largest of all classes; may drop a number where there is a NaN: the row is NaN then. */
INLINE void NAME(peaks_of_strip)(const REAL *RESTRICT tile, int classes, REAL *RESTRICT peak)
{
    int c = 0;
    for (; c + 4 <= classes; c += 4) {
        IN_LANES
        for (int k = 0; k < STRIP; k++) {
            const REAL *v = tile + c * LANES + k;
            const REAL most = NAME(larger)(NAME(larger)(v[0], v[LANES]), NAME(larger)(v[2 * LANES], v[3 * LANES]));
            peak[k] = NAME(larger)(most, peak[k]);
        }
    }
    for (; c < classes; c++) {
        const REAL *RESTRICT v = tile + c * LANES; /* indexed by k alone, as compilers do not vectorise the sum of two ints */
        IN_LANES
        for (int k = 0; k < STRIP; k++)
            peak[k] = NAME(larger)(v[k], peak[k]);
    }
}

/* Adds terms of STRIP rows, by twos in REAL, then in float64: those below the maximum, and how many equal it.  With `keeps` they
take the place of the logits, and with a WHOLE_SUM none is counted.  Memory is asked for what comes next of these and of results. */
INLINE void NAME(add_strip_terms)(
    REAL *RESTRICT tile, int classes, const REAL *RESTRICT peak, const REAL *RESTRICT lowest, const UINT *RESTRICT biases,
    NAME(Ahead) ahead, NAME(Ahead) written, double *RESTRICT sums, double *RESTRICT lows, REAL *RESTRICT ties,
    const int keeps, const Temper temper)
{
    const REAL none = 0.0;
    const _Bool whole = WHOLE_SUM && keeps;
    double some[STRIP], low[STRIP];
    UINT count[STRIP];
    int c = 0;
    IN_LANES
    for (int k = 0; k < STRIP; k++) {
        some[k] = sums[k];
        low[k] = lows[k];
        count[k] = (UINT)(int32_t)ties[k];
    }
    for (; c + 4 <= classes; c += 4) {
        REAL *RESTRICT v = tile + c * LANES;
        for (int k = c; k < c + 4; k++) {
            NAME(ask_for)(ahead, k);
            NAME(ask_for)(written, k);
        }
        IN_LANES
        for (int k = 0; k < STRIP; k++) {
            const REAL p = v[k], q = v[LANES + k], r = v[2 * LANES + k], s = v[3 * LANES + k], most = peak[k];
            const REAL t = NAME(whole_term)(p, lowest[k], biases[k], temper);
            const REAL u = NAME(whole_term)(q, lowest[k], biases[k], temper);
            const REAL w = NAME(whole_term)(r, lowest[k], biases[k], temper);
            const REAL z = NAME(whole_term)(s, lowest[k], biases[k], temper);
            const REAL first = (!whole && p == most ? none : t) + (!whole && q == most ? none : u);
            const REAL second = (!whole && r == most ? none : w) + (!whole && s == most ? none : z);
            if (!whole)
                count[k] += (UINT)(p == most) + (UINT)(q == most) + ((UINT)(r == most) + (UINT)(s == most));
            if (SINGLE)
                some[k] += (double)first + (double)second;
            else {
                accumulate(&some[k], &low[k], (double)first);
                accumulate(&some[k], &low[k], (double)second);
            }
            if (keeps) {
                v[k] = t;
                v[LANES + k] = u;
                v[2 * LANES + k] = w;
                v[3 * LANES + k] = z;
            }
        }
    }
    for (; c < classes; c++) {
        REAL *RESTRICT v = tile + c * LANES;
        NAME(ask_for)(ahead, c);
        NAME(ask_for)(written, c);
        IN_LANES
        for (int k = 0; k < STRIP; k++) {
            const REAL p = v[k], t = NAME(whole_term)(p, lowest[k], biases[k], temper);
            const double below = !whole && p == peak[k] ? 0.0 : (double)t;
            if (SINGLE)
                some[k] += below;
            else
                accumulate(&some[k], &low[k], below);
            if (!whole)
                count[k] += (UINT)(p == peak[k]);
            if (keeps)
                v[k] = t;
        }
    }
    IN_LANES
    for (int k = 0; k < STRIP; k++) {
        sums[k] = some[k];
        lows[k] = low[k];
        ties[k] = (REAL)(int32_t)count[k];
    }
}

/* Terms of STRIP rows become probabilities, where they are. */
INLINE void NAME(scale_strip)(
    REAL *RESTRICT tile, int classes, const REAL *RESTRICT most, const REAL *RESTRICT largest, const REAL *RESTRICT by,
    const REAL *RESTRICT low)
{
    for (int c = 0; c < classes; c++) {
        REAL *RESTRICT v = tile + c * LANES;
        IN_LANES
        for (int k = 0; k < STRIP; k++)
            v[k] = NAME(share)(v[k], most[k], largest[k], by[k], low[k]);
    }
}

/* Logits of STRIP rows become logarithms of probabilities, where they are. */
INLINE void NAME(strip_logs)(
    REAL *RESTRICT tile, int classes, const REAL *RESTRICT peak, const REAL *RESTRICT tails, const Temper temper)
{
    for (int c = 0; c < classes; c++) {
        REAL *RESTRICT v = tile + c * LANES;
        IN_LANES
        for (int k = 0; k < STRIP; k++)
            v[k] = NAME(gap)(v[k], peak[k], temper) - tails[k];
    }
}

#if SINGLE
/* What logsumexp of rows of two classes is above their maximum: their losses if that were the label's.  NaN where float32 does not reach
far enough, and whether there is such a row. */
INLINE int NAME(tails_of_pairs)(const float *RESTRICT tile, const int lanes, double *RESTRICT tails, const Temper temper)
{
    int64_t labels[LANES];
    for (int lane = 0; lane < lanes; lane++)
        labels[lane] = tile[lane] < tile[LANES + lane];
    int some = NAME(losses_of_pairs)(tile, labels, lanes, tails, temper);
    for (int lane = 0; lane < lanes; lane++) {
        const _Bool far = NAME(is_far)(NAME(larger)(tile[lane], tile[LANES + lane]), temper);
        tails[lane] = far ? NAN : tails[lane];
        some |= far;
    }
    return some;
}

/* logsumexp of rows of two classes, by themselves; whether there are some that are too large for that. */
INLINE int NAME(sums_of_pairs)(const float *RESTRICT tile, const int lanes, int width, double *lse, const Temper temper)
{
    double s[LANES], other[LANES], top[LANES], tails[LANES];
    int far = 0;
    for (int lane = 0; lane < lanes; lane++) {
        const float a = tile[lane], b = tile[LANES + lane], x = a < b ? b : a;
        s[lane] = 1.0;
        top[lane] = (double)x;
        other[lane] = (double)(a < b ? a : b);
        far |= NAME(is_far)(x, temper);
    }
    NAME(likelihoods)(s, other, top, tails, lanes, temper.rate);
    for (int lane = 0; lane < width; lane++)
        lse[lane] = top[lane] * temper.rate + tails[lane];
    return far;
}

typedef struct {
    double tails[LANES];
    float shares[2 * LANES];
} NAME(Pairs); /* NaN where they are to be found otherwise */

/* Rows of two classes, by themselves; false if there is more to do, because there are such rows or because of what is wanted. */
INLINE _Bool NAME(normalise_pairs)(
    const Columns *x, int width, const Normal *out, Py_ssize_t class_step, Py_ssize_t lane_step, const int lanes,
    NAME(Pairs) *pairs, const Temper temper)
{
    float tile[2 * LANES], peak[LANES], by[LANES];
    const Columns written = {out->shares ? out->shares : out->logs, class_step, lane_step, NATIVE};
    int left = out->found != NULL;
    NAME(load_tile)(x, 0, 2, width, lanes, tile);
    if (out->lse)
        left |= NAME(sums_of_pairs)(tile, lanes, width, out->lse, temper);
    if (out->logs)
        left |= NAME(tails_of_pairs)(tile, lanes, pairs->tails, temper);
    if (out->shares)
        left |= NAME(shares_of_pairs)(tile, lanes, pairs->shares, temper);
    if (left)
        return 0;
    for (int lane = 0; lane < lanes; lane += STRIP)
        for (int c = 0; c < 2; c++) {
            NAME(ask_for)(NAME(ahead_of)(x, 2, 0, lane), c);
            if (written.data)
                NAME(ask_for)(NAME(ahead_of)(&written, 2, 0, lane), c);
        }
    if (out->logs) {
        for (int lane = 0; lane < lanes; lane++) {
            by[lane] = (float)pairs->tails[lane];
            peak[lane] = NAME(larger)(tile[lane], tile[LANES + lane]);
        }
        for (int lane = 0; lane < lanes; lane += STRIP)
            NAME(strip_logs)(tile + lane, 2, peak + lane, by + lane, temper);
        NAME(store_tile)(tile, 2, width, out->logs, class_step, lane_step);
    }
    if (out->shares)
        NAME(store_tile)(pairs->shares, 2, width, out->shares, class_step, lane_step);
    return 1;
}
#endif

INLINE void NAME(normalise_lanes)(
    const Columns *x, Py_ssize_t n_classes, int width, Normal out, Py_ssize_t class_step, Py_ssize_t lane_step,
        const int lanes, const Temper temper)
{
    const _Bool kept = n_classes <= TILED; /* otherwise a tile holds one group of classes at a time, and terms are kept in the result */
    REAL tile[TILED * LANES], peak[LANES], base[LANES], lowest[LANES], ties[LANES];
    UINT biases[LANES];
    double sums[LANES], lows[LANES], tops[LANES], gs[LANES], tails[LANES], totals[LANES];
#if SINGLE
    NAME(Pairs) pairs;
    const _Bool paired = n_classes == 2;
    if (paired && NAME(normalise_pairs)(x, width, &out, class_step, lane_step, lanes, &pairs, temper))
        return;
#else
    const _Bool paired = 0;
#endif
    for (int lane = 0; lane < lanes; lane++)
        peak[lane] = -(REAL)INFINITY;
    for (Py_ssize_t start = 0; start < n_classes && GOES_ON(start, 14); start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        REAL *const some = kept ? tile + start * LANES : tile;
        if (!kept && x->lane_step == SIZE_OF(x->kind))
            for (Py_ssize_t c = start + GROUP; c < start + 2 * GROUP && c < n_classes; c++)
                ask_for_all(x->data + c * x->class_step, width * x->lane_step);
        NAME(load_tile)(x, start, classes, width, lanes, some);
        for (int lane = 0; lane < lanes; lane += STRIP)
            NAME(peaks_of_strip)(some + lane, classes, peak + lane);
    }
    const Columns written = {out.shares ? out.shares : out.logs ? out.logs : x->data, class_step, lane_step, NATIVE};
    REAL most[LANES], largest[LANES], by[LANES], low[LANES];
    for (int lane = 0; lane < lanes; lane++) {
        const REAL n = NAME(base_of)(peak[lane], temper);
        base[lane] = n;
        lowest[lane] = NAME(lowest)(n, temper);
        biases[lane] = NAME(bias)(n);
        sums[lane] = lows[lane] = 0.0;
        ties[lane] = 0;
    }
    for (Py_ssize_t start = 0; start < n_classes && GOES_ON(start, 14); start += kept ? TILED : GROUP) {
        const int classes = kept ? (int)n_classes : NAME(group)(n_classes, start);
        if (!kept)
            NAME(load_tile)(x, start, classes, width, lanes, tile);
        for (int lane = 0; lane < lanes; lane += STRIP) {
            const NAME(Ahead) next = NAME(ahead_of)(x, n_classes, start, lane);
            const NAME(Ahead) after = NAME(ahead_of)(&written, n_classes, start, lane);
            if (out.shares)
                NAME(add_strip_terms)(
                    tile + lane, classes, peak + lane, lowest + lane, biases + lane, next, after, sums + lane,
                    lows + lane, ties + lane, 1, temper);
            else
                NAME(add_strip_terms)(
                    tile + lane, classes, peak + lane, lowest + lane, biases + lane, next, after, sums + lane,
                    lows + lane, ties + lane, 0, temper);
        }
        if (!kept && out.shares)
            NAME(store_tile)(tile, classes, width, out.shares + start * class_step, class_step, lane_step);
    }
    int far = 0, small = 0;
    for (int lane = 0; lane < lanes; lane++) {
        most[lane] = NAME(whole_term)(peak[lane], lowest[lane], biases[lane], temper);
        sums[lane] += lows[lane];
        far |= NAME(is_far)(peak[lane], temper);
        tops[lane] = (double)peak[lane];
    }
    /* few classes take no longer than their row's divisions: only those that are needed */
    if (out.shares) {
        for (int lane = 0; lane < lanes; lane++) {
            const double inverse = 1.0 / (sums[lane] + (double)ties[lane] * (double)most[lane]);
            by[lane] = (REAL)inverse;
            low[lane] = (REAL)(inverse - (double)by[lane]);
            largest[lane] = most[lane];
        }
        if (!(SINGLE && FUSED))
            for (int lane = 0; lane < lanes; lane++)
                largest[lane] =
                    (REAL)((double)most[lane] / (sums[lane] + (double)ties[lane] * (double)most[lane]));
        for (Py_ssize_t start = 0; start < n_classes && GOES_ON(start, 14); start += kept ? TILED : GROUP) {
            const int classes = kept ? (int)n_classes : NAME(group)(n_classes, start);
            if (!kept)
                NAME(load_tile)(&written, start, classes, width, lanes, tile);
            for (int lane = 0; lane < lanes; lane += STRIP)
                NAME(scale_strip)(tile + lane, classes, most + lane, largest + lane, by + lane, low + lane);
            if (!kept)
                NAME(store_tile)(tile, classes, width, out.shares + start * class_step, class_step, lane_step);
        }
#if SINGLE
        if (paired)
            for (int i = 0; i < 2 * LANES; i++)
                tile[i] = i % LANES < lanes && pairs.shares[i] == pairs.shares[i] ? pairs.shares[i] : tile[i];
#endif
    }
    if (out.found)
        for (int lane = 0; lane < lanes; lane++)
            totals[lane] = sums[lane] / (double)most[lane] + (double)ties[lane];
    if (out.lse || out.logs || out.found) {
        for (int lane = 0; lane < lanes; lane++) {
            const double rest = sums[lane];
            NAME(sum_of_others)(rest, (double)ties[lane], (double)most[lane], base[lane], &sums[lane], &gs[lane], temper);
            small |= sums[lane] < TINY;
        }
        NAME(likelihoods)(sums, gs, tops, tails, lanes, temper.rate);
        if (small && n_classes > 1)
            for (int lane = 0; lane < width; lane++) /* each by itself, whatever rows are beside it */
                if (sums[lane] < TINY && !NAME(is_far)(peak[lane], temper))
                    tails[lane] = NAME(exact_tail)(
                        x->data + lane * x->lane_step, x->class_step, x->kind, n_classes, tops[lane], temper);
        if (out.lse && !paired)
            for (int lane = 0; lane < width; lane++)
                out.lse[lane] = tops[lane] * temper.rate + tails[lane];
        if (out.found)
            for (int lane = 0; lane < width; lane++) {
                out.found->top[lane] = tops[lane];
                out.found->tail[lane] = tails[lane];
                out.found->total[lane] = totals[lane];
            }
        if (out.logs) {
            for (int lane = 0; lane < lanes; lane++)
                by[lane] = (REAL)tails[lane];
#if SINGLE
            if (paired)
                for (int lane = 0; lane < lanes; lane++)
                    by[lane] = pairs.tails[lane] == pairs.tails[lane] ? (float)pairs.tails[lane] : by[lane];
#endif
            for (Py_ssize_t start = 0; start < n_classes && GOES_ON(start, 14); start += kept ? TILED : GROUP) {
                const int classes = kept ? (int)n_classes : NAME(group)(n_classes, start);
                if (!kept)
                    NAME(load_tile)(x, start, classes, width, lanes, tile);
                for (int lane = 0; lane < lanes; lane += STRIP)
                    NAME(strip_logs)(tile + lane, classes, peak + lane, by + lane, temper);
                if (!kept)
                    NAME(store_tile)(tile, classes, width, out.logs + start * class_step, class_step, lane_step);
            }
        }
    }
    if (kept && (out.shares || out.logs))
        NAME(store_tile)(tile, (int)n_classes, width, out.shares ? out.shares : out.logs, class_step, lane_step);
    if (far)
        for (int lane = 0; lane < width; lane++)
            if (NAME(is_far)(peak[lane], temper))
                NAME(normalise_exactly)(
                    x->data + lane * x->lane_step, x->class_step, x->kind, n_classes, tops[lane],
                    out.lse ? out.lse + lane : NULL, out.logs ? out.logs + lane * lane_step : NULL,
                    out.shares ? out.shares + lane * lane_step : NULL, class_step, out.found, lane, temper);
}

/* Rows, one in each lane. */
static void NAME(normalise_columns)(
    const Columns *x, Py_ssize_t n_classes, int width, const Normal *out, Py_ssize_t class_step, Py_ssize_t lane_step,
        const Temper temper)
{
    if (width <= NARROW)
        NAME(normalise_lanes)(x, n_classes, width, *out, class_step, lane_step, NARROW, temper);
    else
        NAME(normalise_lanes)(x, n_classes, width, *out, class_step, lane_step, LANES, temper);
}

/* --- rows one after the other ------------------------------------------------------------------------------------------ */

/* The largest of n elements; may drop a number where there is a NaN: the row is NaN then. */
INLINE REAL NAME(row_top)(const REAL *RESTRICT x, Py_ssize_t n)
{
    REAL tops[STEP];
    Py_ssize_t i = 0;
    IN_LANES
    for (int k = 0; k < STEP; k++)
        tops[k] = -(REAL)INFINITY;
    for (; i + BLOCK <= n; i += BLOCK)
        IN_LANES
        for (int k = 0; k < STEP; k++) {
            const REAL *v = x + i + k;
            const REAL most = NAME(larger)(NAME(larger)(v[0], v[STEP]), NAME(larger)(v[2 * STEP], v[3 * STEP]));
            tops[k] = NAME(larger)(most, tops[k]);
        }
    for (; i + STEP <= n; i += STEP)
        IN_LANES
        for (int k = 0; k < STEP; k++)
            tops[k] = NAME(larger)(x[i + k], tops[k]);
    if (i < n && n >= STEP) /* some once more */
        IN_LANES
        for (int k = 0; k < STEP; k++)
            tops[k] = NAME(larger)(x[n - STEP + k], tops[k]);
    else
        for (; i < n; i++)
            tops[0] = NAME(larger)(x[i], tops[0]);
    IN_LANES
    for (int k = 0; k < 8; k++)
        tops[k] = NAME(larger)(tops[k + 8], tops[k]);
    IN_LANES
    for (int k = 0; k < 4; k++)
        tops[k] = NAME(larger)(tops[k + 4], tops[k]);
    return NAME(larger)(NAME(larger)(tops[0], tops[1]), NAME(larger)(tops[2], tops[3]));
}

/* Terms of n elements, added up by fours in REAL, then in float64: those below the maximum, and how many equal it.  With `keeps` also
written, and with a WHOLE_SUM none is counted.  Memory is asked for what comes AHEAD of x and of `written`, while it is idle. */
INLINE void NAME(add_row_terms)(
    const REAL *RESTRICT x, Py_ssize_t n, REAL top, REAL lowest, UINT bias, double *RESTRICT sums, UINT *RESTRICT ties,
    REAL *RESTRICT out, const REAL *written, const int keeps, const Temper temper)
{
    const REAL none = 0.0;
    const _Bool whole = WHOLE_SUM && keeps;
    Py_ssize_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK) {
        const REAL *RESTRICT from = x + i;
        REAL *RESTRICT to = keeps ? out + i : NULL;
        ask_ahead(from, BLOCK * sizeof(REAL));
        ask_ahead(written + i, BLOCK * sizeof(REAL));
        IN_LANES
        for (int k = 0; k < STEP; k++) {
            const REAL p = from[k], q = from[k + STEP], r = from[k + 2 * STEP], s = from[k + 3 * STEP];
            const REAL t = NAME(whole_term)(p, lowest, bias, temper), u = NAME(whole_term)(q, lowest, bias, temper);
            const REAL v = NAME(whole_term)(r, lowest, bias, temper), w = NAME(whole_term)(s, lowest, bias, temper);
            const REAL first = (!whole && p == top ? none : t) + (!whole && q == top ? none : u);
            const REAL second = (!whole && r == top ? none : v) + (!whole && s == top ? none : w);
            sums[k] += (double)(first + second);
            if (!whole)
                ties[k] += (UINT)(p == top) + (UINT)(q == top) + ((UINT)(r == top) + (UINT)(s == top));
            if (keeps) {
                to[k] = t;
                to[k + STEP] = u;
                to[k + 2 * STEP] = v;
                to[k + 3 * STEP] = w;
            }
        }
    }
    for (; i + STEP <= n; i += STEP) {
        ask_ahead(x + i, STEP * sizeof(REAL));
        ask_ahead(written + i, STEP * sizeof(REAL));
        IN_LANES
        for (int k = 0; k < STEP; k++) {
            const REAL p = x[i + k], t = NAME(whole_term)(p, lowest, bias, temper);
            sums[k] += (double)(!whole && p == top ? none : t);
            if (!whole)
                ties[k] += (UINT)(p == top);
            if (keeps)
                out[i + k] = t;
        }
    }
    if (i == n)
        return;
    if (n >= STEP) { /* some once more, which are not counted twice */
        const UINT done = (UINT)(STEP - (n - i));
        IN_LANES
        for (int k = 0; k < STEP; k++) {
            const REAL p = x[n - STEP + k], t = NAME(whole_term)(p, lowest, bias, temper);
            const _Bool is_new = (UINT)k >= done;
            sums[k] += (double)(is_new & (whole | (p != top)) ? t : none);
            if (!whole)
                ties[k] += (UINT)(is_new & (p == top));
            if (keeps)
                out[n - STEP + k] = t;
        }
        return;
    }
    for (int k = 0; i < n; i++, k++) {
        const REAL t = NAME(whole_term)(x[i], lowest, bias, temper);
        sums[k] += (double)(!whole && x[i] == top ? none : t);
        if (!whole)
            ties[k] += (UINT)(x[i] == top);
        if (keeps)
            out[i] = t;
    }
}

/* How many elements of a row are read at once. */
INLINE Py_ssize_t NAME(row_span)(int kind)
{
    return !SINGLE ? SPAN / 4 : kind == NATIVE ? MOST_AT_ONCE : SPAN;
}

INLINE REAL NAME(top_of_row)(const char *x, int kind, Py_ssize_t n_elements)
{
    const Py_ssize_t span = kind == NATIVE ? MOST_AT_ONCE : SPAN, size = SIZE_OF(kind);
    REAL scratch[SPAN], top = -(REAL)INFINITY;
    for (Py_ssize_t start = 0; start < n_elements && GOES_ON(start, 20); start += span) {
        const Py_ssize_t n = n_elements - start < span ? n_elements - start : span;
        top = NAME(larger)(NAME(row_top)(NAME(staged)(x + start * size, size, kind, n, scratch), n), top);
    }
    return top;
}

/* The sum of a row's terms below its maximum, and how many equal it. */
INLINE double NAME(row_terms)(
    const char *x, int kind, Py_ssize_t n_elements, REAL top, REAL lowest, UINT bias, double *ties, REAL *out,
    const REAL *written, const int keeps, const Temper temper)
{
    const Py_ssize_t span = NAME(row_span)(kind), size = SIZE_OF(kind);
    REAL scratch[SPAN];
    UINT counts[STEP] = {0};
    double sums[STEP] = {0.0};
    Lanes lanes = {{0.0}, {0.0}};
    for (Py_ssize_t start = 0; start < n_elements && GOES_ON(start, 20); start += span) {
        const Py_ssize_t n = n_elements - start < span ? n_elements - start : span;
        const REAL *p = NAME(staged)(x + start * size, size, kind, n, scratch);
        NAME(add_row_terms)(
            p, n, top, lowest, bias, sums, counts, keeps ? out + start : NULL, written + start, keeps, temper);
        if (!SINGLE)
            take_up(&lanes, sums);
    }
    UINT count = 0;
    IN_LANES
    for (int k = 0; k < STEP; k++)
        count += counts[k];
    *ties = (double)(int64_t)count;
    return SINGLE ? NAME(folded)(sums) : total_of(&lanes);
}

/* Terms become probabilities, where they are. */
INLINE void NAME(scale_row)(REAL *RESTRICT x, Py_ssize_t n, REAL most, REAL largest, REAL by, REAL low)
{
    REAL last[STEP];
    Py_ssize_t i = 0;
    if (n >= STEP)
        IN_LANES
        for (int k = 0; k < STEP; k++)
            last[k] = NAME(share)(x[n - STEP + k], most, largest, by, low);
    for (; i + STEP <= n; i += STEP)
        IN_LANES
        for (int k = 0; k < STEP; k++)
            x[i + k] = NAME(share)(x[i + k], most, largest, by, low);
    if (n >= STEP)
        memcpy(x + n - STEP, last, sizeof last);
    else
        for (; i < n; i++)
            x[i] = NAME(share)(x[i], most, largest, by, low);
}

/* out = (x - top) / T - tail, which keeps a small tail. */
INLINE void NAME(row_logs)(const REAL *RESTRICT x, Py_ssize_t n, REAL top, REAL tail, REAL *RESTRICT out, const Temper temper)
{
    Py_ssize_t i = 0;
    for (; i + STEP <= n; i += STEP)
        IN_LANES
        for (int k = 0; k < STEP; k++)
            out[i + k] = NAME(gap)(x[i + k], top, temper) - tail;
    if (i < n && n >= STEP) /* some once more */
        IN_LANES
        for (int k = 0; k < STEP; k++)
            out[n - STEP + k] = NAME(gap)(x[n - STEP + k], top, temper) - tail;
    else
        for (; i < n; i++)
            out[i] = NAME(gap)(x[i], top, temper) - tail;
}

/* Up to TOGETHER rows of contiguous classes; where each begins, and where what is made of it goes.  What is done once per row is done
for all of them at once, and nothing waits for it. */
static void NAME(normalise_rows)(
    const char *const *x, int kind, Py_ssize_t n, int n_rows, double *lse, char *const *logs, char *const *shares,
    Rows *found, const Temper temper)
{
    const Py_ssize_t size = SIZE_OF(kind), out_step = sizeof(REAL);
    REAL peak[TOGETHER], base[TOGETHER], lowest[TOGETHER], most[TOGETHER], largest[TOGETHER], by[TOGETHER], low[TOGETHER];
    UINT biases[TOGETHER];
    double rest[TOGETHER], ties[TOGETHER], s[TOGETHER], g[TOGETHER], tops[TOGETHER], tails[TOGETHER], totals[TOGETHER];
    IN_LANES
    for (int k = 0; k < TOGETHER; k++) {
        peak[k] = 0.0;
        rest[k] = ties[k] = 1.0;
    }
    for (int k = 0; k < n_rows; k++)
        peak[k] = NAME(top_of_row)(x[k], kind, n);
    IN_LANES
    for (int k = 0; k < TOGETHER; k++) {
        base[k] = NAME(base_of)(peak[k], temper);
        lowest[k] = NAME(lowest)(base[k], temper);
        biases[k] = NAME(bias)(base[k]);
        most[k] = NAME(whole_term)(peak[k], lowest[k], biases[k], temper);
        tops[k] = (double)peak[k];
    }
    for (int k = 0; k < n_rows; k++) {
        REAL *const out = shares ? (REAL *)shares[k] : NULL;
        /* logarithms are written next, and so is what they lie in asked for; without results no more than x */
        const char *const written = shares ? shares[k] : logs ? logs[k] - AHEAD : x[k];
        if (shares)
            rest[k] = NAME(row_terms)(
                x[k], kind, n, peak[k], lowest[k], biases[k], &ties[k], out, (const REAL *)written, 1, temper);
        else
            rest[k] = NAME(row_terms)(
                x[k], kind, n, peak[k], lowest[k], biases[k], &ties[k], NULL, (const REAL *)written, 0, temper);
    }
    if (shares) {
        IN_LANES
        for (int k = 0; k < TOGETHER; k++) {
            const double total = rest[k] + ties[k] * (double)most[k], inverse = 1.0 / total;
            largest[k] = (REAL)((double)most[k] / total);
            by[k] = (REAL)inverse;
            low[k] = (REAL)(inverse - (double)by[k]);
        }
        for (int k = 0; k < n_rows; k++)
            NAME(scale_row)((REAL *)shares[k], n, most[k], largest[k], by[k], low[k]);
    }
    if (lse || logs || found) {
        IN_LANES
        for (int k = 0; k < TOGETHER; k++) {
            totals[k] = rest[k] / (double)most[k] + ties[k];
            NAME(sum_of_others)(rest[k], ties[k], (double)most[k], base[k], &s[k], &g[k], temper);
        }
        NAME(likelihoods)(s, g, tops, tails, TOGETHER, temper.rate);
    }
    for (int k = 0; k < n_rows; k++) {
        if (NAME(is_far)(peak[k], temper)) {
            NAME(normalise_exactly)(
                x[k], size, kind, n, tops[k], lse ? lse + k : NULL, logs ? logs[k] : NULL, shares ? shares[k] : NULL,
                out_step, found, k, temper);
            continue;
        }
        if (!lse && !logs && !found)
            continue;
        if (s[k] < TINY && n > 1)
            tails[k] = NAME(exact_tail)(x[k], size, kind, n, tops[k], temper);
        if (lse)
            lse[k] = tops[k] * temper.rate + tails[k];
        if (found) {
            found->top[k] = tops[k];
            found->tail[k] = tails[k];
            found->total[k] = totals[k];
        }
        if (!logs)
            continue;
        if (kind == NATIVE)
            NAME(row_logs)((const REAL *)x[k], n, peak[k], (REAL)tails[k], (REAL *)logs[k], temper);
        else
            NAME(log_probabilities)(x[k], kind, n, tops[k], tails[k], logs[k], temper);
    }
}
