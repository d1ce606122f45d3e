/* How far the distribution that one row of logits makes is from that of another: the Kullback-Leibler divergence.

Included once for each type, as elementary.h, after normalise.h.  With r the reference's logits and x the others', p and q what they make of
them, and d = log p - log q, the divergence is the sum of p (exp(-d) - 1 + d) over all classes, whose terms are not negative.  Where d is
small they are p d^2 times a polynomial, elsewhere (q - p) + p d; a class of p = 0 adds q.

d = (r - x) - gap, where `gap` is the difference of both logsumexp, is known to rounding errors of sums alone.  That is made up for in the
end: whatever gap the terms were taken with, with k the sum of p (exp(-d) - 1 + d) and s the sum of p d, exp(-d) sums to 1 + (k - s) under p,
so that log q is too large by log1p(k - s), and the divergence is k + (log1p(k - s) - (k - s)). */

#ifndef FASTLOSS_DIVERGENCE
#define FASTLOSS_DIVERGENCE

/* What the first sweep found out about a row, and its logits. */
typedef struct {
    const char *x;
    Py_ssize_t step; /* in bytes */
    int kind;
    double top, tail; /* the maximum, and logsumexp less that */
} Side;

/* Where p (exp(-d) - 1 + d) is taken by the polynomial: |d| <= ln(2) / 2. */
#define NEAR 0.34657359

/* The divergence from k and s, and by how much log q is too large. */
INLINE double finished_divergence(double k, double s, double *excess)
{
    const double a = k - s, kl = k + ((*excess = log1p_double(a)) - a);
    return kl < 0.0 ? 0.0 : kl;
}

/* The same in float64 whatever the logits are, one class at a time: for logits so large that exponentials want it. */
static double exact_divergence(const Side *r, const Side *x, Py_ssize_t n, double *excess)
{
    /* float64 logits may be further apart than float64 reaches: half as far they are not */
    const double gap = (0.5 * r->top - 0.5 * x->top) + (0.5 * r->tail - 0.5 * x->tail);
    const double p_scale = exp_double(-r->tail), q_scale = exp_double(-x->tail);
    double k = 0.0, k_low = 0.0, s = 0.0, s_low = 0.0;
    *excess = 0.0;
    for (Py_ssize_t i = 0; i < n; i++) {
        const double a = element(r->x + i * r->step, r->kind), b = element(x->x + i * x->step, x->kind);
        const double p = exp_of_difference(p_scale, a, r->top), q = exp_of_difference(q_scale, b, x->top);
        if (b == -INFINITY && a > b)
            return INFINITY;
        double low, share = 0.0, term = q;
        if (p != 0.0) {
            const double half = (difference(0.5 * a, 0.5 * b, &low) - gap) + low, d = 2.0 * half;
            share = 2.0 * (p * half);
            term = fabs(d) <= NEAR ? share * d * exp_curve_double(-d) : (q - p) + share;
        }
        accumulate(&k, &k_low, term);
        accumulate(&s, &s_low, share);
    }
    return finished_divergence(k + k_low, s + s_low, excess);
}
#endif

/* What the second sweep takes of each pair of rows. */
typedef struct {
    REAL r_lowest, x_lowest; /* as `term` has them */
    UINT r_bias, x_bias;
    REAL scale;     /* of q relative to p */
    REAL high, low; /* the gap, in two parts */
    double total;   /* the sum of p */
} NAME(Pair);

INLINE void NAME(find_pair)(double r_top, double r_tail, double x_top, double x_tail, NAME(Pair) *pair)
{
    const REAL n = NAME(power_of)((REAL)r_top), m = NAME(power_of)((REAL)x_top);
    const double gap = (r_top - x_top) + (r_tail - x_tail);
    pair->r_lowest = NAME(lowest)(n);
    pair->x_lowest = NAME(lowest)(m);
    pair->r_bias = NAME(bias)(n);
    pair->x_bias = NAME(bias)(m);
    pair->scale = (REAL)exp_double(log_of_power((double)m - (double)n, -gap));
    pair->high = (REAL)gap;
    pair->low = (REAL)(gap - (double)pair->high);
    pair->total = exp_double(r_tail - log_of_power((double)n, r_top));
}

/* p (exp(-d) - 1 + d) of one class, p relative to the power of two of r; its p d to `share`; raises `most` to d. */
INLINE REAL NAME(excess_of)(
    REAL r, REAL x, REAL r_lowest, UINT r_bias, REAL x_lowest, UINT x_bias, REAL scale, REAL high, REAL low, REAL *share, REAL *most)
{
    const REAL p = NAME(whole_term)(r, r_lowest, r_bias), q = scale * NAME(whole_term)(x, x_lowest, x_bias);
    const REAL gap = r - x, back = gap - r, rest = (r - (gap - back)) - (x + back);
    const REAL d = (gap - high) + ((ABS(gap) < (REAL)INFINITY ? rest : (REAL)0.0) - low);
    const REAL pd = p != (REAL)0.0 ? p * d : (REAL)0.0;
    *share = pd;
    *most = d > *most ? d : *most;
    return ABS(d) <= (REAL)NEAR ? pd * d * NAME(exp_curve)(-d) : (q - p) + pd;
}

/* Whether a row's sums can be relied on: not if its logits are too large, or too far apart for what p underflows to. */
INLINE _Bool NAME(is_moderate)(double r_top, double x_top, double most)
{
    return fabs(r_top) <= (double)LIMIT && fabs(x_top) <= (double)LIMIT && most < (SINGLE ? 1e28 : 1e280);
}

/* --- along a row ------------------------------------------------------------------------------------------------------------- */

/* Adds the terms of whole blocks, and their p d, by fours in REAL, then in float64. */
static void NAME(add_excesses)(
    const REAL *RESTRICT r, const REAL *RESTRICT x, Py_ssize_t n_blocks, const NAME(Pair) *pair, double *RESTRICT sums,
    double *RESTRICT shares, REAL *RESTRICT most)
{
    const REAL r_lowest = pair->r_lowest, x_lowest = pair->x_lowest, scale = pair->scale, high = pair->high, low = pair->low;
    const UINT r_bias = pair->r_bias, x_bias = pair->x_bias;
    for (Py_ssize_t b = 0; b < n_blocks; b++, r += BLOCK, x += BLOCK)
        for (int k = 0; k < 16; k++) {
            REAL s0, s1, s2, s3, top = most[k];
            const REAL t0 = NAME(excess_of)(r[k], x[k], r_lowest, r_bias, x_lowest, x_bias, scale, high, low, &s0, &top);
            const REAL t1 = NAME(excess_of)(r[k + 16], x[k + 16], r_lowest, r_bias, x_lowest, x_bias, scale, high, low, &s1, &top);
            const REAL t2 = NAME(excess_of)(r[k + 32], x[k + 32], r_lowest, r_bias, x_lowest, x_bias, scale, high, low, &s2, &top);
            const REAL t3 = NAME(excess_of)(r[k + 48], x[k + 48], r_lowest, r_bias, x_lowest, x_bias, scale, high, low, &s3, &top);
            sums[k] += (double)((t0 + t1) + (t2 + t3));
            shares[k] += (double)((s0 + s1) + (s2 + s3));
            most[k] = top;
        }
}

/* The divergence of a contiguous row from a reference's, of which neither has a NaN or an infinite maximum; and by how much
log q is too large. */
static double NAME(divergence)(const Side *r, const Side *x, Py_ssize_t n, double *excess)
{
    REAL r_scratch[SPAN], x_scratch[SPAN], r_rest[BLOCK], x_rest[BLOCK], most[16], top = -(REAL)INFINITY;
    double sums[16] = {0.0}, shares[16] = {0.0};
    NAME(Pair) pair;
    for (int k = 0; k < 16; k++)
        most[k] = -(REAL)INFINITY;
    NAME(find_pair)(r->top, r->tail, x->top, x->tail, &pair);
    for (Py_ssize_t start = 0; start < n; start += SPAN) {
        const Py_ssize_t m = n - start < SPAN ? n - start : SPAN, whole = m - m % BLOCK;
        const REAL *p = NAME(staged)(r->x + start * r->step, r->step, r->kind, m, r_scratch);
        const REAL *q = NAME(staged)(x->x + start * x->step, x->step, x->kind, m, x_scratch);
        NAME(add_excesses)(p, q, whole / BLOCK, &pair, sums, shares, most);
        if (whole < m) {
            NAME(padded)(p + whole, m - whole, r_rest);
            NAME(padded)(q + whole, m - whole, x_rest);
            NAME(add_excesses)(r_rest, x_rest, 1, &pair, sums, shares, most);
        }
    }
    for (int k = 0; k < 16; k++)
        top = most[k] > top ? most[k] : top;
    if (!NAME(is_moderate)(r->top, x->top, (double)top))
        return exact_divergence(r, x, n, excess);
    return finished_divergence(NAME(folded)(sums) / pair.total, NAME(folded)(shares) / pair.total, excess);
}

/* --- across rows --------------------------------------------------------------------------------------------------------------- */

/* The same of as many rows, (n_classes, rows), as there are lanes; NaN where a maximum is infinite. */
INLINE void NAME(diverge_lanes)(
    const Columns *r, const Columns *x, Py_ssize_t n_classes, int width, const Rows *reference, const Rows *rows, double *kl,
    double *excess, const int lanes)
{
    REAL r_tile[GROUP * LANES], x_tile[GROUP * LANES], r_lowest[LANES], x_lowest[LANES], scale[LANES], high[LANES], low[LANES];
    REAL most[LANES];
    UINT r_bias[LANES], x_bias[LANES];
    double sums[LANES], shares[LANES], totals[LANES];
    for (int lane = 0; lane < lanes; lane++) {
        NAME(Pair) pair;
        NAME(find_pair)(reference->top[lane], reference->tail[lane], rows->top[lane], rows->tail[lane], &pair);
        r_lowest[lane] = pair.r_lowest;
        x_lowest[lane] = pair.x_lowest;
        r_bias[lane] = pair.r_bias;
        x_bias[lane] = pair.x_bias;
        scale[lane] = pair.scale;
        high[lane] = pair.high;
        low[lane] = pair.low;
        totals[lane] = pair.total;
        most[lane] = -(REAL)INFINITY;
        sums[lane] = shares[lane] = 0.0;
    }
    for (Py_ssize_t start = 0; start < n_classes; start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        NAME(load_tile)(r, start, classes, width, lanes, r_tile);
        NAME(load_tile)(x, start, classes, width, lanes, x_tile);
        for (int c = 0; c < classes; c++) {
            const REAL *RESTRICT p = r_tile + c * LANES, *RESTRICT q = x_tile + c * LANES;
            for (int lane = 0; lane < lanes; lane++) {
                REAL share, top = most[lane];
                sums[lane] += (double)NAME(excess_of)(
                    p[lane], q[lane], r_lowest[lane], r_bias[lane], x_lowest[lane], x_bias[lane], scale[lane], high[lane],
                    low[lane], &share, &top);
                shares[lane] += (double)share;
                most[lane] = top;
            }
        }
    }
    for (int lane = 0; lane < width; lane++) {
        if (!(fabs(reference->top[lane]) < INFINITY && fabs(rows->top[lane]) < INFINITY)) {
            kl[lane] = excess[lane] = NAN;
            continue;
        }
        if (NAME(is_moderate)(reference->top[lane], rows->top[lane], (double)most[lane])) {
            kl[lane] = finished_divergence(sums[lane] / totals[lane], shares[lane] / totals[lane], excess + lane);
            continue;
        }
        const Side of = {r->data + lane * r->lane_step, r->class_step, r->kind, reference->top[lane], reference->tail[lane]};
        const Side by = {x->data + lane * x->lane_step, x->class_step, x->kind, rows->top[lane], rows->tail[lane]};
        kl[lane] = exact_divergence(&of, &by, n_classes, excess + lane);
    }
}

static void NAME(diverge_columns)(
    const Columns *r, const Columns *x, Py_ssize_t n_classes, int width, const Rows *reference, const Rows *rows, double *kl,
    double *excess)
{
    if (width <= NARROW)
        NAME(diverge_lanes)(r, x, n_classes, width, reference, rows, kl, excess, NARROW);
    else
        NAME(diverge_lanes)(r, x, n_classes, width, reference, rows, kl, excess, LANES);
}
