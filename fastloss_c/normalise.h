/* logsumexp, log-softmax and softmax of rows whose maximum is taken first, each exponential computed once.

Included as often as softmax.h, after columns.h.  Terms are exp(x) 2^-n, with n so far below the maximum's power of two that
no probability that can be told from 0 is cut off.  Those below the maximum are added up, those that equal it counted: what comes on top of
the maximum keeps its digits however small it is.  Softmax leaves its terms where the probabilities go, and scales them there. */

#ifndef FASTLOSS_NORMALISE
#define FASTLOSS_NORMALISE

enum { TILED = 128 };    /* classes of rows that are taken LANES at a time */
enum { TOGETHER = 16 };  /* longer rows whose logarithms are taken at once */

/* What is made of rows: each may be absent. */
typedef struct {
    double *lse;
    char *logs, *shares; /* log-softmax and softmax: not both */
} Normal;

#endif

/* The probability of a term: times by + low.  The largest is rounded once: the only class of a row gets 1. */
INLINE REAL NAME(share)(REAL e, REAL most, REAL largest, REAL by, REAL low)
{
    const REAL share = MULTIPLY_ADD(e, by, e * low); /* which of the products is fused must not be left to the compiler */
    return e == most ? largest : share;
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

/* Whether a row's maximum is too large for this type's exponentials, or infinite, or there is none. */
INLINE _Bool NAME(is_far)(REAL top, const Temper temper)
{
    return !(ABS(top) <= LIMIT);
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
    Py_ssize_t out_step, const Temper temper)
{
    const double tail = NAME(exact_tail)(x, step, kind, n, top, temper);
    const _Bool finite = top - top == 0.0;
    *lse = finite ? top * temper.rate + tail : infinite_sum(x, step, kind, n, top);
    const double total = finite ? exp_double(tail) : NAN; /* `tail` may be NaN */
    for (Py_ssize_t i = 0; i < n; i++) {
        const double v = element(x + i * step, kind);
        if (logs)
            *(REAL *)(logs + i * out_step) = NAME(gap)((REAL)v, (REAL)top, temper) - (REAL)tail;
        if (shares)
            *(REAL *)(shares + i * out_step) = (REAL)(exp_double((v - top) * temper.rate) / total);
    }
}

/* --- rows across lanes ------------------------------------------------------------------------------------------------- */

/* Terms of LANES rows, added up: those below the maximum, and how many equal it.  With `keeps` they take the place of the logits. */
INLINE void NAME(add_lane_terms)(
    REAL *RESTRICT tile, int classes, const REAL *RESTRICT peak, const REAL *RESTRICT lowest, const UINT *RESTRICT biases,
    double *RESTRICT sums, double *RESTRICT lows, REAL *RESTRICT ties, const int lanes, const int keeps,
    const Temper temper)
{
    int c = 0;
    for (; c + 2 <= classes; c += 2) {
        REAL *RESTRICT p = tile + c * LANES, *RESTRICT q = p + LANES;
        for (int lane = 0; lane < lanes; lane++) {
            const REAL a = p[lane], b = q[lane], most = peak[lane];
            const REAL u = NAME(whole_term)(a, lowest[lane], biases[lane], temper), v = NAME(whole_term)(b,
                lowest[lane], biases[lane], temper);
            const REAL below = (a == most ? (REAL)0.0 : u) + (b == most ? (REAL)0.0 : v);
            ties[lane] += (a == most ? (REAL)1.0 : (REAL)0.0) + (b == most ? (REAL)1.0 : (REAL)0.0);
            if (SINGLE)
                sums[lane] += (double)below;
            else
                accumulate(&sums[lane], &lows[lane], (double)below);
            if (keeps) {
                p[lane] = u;
                q[lane] = v;
            }
        }
    }
    if (c < classes) {
        REAL *RESTRICT p = tile + c * LANES;
        for (int lane = 0; lane < lanes; lane++) {
            const REAL a = p[lane], u = NAME(whole_term)(a, lowest[lane], biases[lane], temper);
            ties[lane] += a == peak[lane] ? (REAL)1.0 : (REAL)0.0;
            sums[lane] += a == peak[lane] ? 0.0 : (double)u;
            if (keeps)
                p[lane] = u;
        }
    }
}

INLINE void NAME(normalise_lanes)(
    const Columns *x, int n_classes, int width, Normal out, Py_ssize_t class_step, Py_ssize_t lane_step,
        const int lanes, const Temper temper)
{
    REAL tile[TILED * LANES], peak[LANES], base[LANES], lowest[LANES], ties[LANES];
    UINT biases[LANES];
    double sums[LANES], lows[LANES], tops[LANES], gs[LANES], tails[LANES];
    for (int lane = 0; lane < lanes; lane++)
        peak[lane] = -(REAL)INFINITY;
    for (Py_ssize_t start = 0; start < n_classes; start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        NAME(load_tile)(x, start, classes, width, lanes, tile + start * LANES);
    }
    int c = 0;
    for (; c + 4 <= n_classes; c += 4)
        for (int lane = 0; lane < lanes; lane++) {
            const REAL *v = tile + c * LANES + lane;
            const REAL ab = NAME(larger)(v[0], v[LANES]), cd = NAME(larger)(v[2 * LANES], v[3 * LANES]);
            const REAL most = NAME(larger)(ab, cd); /* may drop a number where there is a NaN: the row is NaN then */
            peak[lane] = NAME(larger)(most, peak[lane]);
        }
    for (; c < n_classes; c++)
        for (int lane = 0; lane < lanes; lane++)
            peak[lane] = NAME(larger)(tile[c * LANES + lane], peak[lane]);
    for (int lane = 0; lane < lanes; lane++) {
        const REAL n = NAME(base_of)(peak[lane], temper);
        base[lane] = n;
        lowest[lane] = NAME(lowest)(n, temper);
        biases[lane] = NAME(bias)(n);
        sums[lane] = lows[lane] = 0.0;
        ties[lane] = 0;
    }
    if (out.shares)
        NAME(add_lane_terms)(tile, n_classes, peak, lowest, biases, sums, lows, ties, lanes, 1, temper);
    else
        NAME(add_lane_terms)(tile, n_classes, peak, lowest, biases, sums, lows, ties, lanes, 0, temper);
    REAL most[LANES], largest[LANES], by[LANES], low[LANES];
    int far = 0, small = 0;
    for (int lane = 0; lane < lanes; lane++) {
        most[lane] = NAME(whole_term)(peak[lane], lowest[lane], biases[lane], temper);
        const double rest = sums[lane] + lows[lane], total = rest + (double)ties[lane] * (double)most[lane];
        largest[lane] = (REAL)((double)most[lane] / total);
        by[lane] = (REAL)(1.0 / total);
        low[lane] = (REAL)(1.0 / total - (double)by[lane]);
        far |= NAME(is_far)(peak[lane], temper);
        NAME(sum_of_others)(rest, (double)ties[lane], (double)most[lane], base[lane], &sums[lane], &gs[lane], temper);
        small |= sums[lane] < TINY;
        tops[lane] = (double)peak[lane];
    }
    if (out.shares)
        for (c = 0; c < n_classes; c++)
            for (int lane = 0; lane < lanes; lane++) {
                const REAL e = tile[c * LANES + lane];
                tile[c * LANES + lane] = NAME(share)(e, most[lane], largest[lane], by[lane], low[lane]);
            }
    if (out.lse || out.logs) {
        NAME(likelihoods)(sums, gs, tops, tails, lanes, temper.rate);
        if (small && n_classes > 1)
            for (int lane = 0; lane < width; lane++) /* each by itself, whatever rows are beside it */
                if (sums[lane] < TINY && !NAME(is_far)(peak[lane], temper))
                    tails[lane] = NAME(exact_tail)(
                        x->data + lane * x->lane_step, x->class_step, x->kind, n_classes, tops[lane], temper);
        if (out.lse)
            for (int lane = 0; lane < width; lane++)
                out.lse[lane] = tops[lane] * temper.rate + tails[lane];
        if (out.logs) {
            for (int lane = 0; lane < lanes; lane++)
                by[lane] = (REAL)tails[lane];
            for (c = 0; c < n_classes; c++)
                for (int lane = 0; lane < lanes; lane++)
                    tile[c * LANES + lane] = NAME(gap)(tile[c * LANES + lane], peak[lane], temper) - by[lane];
        }
    }
    if (out.shares || out.logs)
        NAME(store_tile)(tile, n_classes, width, out.shares ? out.shares : out.logs, class_step, lane_step);
    if (far)
        for (int lane = 0; lane < width; lane++)
            if (NAME(is_far)(peak[lane], temper)) {
                double unused;
                NAME(normalise_exactly)(
                    x->data + lane * x->lane_step, x->class_step, x->kind, n_classes, tops[lane],
                    out.lse ? out.lse + lane : &unused, out.logs ? out.logs + lane * lane_step : NULL,
                    out.shares ? out.shares + lane * lane_step : NULL, class_step, temper);
            }
}

/* Rows of at most TILED classes, one in each lane. */
static void NAME(normalise_columns)(
    const Columns *x, int n_classes, int width, const Normal *out, Py_ssize_t class_step, Py_ssize_t lane_step,
        const Temper temper)
{
    if (width <= NARROW)
        NAME(normalise_lanes)(x, n_classes, width, *out, class_step, lane_step, NARROW, temper);
    else
        NAME(normalise_lanes)(x, n_classes, width, *out, class_step, lane_step, LANES, temper);
}

/* --- rows one after the other ------------------------------------------------------------------------------------------ */

/* Terms of whole blocks, added up by fours in REAL, then in float64; with `keeps` also written. */
INLINE void NAME(add_row_terms)(
    const REAL *RESTRICT x, Py_ssize_t n_blocks, REAL top, REAL lowest, UINT bias, double *RESTRICT sums,
    REAL *RESTRICT ties, REAL *RESTRICT out, const int keeps, const Temper temper)
{
    const REAL none = 0.0, one = 1.0;
    for (Py_ssize_t b = 0; b < n_blocks; b++, x += BLOCK) {
        for (int k = 0; k < 16; k++) {
            const REAL p = x[k], q = x[k + 16], r = x[k + 32], s = x[k + 48];
            const REAL t = NAME(whole_term)(p, lowest, bias, temper), u = NAME(whole_term)(q, lowest, bias, temper);
            const REAL v = NAME(whole_term)(r, lowest, bias, temper), w = NAME(whole_term)(s, lowest, bias, temper);
            sums[k] += (double)(((p == top ? none : t) + (q == top ? none : u)) + ((r == top ? none : v) + (s == top ? none : w)));
            ties[k] += ((p == top ? one : none) + (q == top ? one : none)) + ((r == top ? one : none) + (s == top ? one : none));
            if (keeps) {
                out[k] = t;
                out[k + 16] = u;
                out[k + 32] = v;
                out[k + 48] = w;
            }
        }
        if (keeps)
            out += BLOCK;
    }
}

/* The sum of a row's terms below its maximum, and how many equal it. */
INLINE double NAME(row_terms)(
    const char *x, int kind, Py_ssize_t n_elements, REAL top, REAL n, double *ties, REAL *out, const int keeps,
        const Temper temper)
{
    const REAL lowest = NAME(lowest)(n, temper);
    const UINT bias = NAME(bias)(n);
    const Py_ssize_t span = !SINGLE ? SPAN / 4 : kind == NATIVE ? MOST_AT_ONCE : SPAN, size = SIZE_OF(kind);
    REAL scratch[SPAN], block[BLOCK], counts[16] = {0};
    double sums[16] = {0.0};
    Lanes lanes = {{0.0}, {0.0}};
    for (Py_ssize_t start = 0; start < n_elements && GOES_ON(start, 20); start += span) {
        const Py_ssize_t m = n_elements - start < span ? n_elements - start : span, full = m / BLOCK, rest = m % BLOCK;
        const REAL *p = NAME(staged)(x + start * size, size, kind, m, scratch);
        REAL *to = keeps ? out + start : NULL;
        NAME(add_row_terms)(p, full, top, lowest, bias, sums, counts, to, keeps, temper);
        if (rest) {
            NAME(padded)(p + full * BLOCK, rest, block);
            REAL terms[BLOCK];
            NAME(add_row_terms)(block, 1, top, lowest, bias, sums, counts, terms, keeps, temper);
            if (keeps)
                memcpy(to + full * BLOCK, terms, rest * sizeof(REAL));
        }
        if (!SINGLE)
            take_up(&lanes, sums);
    }
    *ties = 0.0;
    for (int k = 0; k < 16; k++)
        *ties += (double)counts[k];
    return SINGLE ? NAME(folded)(sums) : total_of(&lanes);
}

/* Up to TOGETHER rows of contiguous classes; where each begins, and where what is made of it goes. */
static void NAME(normalise_rows)(
    const char *const *x, int kind, Py_ssize_t n, int n_rows, double *lse, char *const *logs, char *const *shares,
        const Temper temper)
{
    double s[TOGETHER], g[TOGETHER], tops[TOGETHER], tails[TOGETHER], unused;
    const Py_ssize_t size = SIZE_OF(kind), out_step = sizeof(REAL);
    for (int k = 0; k < TOGETHER; k++)
        s[k] = g[k] = tops[k] = 0.0;
    for (int k = 0; k < n_rows; k++) {
        const REAL top = (REAL)NAME(top_of)(x[k], kind, n), base = NAME(base_of)(top, temper);
        tops[k] = (double)top;
        if (NAME(is_far)(top, temper))
            continue;
        double ties;
        const REAL most = NAME(whole_term)(top, NAME(lowest)(base, temper), NAME(bias)(base), temper);
        if (!shares) {
            const double rest = NAME(row_terms)(x[k], kind, n, top, base, &ties, NULL, 0, temper);
            NAME(sum_of_others)(rest, ties, (double)most, base, &s[k], &g[k], temper);
            continue;
        }
        REAL *RESTRICT out = (REAL *)shares[k];
        const double rest = NAME(row_terms)(x[k], kind, n, top, base, &ties, out, 1, temper),
            total = rest + ties * (double)most;
        const REAL largest = (REAL)((double)most / total), by = (REAL)(1.0 / total), low = (REAL)(1.0 / total - (double)by);
        for (Py_ssize_t i = 0; i < n; i++)
            out[i] = NAME(share)(out[i], most, largest, by, low);
        NAME(sum_of_others)(rest, ties, (double)most, base, &s[k], &g[k], temper);
    }
    if (lse || logs)
        NAME(likelihoods)(s, g, tops, tails, TOGETHER, temper.rate);
    for (int k = 0; k < n_rows; k++) {
        if (NAME(is_far)((REAL)tops[k], temper)) {
            NAME(normalise_exactly)(
                x[k], size, kind, n, tops[k], lse ? lse + k : &unused, logs ? logs[k] : NULL,
                    shares ? shares[k] : NULL, out_step, temper);
            continue;
        }
        if (!lse && !logs)
            continue;
        if (s[k] < TINY && n > 1)
            tails[k] = NAME(exact_tail)(x[k], size, kind, n, tops[k], temper);
        if (lse)
            lse[k] = tops[k] * temper.rate + tails[k];
        if (logs)
            NAME(log_probabilities)(x[k], kind, n, tops[k], tails[k], logs[k], temper);
    }
}
