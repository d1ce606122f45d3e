/* The Kullback-Leibler divergence of one row of logits from another.

Included as often as softmax.h, after normalise.h.  With r the reference's logits and x the other model's, p and q their softmax, and
d = log p - log q, the divergence is the sum of p (exp(-d) - 1 + d) over all classes, whose terms are not negative.  Where d is small a term
is computed as p d^2 times a polynomial, elsewhere as (q - p) + p d; a class with p = 0 adds q.

d = (r - x) / T - gap, where `gap` is the difference of the two logsumexp, which have rounding errors.  These are corrected for in the end.
For any gap, let k be the sum of p (exp(-d) - 1 + d) and s the sum of p d: then the sum of p exp(-d) is 1 + (k - s), log q is too large by
log1p(k - s), and the divergence is k + (log1p(k - s) - (k - s)). */

#ifndef FASTLOSS_DIVERGENCE
#define FASTLOSS_DIVERGENCE

/* A row's logits, and what the first sweep has found. */
typedef struct {
    const char *x;
    Py_ssize_t step; /* in bytes */
    int kind;
    double top, tail; /* the maximum, and logsumexp minus the maximum divided by T */
} Side;

/* What the likelihood of a row's target is made of, as `scan` finds it: the sum of the others' terms, what they are relative to, and
the row's maximum. */
typedef struct {
    double s, g, most;
} Others;

/* Least share of a sum that the others have to be if they are what is left of it: then next to nothing cancels. */
#define LEAST_OTHERS 1e-4

/* Where p (exp(-d) - 1 + d) is taken by the polynomial: |d| <= ln(2) / 2. */
#define NEAR 0.34657359

/* The divergence from k and s that were taken with this gap, and what that really is, which a large k has no digits for. */
INLINE double finished_divergence(double k, double s, double *gap)
{
    const double a = k - s, excess = log1p_double(a), kl = k + (excess - a);
    *gap -= k < 1.0 ? excess : 0.0;
    return kl < 0.0 ? 0.0 : kl;
}

/* Of so many rows, whose sums are relative to `totals`. */
static void finish_divergences(
    const double *RESTRICT sums, const double *RESTRICT shares, const double *RESTRICT totals, int n, double *RESTRICT kl,
    double *RESTRICT gaps)
{
    for (int i = 0; i < n; i++)
        kl[i] = finished_divergence(sums[i] / totals[i], shares[i] / totals[i], gaps + i);
}

/* The same in float64 for logits of any type, one class at a time: for logits so large that exponentials need it.

The gap's rounding error may be larger than all logarithms of probabilities; then d is the difference of these. */
static double exact_divergence(const Side *r, const Side *x, Py_ssize_t n, double *found, double rate)
{
    if (r->tail != r->tail || x->tail != x->tail)
        return *found = NAN;
    /* the difference of two float64 logits may overflow; that of their halves does not */
    const double gap = (0.5 * r->top - 0.5 * x->top) * rate + (0.5 * r->tail - 0.5 * x->tail);
    const double p_scale = exp_double(-r->tail), q_scale = exp_double(-x->tail);
    double k = 0.0, k_low = 0.0, s = 0.0, s_low = 0.0;
    *found = 2.0 * gap;
    for (Py_ssize_t i = 0; i < n; i++) {
        const double a = element(r->x + i * r->step, r->kind), b = element(x->x + i * x->step, x->kind);
        const double p = exp_of_difference(p_scale, a, r->top, rate), q = exp_of_difference(q_scale, b, x->top, rate);
        if (b == -INFINITY && a > b)
            return INFINITY;
        double low, share = 0.0, term = q;
        if (p != 0.0) {
            const double between = (difference(0.5 * a, 0.5 * b, &low) * rate - gap) + low * rate;
            const double half_p = (0.5 * a - 0.5 * r->top) * rate - 0.5 * r->tail;
            const double half_q = (0.5 * b - 0.5 * x->top) * rate - 0.5 * x->tail;
            const double half = fabs(half_p) + fabs(half_q) < fabs(gap) ? half_p - half_q : between, d = 2.0 * half;
            share = 2.0 * (p * half);
            term = fabs(d) <= NEAR ? share * d * exp_curve_double(-d) : (q - p) + share;
        }
        accumulate(&k, &k_low, term);
        accumulate(&s, &s_low, share);
    }
    return finished_divergence(k + k_low, s + s_low, found);
}
#endif

/* What the second sweep takes of each pair of rows. */
typedef struct {
    REAL r_lowest, x_lowest; /* as `term` has them */
    UINT r_bias, x_bias;
    REAL scale;     /* of q relative to p */
    REAL high, low; /* the gap times T, in two parts */
    double total;   /* the sum of p */
} NAME(Pair);

/* The gap times T. */
INLINE double NAME(gap_of_rows)(double r_top, double r_tail, double x_top, double x_tail, const Temper temper)
{
    return (r_top - x_top) + (r_tail - x_tail) * temper.value;
}

/* The logarithms of `scale` and of `total`, of a reference whose elements are relative to 2^n, and the other row's to 2^m. */
INLINE double NAME(log_of_scale)(REAL n, REAL m, double gap, const Temper temper)
{
    return log_of_power((double)m - (double)n, -gap * temper.rate);
}

INLINE double NAME(log_of_total)(REAL n, double r_top, double r_tail, const Temper temper)
{
    return r_tail - log_of_power((double)n, r_top * temper.rate);
}

INLINE void NAME(find_pair)(
    double r_top, double r_tail, double x_top, double x_tail, NAME(Pair) *pair, const Temper temper)
{
    const REAL n = NAME(power_of)((REAL)r_top, temper), m = NAME(power_of)((REAL)x_top, temper);
    const double gap = NAME(gap_of_rows)(r_top, r_tail, x_top, x_tail, temper);
    pair->r_lowest = NAME(lowest)(n, temper);
    pair->x_lowest = NAME(lowest)(m, temper);
    pair->r_bias = NAME(bias)(n);
    pair->x_bias = NAME(bias)(m);
    pair->scale = (REAL)exp_double(NAME(log_of_scale)(n, m, gap, temper));
    pair->high = (REAL)gap;
    pair->low = (REAL)(gap - (double)pair->high);
    pair->total = exp_double(NAME(log_of_total)(n, r_top, r_tail, temper));
}

/* d from what T times it is. */
INLINE REAL NAME(over_temperature)(REAL d, const Temper temper)
{
#if TEMPERED
    return d * temper.inverse;
#else
    (void)temper;
    return d;
#endif
}

/* p (exp(-d) - 1 + d) of one class, p relative to the power of two of r; its p d to `share`; raises `most` to d. */
INLINE REAL NAME(excess_of)(
    REAL r, REAL x, REAL r_lowest, UINT r_bias, REAL x_lowest, UINT x_bias, REAL scale, REAL high, REAL low,
        REAL *share, REAL *most, const Temper temper)
{
    const REAL p = NAME(whole_term)(r, r_lowest, r_bias, temper);
    const REAL q = scale * NAME(whole_term)(x, x_lowest, x_bias, temper);
    const REAL gap = r - x, back = gap - r, rest = (r - (gap - back)) - (x + back);
    const REAL above = (gap - high) + ((ABS(gap) < (REAL)INFINITY ? rest : (REAL)0.0) - low);
    const REAL d = NAME(over_temperature)(above, temper);
    const REAL pd = p != (REAL)0.0 ? p * d : (REAL)0.0;
    *share = pd;
    *most = d > *most ? d : *most;
    return ABS(d) <= (REAL)NEAR ? pd * d * NAME(exp_curve)(-d) : (q - p) + pd;
}

/* Whether a row's sums are reliable: not if its logits are too large, or so far apart that it matters what p underflows to. */
INLINE _Bool NAME(is_moderate)(double r_top, double x_top, double most, const Temper temper)
{
    return fabs(r_top) <= (double)LIMIT && fabs(x_top) <= (double)LIMIT && most < (SINGLE ? 1e28 : 1e280);
}

/* --- along a row ------------------------------------------------------------------------------------------------------------- */

/* Adds the terms of complete blocks, and their p d: groups of four in REAL, then in float64. */
static void NAME(add_excesses)(
    const REAL *RESTRICT r, const REAL *RESTRICT x, Py_ssize_t n_blocks, const NAME(Pair) *pair, double *RESTRICT sums,
    double *RESTRICT shares, REAL *RESTRICT most, const Temper temper)
{
    const REAL r_lowest = pair->r_lowest, x_lowest = pair->x_lowest, scale = pair->scale, high = pair->high, low = pair->low;
    const UINT r_bias = pair->r_bias, x_bias = pair->x_bias;
    for (Py_ssize_t b = 0; b < n_blocks; b++, r += BLOCK, x += BLOCK)
        for (int k = 0; k < 16; k++) {
            REAL s0, s1, s2, s3, top = most[k];
            const REAL t0 = NAME(excess_of)(r[k], x[k], r_lowest, r_bias, x_lowest, x_bias, scale, high, low, &s0,
                &top, temper);
            const REAL t1 = NAME(excess_of)(r[k + 16], x[k + 16], r_lowest, r_bias, x_lowest, x_bias, scale, high,
                low, &s1, &top, temper);
            const REAL t2 = NAME(excess_of)(r[k + 32], x[k + 32], r_lowest, r_bias, x_lowest, x_bias, scale, high,
                low, &s2, &top, temper);
            const REAL t3 = NAME(excess_of)(r[k + 48], x[k + 48], r_lowest, r_bias, x_lowest, x_bias, scale, high,
                low, &s3, &top, temper);
            sums[k] += (double)((t0 + t1) + (t2 + t3));
            shares[k] += (double)((s0 + s1) + (s2 + s3));
            most[k] = top;
        }
}

/* The divergence of a contiguous row from a reference's, of which neither has a NaN or an infinite maximum; and the difference of
both logsumexp. */
static double NAME(divergence)(const Side *r, const Side *x, Py_ssize_t n, double *gap, const Temper temper)
{
    REAL r_scratch[SPAN], x_scratch[SPAN], r_rest[BLOCK], x_rest[BLOCK], most[16], top = -(REAL)INFINITY;
    double sums[16] = {0.0}, shares[16] = {0.0};
    NAME(Pair) pair;
    for (int k = 0; k < 16; k++)
        most[k] = -(REAL)INFINITY;
    NAME(find_pair)(r->top, r->tail, x->top, x->tail, &pair, temper);
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += SPAN) {
        const Py_ssize_t m = n - start < SPAN ? n - start : SPAN, whole = m - m % BLOCK;
        const REAL *p = NAME(staged)(r->x + start * r->step, r->step, r->kind, m, r_scratch);
        const REAL *q = NAME(staged)(x->x + start * x->step, x->step, x->kind, m, x_scratch);
        NAME(add_excesses)(p, q, whole / BLOCK, &pair, sums, shares, most, temper);
        if (whole < m) {
            NAME(padded)(p + whole, m - whole, r_rest);
            NAME(padded)(q + whole, m - whole, x_rest);
            NAME(add_excesses)(r_rest, x_rest, 1, &pair, sums, shares, most, temper);
        }
    }
    for (int k = 0; k < 16; k++)
        top = most[k] > top ? most[k] : top;
    if (!NAME(is_moderate)(r->top, x->top, (double)top, temper))
        return exact_divergence(r, x, n, gap, temper.rate);
    *gap = ((double)pair.high + (double)pair.low) * temper.rate;
    return finished_divergence(NAME(folded)(sums) / pair.total, NAME(folded)(shares) / pair.total, gap);
}

/* --- along a row, in one sweep ------------------------------------------------------------------------------------------------- */

/* Where `close_curve` does: most classes of models that are alike. */
#undef CLOSE
#define CLOSE ((REAL)(SINGLE ? 0.8 : NEAR))

/* (exp(-d) - 1 + d) / d^2 for |d| <= CLOSE, in float32 to 2^-25. */
INLINE REAL NAME(close_curve)(REAL d)
{
#if SINGLE
    return POLYNOMIAL_7(
        d, 0.500000001671f, -0.166666744647f, 0.0416666270972f, -0.00833234785337f, 0.0013889885731f, -0.000201507184199f,
        2.49038494901e-5f);
#else
    return exp_curve_double(-d);
#endif
}

/* Of four elements of a BLOCK. */
INLINE REAL NAME(four_whole_terms)(const REAL *x, REAL lowest, UINT bias, const Temper temper)
{
    const REAL a = NAME(whole_term)(x[0], lowest, bias, temper), b = NAME(whole_term)(x[16], lowest, bias, temper);
    const REAL c = NAME(whole_term)(x[32], lowest, bias, temper), d = NAME(whole_term)(x[48], lowest, bias, temper);
    return (a + b) + (c + d);
}

/* p (exp(-d) - 1 + d) of a class whose d is small, and its p and p d. */
INLINE REAL NAME(close_excess)(
    REAL r, REAL x, REAL lowest, UINT bias, REAL high, REAL *p, REAL *share, const Temper temper)
{
    const REAL d = NAME(over_temperature)((r - x) - high, temper);
    *p = NAME(whole_term)(r, lowest, bias, temper);
    *share = *p * d;
    return *share * d * NAME(close_curve)(d);
}

/* What one sweep sums up, in lanes; and the largest logits and d. */
typedef struct {
    double totals[16], sums[16], shares[16]; /* of p, p (exp(-d) - 1 + d) and p d */
    double x_totals[16];                     /* of q, where likelihoods are wanted */
    REAL r_tops[16], x_tops[16], most[16];
} NAME(Swept);

/* Whole blocks.  Those in which all d are small need no q, and no second part of a difference. */
static void NAME(sweep_blocks)(
    const REAL *RESTRICT r, const REAL *RESTRICT x, Py_ssize_t n_blocks, const NAME(Pair) *pair,
        NAME(Swept) *RESTRICT swept, const Temper temper)
{
    const REAL lowest = pair->r_lowest, high = pair->high;
    const UINT bias = pair->r_bias;
    for (Py_ssize_t b = 0; b < n_blocks; b++, r += BLOCK, x += BLOCK) {
        int far = 0;
        ask_ahead(r, BLOCK * sizeof(REAL));
        ask_ahead(x, BLOCK * sizeof(REAL));
        for (int k = 0; k < BLOCK; k++)
            far |= !(ABS(NAME(over_temperature)((r[k] - x[k]) - high, temper)) <= CLOSE);
        for (int k = 0; k < 16; k++) {
            const REAL ab = r[k] > r[k + 16] ? r[k] : r[k + 16], cd = r[k + 32] > r[k + 48] ? r[k + 32] : r[k + 48];
            const REAL AB = x[k] > x[k + 16] ? x[k] : x[k + 16], CD = x[k + 32] > x[k + 48] ? x[k + 32] : x[k + 48];
            const REAL r_top = ab > cd ? ab : cd, x_top = AB > CD ? AB : CD;
            swept->r_tops[k] = r_top > swept->r_tops[k] ? r_top : swept->r_tops[k];
            swept->x_tops[k] = x_top > swept->x_tops[k] ? x_top : swept->x_tops[k];
        }
        if (far) {
            for (int k = 0; k < 16; k++)
                swept->totals[k] += (double)NAME(four_whole_terms)(r + k, lowest, bias, temper);
            NAME(add_excesses)(r, x, 1, pair, swept->sums, swept->shares, swept->most, temper);
            continue;
        }
        for (int k = 0; k < 16; k++) {
            REAL p0, p1, p2, p3, s0, s1, s2, s3;
            const REAL t0 = NAME(close_excess)(r[k], x[k], lowest, bias, high, &p0, &s0, temper);
            const REAL t1 = NAME(close_excess)(r[k + 16], x[k + 16], lowest, bias, high, &p1, &s1, temper);
            const REAL t2 = NAME(close_excess)(r[k + 32], x[k + 32], lowest, bias, high, &p2, &s2, temper);
            const REAL t3 = NAME(close_excess)(r[k + 48], x[k + 48], lowest, bias, high, &p3, &s3, temper);
            swept->totals[k] += (double)((p0 + p1) + (p2 + p3));
            swept->sums[k] += (double)((t0 + t1) + (t2 + t3));
            swept->shares[k] += (double)((s0 + s1) + (s2 + s3));
        }
    }
}

/* Adds the q of whole blocks, which are in cache: in a loop of its own, so that a divergence has the same bits without. */
static void NAME(add_whole_terms)(
    const REAL *RESTRICT x, Py_ssize_t n_blocks, REAL lowest, UINT bias, double *RESTRICT totals, const Temper temper)
{
    for (Py_ssize_t b = 0; b < n_blocks; b++, x += BLOCK)
        for (int k = 0; k < 16; k++)
            totals[k] += (double)NAME(four_whole_terms)(x + k, lowest, bias, temper);
}

INLINE double NAME(highest_of)(const REAL *tops)
{
    REAL top = tops[0];
    for (int k = 1; k < 16; k++)
        top = tops[k] > top ? tops[k] : top;
    return (double)top;
}

/* The sum of a BLOCK's terms. */
INLINE double NAME(block_total)(const REAL *x, REAL lowest, UINT bias, const Temper temper)
{
    double sums[16];
    for (int k = 0; k < 16; k++)
        sums[k] = (double)NAME(four_whole_terms)(x + k, lowest, bias, temper);
    return NAME(folded)(sums);
}

#if SINGLE
/* What is left of a row's total, which is in lanes, without the term of its element `own`; false if that is too little to be told. */
static _Bool NAME(find_others)(
    const Side *x, Py_ssize_t n, Py_ssize_t own, REAL power, REAL lowest, UINT bias, const double *totals, double top,
    Others *others, const Temper temper)
{
    REAL scratch[SPAN], block[BLOCK];
    double rest[16];
    const int lane = (int)(own % 16);
    const Py_ssize_t start = own - own % BLOCK, m = n - start < BLOCK ? n - start : BLOCK;
    NAME(padded)(NAME(staged)(x->x + start * x->step, x->step, x->kind, m, scratch), m, block);
    memcpy(rest, totals, sizeof rest);
    rest[lane] -= (double)NAME(four_whole_terms)(block + lane, lowest, bias, temper);
    block[own % BLOCK] = -(REAL)INFINITY;
    rest[lane] += (double)NAME(four_whole_terms)(block + lane, lowest, bias, temper);
    others->s = NAME(folded)(rest);
    others->g = log_of_power((double)power, 0.0) * temper.value;
    others->most = top;
    const double total = NAME(folded)(totals);
    return others->s >= LEAST_OTHERS * total && others->s > TINY && total < HUGE_SUM &&
        (REAL)top <= NAME(highest)(power, temper);
}
#endif

/* The same in one sweep over both, with what the gap is between their first elements; and where their maxima are.  False where
the sums can't be relied on: rows with NaN or infinities, rows that differ in a constant that is large beside all other
differences, and such as that gap is not near enough for.  2 if `others` of both rows are found, too: those than the element `own`, unless that is
below 0. */
static int NAME(quick_divergence)(
    const Side *r, const Side *x, Py_ssize_t n, Py_ssize_t own, double *kl, double *gap, Py_ssize_t *r_peak,
        Py_ssize_t *x_peak, Others *others, const Temper temper)
{
    const int both = SINGLE && own >= 0;
    REAL r_scratch[SPAN], x_scratch[SPAN], r_rest[BLOCK], x_rest[BLOCK];
    NAME(Swept) swept;
    NAME(Pair) pair;
    double r_top = -INFINITY, x_top = -INFINITY;
    Py_ssize_t r_from = 0, x_from = 0;
    if (n < BLOCK)
        return 0;
    const REAL *p = NAME(staged)(r->x, r->step, r->kind, BLOCK, r_scratch);
    const REAL *q = NAME(staged)(x->x, x->step, x->kind, BLOCK, x_scratch);
    const REAL r_power = NAME(power_of)(NAME(first_guess)(r->x, r->kind, n), temper),
        x_power = NAME(power_of)(NAME(first_guess)(x->x, x->kind, n), temper);
    pair.r_lowest = NAME(lowest)(r_power, temper);
    pair.x_lowest = NAME(lowest)(x_power, temper);
    pair.r_bias = NAME(bias)(r_power);
    pair.x_bias = NAME(bias)(x_power);
    const double first = NAME(block_total)(p, pair.r_lowest, pair.r_bias, temper), second = NAME(block_total)(q,
        pair.x_lowest, pair.x_bias, temper);
    const double guess = log_of_power((double)r_power - (double)x_power, 0.0) + (log_double(first) - log_double(second));
    pair.high = (REAL)(guess * temper.value);
    pair.low = 0;
    pair.scale = (REAL)exp_double(log_of_power((double)x_power - (double)r_power, -(double)pair.high * temper.rate));
    for (int k = 0; k < 16; k++) {
        swept.totals[k] = swept.sums[k] = swept.shares[k] = swept.x_totals[k] = 0.0;
        swept.most[k] = -(REAL)INFINITY;
    }
    const Py_ssize_t span = r->kind == NATIVE && x->kind == NATIVE ? 8 * SPAN : SPAN;
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += span) {
        const Py_ssize_t m = n - start < span ? n - start : span, whole = m - m % BLOCK;
        p = NAME(staged)(r->x + start * r->step, r->step, r->kind, m, r_scratch);
        q = NAME(staged)(x->x + start * x->step, x->step, x->kind, m, x_scratch);
        for (int k = 0; k < 16; k++)
            swept.r_tops[k] = swept.x_tops[k] = -(REAL)INFINITY;
        NAME(sweep_blocks)(p, q, whole / BLOCK, &pair, &swept, temper);
        if (both)
            NAME(add_whole_terms)(q, whole / BLOCK, pair.x_lowest, pair.x_bias, swept.x_totals, temper);
        if (whole < m) {
            NAME(padded)(p + whole, m - whole, r_rest);
            NAME(padded)(q + whole, m - whole, x_rest);
            NAME(sweep_blocks)(r_rest, x_rest, 1, &pair, &swept, temper);
            if (both)
                NAME(add_whole_terms)(x_rest, 1, pair.x_lowest, pair.x_bias, swept.x_totals, temper);
        }
        const double r_here = NAME(highest_of)(swept.r_tops), x_here = NAME(highest_of)(swept.x_tops);
        r_from = r_here > r_top ? start : r_from;
        x_from = x_here > x_top ? start : x_from;
        r_top = r_here > r_top ? r_here : r_top;
        x_top = x_here > x_top ? x_here : x_top;
    }
    const double total = NAME(folded)(swept.totals), k = NAME(folded)(swept.sums) / total, s = NAME(folded)(swept.shares) / total;
    if (!((REAL)r_top <= NAME(highest)(r_power, temper) && (REAL)x_top <= NAME(highest)(x_power, temper)))
        return 0; /* terms of logits so far above the first ones have no exponent: they are anything */
    if (!(total > TINY && total < HUGE_SUM && k < INFINITY && NAME(is_moderate)(r_top, x_top,
        NAME(highest_of)(swept.most), temper)))
        return 0;
    if (!(k - s > -0.5)) /* exp(-d) sums to next to nothing: that gap says nothing of the rest, and what is left are roundings */
        return 0;
    *gap = (double)pair.high * temper.rate;
    *kl = finished_divergence(k, s, gap);
    if (!(k <= 10.0 * *kl && *gap * *gap <= 1000.0 * *kl)) /* what cancels, and what differences are rounded by */
        return 0;
    *r_peak = r_from + NAME(position_of)(r->x + r_from * r->step, r->kind, n - r_from < span ? n - r_from : span, r_top);
    *x_peak = x_from + NAME(position_of)(x->x + x_from * x->step, x->kind, n - x_from < span ? n - x_from : span, x_top);
#if SINGLE
    if (both &&
        NAME(find_others)(r, n, own, r_power, pair.r_lowest, pair.r_bias, swept.totals, r_top, &others[0], temper) &&
        NAME(find_others)(x, n, own, x_power, pair.x_lowest, pair.x_bias, swept.x_totals, x_top, &others[1], temper))
        return 2;
#else
    (void)others;
#endif
    return 1;
}

/* --- across rows --------------------------------------------------------------------------------------------------------------- */

/* The same of as many rows, (n_classes, rows), as there are lanes; NaN where a maximum is infinite. */
INLINE void NAME(diverge_lanes)(
    const Columns *r, const Columns *x, Py_ssize_t n_classes, int width, const Rows *reference, const Rows *rows, double *kl,
    double *gaps, const int lanes, const Temper temper)
{
    REAL r_tile[GROUP * LANES], x_tile[GROUP * LANES], r_lowest[LANES], x_lowest[LANES], scale[LANES], high[LANES], low[LANES];
    REAL most[LANES], n[LANES], m[LANES];
    UINT r_bias[LANES], x_bias[LANES];
    double sums[LANES], shares[LANES], totals[LANES], scales[LANES];
    for (int lane = 0; lane < lanes; lane++) { /* as `find_pair`, in loops that vectorise */
        n[lane] = (REAL)reference->top[lane];
        m[lane] = (REAL)rows->top[lane];
    }
    for (int lane = 0; lane < lanes; lane++) {
        n[lane] = NAME(power_of)(n[lane], temper);
        m[lane] = NAME(power_of)(m[lane], temper);
        r_lowest[lane] = NAME(lowest)(n[lane], temper);
        x_lowest[lane] = NAME(lowest)(m[lane], temper);
        r_bias[lane] = NAME(bias)(n[lane]);
        x_bias[lane] = NAME(bias)(m[lane]);
        most[lane] = -(REAL)INFINITY;
    }
    for (int lane = 0; lane < lanes; lane++) {
        const double gap = NAME(gap_of_rows)(reference->top[lane], reference->tail[lane], rows->top[lane], rows->tail[lane], temper);
        high[lane] = (REAL)gap;
        low[lane] = (REAL)(gap - (double)high[lane]);
        scales[lane] = exp_double(NAME(log_of_scale)(n[lane], m[lane], gap, temper));
        totals[lane] = exp_double(NAME(log_of_total)(n[lane], reference->top[lane], reference->tail[lane], temper));
        sums[lane] = shares[lane] = 0.0;
    }
    for (int lane = 0; lane < lanes; lane++)
        scale[lane] = (REAL)scales[lane];
    for (Py_ssize_t start = 0; start < n_classes && GOES_ON(start, 14); start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        NAME(load_tile)(r, start, classes, width, lanes, r_tile);
        NAME(load_tile)(x, start, classes, width, lanes, x_tile);
        for (int c = 0; c < classes; c++) {
            const REAL *RESTRICT p = r_tile + c * LANES, *RESTRICT q = x_tile + c * LANES;
            for (int lane = 0; lane < lanes; lane++) {
                REAL share, top = most[lane];
                sums[lane] += (double)NAME(excess_of)(
                    p[lane], q[lane], r_lowest[lane], r_bias[lane], x_lowest[lane], x_bias[lane], scale[lane], high[lane],
                    low[lane], &share, &top, temper);
                shares[lane] += (double)share;
                most[lane] = top;
            }
        }
    }
    for (int lane = 0; lane < lanes; lane++)
        gaps[lane] = ((double)high[lane] + (double)low[lane]) * temper.rate;
    finish_divergences(sums, shares, totals, lanes, kl, gaps);
    for (int lane = 0; lane < width; lane++) {
        if (NAME(is_moderate)(reference->top[lane], rows->top[lane], (double)most[lane], temper))
            continue;
        if (!(fabs(reference->top[lane]) < INFINITY && fabs(rows->top[lane]) < INFINITY)) {
            kl[lane] = gaps[lane] = NAN;
            continue;
        }
        const Side of = {r->data + lane * r->lane_step, r->class_step, r->kind, reference->top[lane], reference->tail[lane]};
        const Side by = {x->data + lane * x->lane_step, x->class_step, x->kind, rows->top[lane], rows->tail[lane]};
        kl[lane] = exact_divergence(&of, &by, n_classes, gaps + lane, temper.rate);
    }
}

static void NAME(diverge_columns)(
    const Columns *r, const Columns *x, Py_ssize_t n_classes, int width, const Rows *reference, const Rows *rows, double *kl,
    double *gaps, const Temper temper)
{
    if (width <= NARROW)
        NAME(diverge_lanes)(r, x, n_classes, width, reference, rows, kl, gaps, NARROW, temper);
    else
        NAME(diverge_lanes)(r, x, n_classes, width, reference, rows, kl, gaps, LANES, temper);
}
