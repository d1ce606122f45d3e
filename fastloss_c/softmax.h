/* The softmax family's innermost loops.  Included once for each type, as elementary.h, and once more for float32 logits that a
temperature divides, with TEMPERED defined as 1.

One element of a row is excluded, the target's or the maximum; the sum of the others' exponentials is kept as s exp(g).  With x the excluded
element, -log softmax(x) = log1p(s exp(g - x)).  Sums are relative to a power of two near the row's elements (its exponent is called
n), so that no subtraction rounds the exponentials' arguments.  Sums that may have become inexact are computed again in float64.

An exponential is a power of two times 1 + tail, the tail within [-0.3, 0.42].  Along a row terms are added in groups of four in REAL, the
largest last and its tail before its power, so that a term that is most of a sum is rounded only once; then in float64.

With a temperature T an exponential is exp(x / T): a power of two, as T ln 2 takes the place of ln 2, times the exponential of what is
left, which is divided by T.  So logits are never divided, and nothing that differs between them is rounded away: elements, maxima and g
are as they come, and T is left to whoever makes logarithms of them. */

#undef LIMIT
#undef REACH
#undef SHORT
#undef TINY
#undef HUGE_SUM

/* Where x / ln 2 has enough fraction bits left. */
#if FUSED || !SINGLE
#define REACH ((REAL)20000.0)
#else
#define REACH ((REAL)1000.0)
#endif
#if TEMPERED
#define LIMIT temper.limit
#else
#define LIMIT REACH
#endif

/* Whether `part_of_term` leaves the low part of ln 2 out: x then counts as x (1 + SHORTENED). */
#define SHORT (SINGLE && FUSED && !TEMPERED)

/* A sum as small as this, relative to what was expected, may have lost terms; one as large may have terms that were cut off. */
#define TINY (SINGLE ? 1e-24 : 1e-270)
#define HUGE_SUM (SINGLE ? 1e30 : 1e270)

#ifndef SHORTENED
#define SHORTENED -2.7478355e-09 /* ln 2 / (ln 2 rounded to float32) - 1 */
#define DOUBLE_LN2 0.693147180559945286226764

/* A temperature T, as kernels of float32 logits need it; where there is none only T and 1 / T are looked at: 1. */
typedef struct {
    double value, rate;             /* T, 1 / T */
    float inverse, inverse_rest;    /* 1 / T in two parts */
    float per_power, high, low;     /* 1 / (T ln 2), and T ln 2 in parts as LN2_HI and LN2_LO */
    float limit;                    /* T times what it is without it */
    double cap, per_cap;            /* a soft cap c, 1 / c: see capped.h, to whose kernels T is 1 above */
    double rise, steepness;         /* c / T, 1 / T */
    int slopes;                     /* whether derivatives are with respect to the logits before the cap */
} Temper;

static const Temper UNTEMPERED = {.value = 1.0, .rate = 1.0};

/* (2^n)^-1 2^before for integers as floats; 0 rather than a subnormal number. */
INLINE double power_between(double before, double n)
{
    double d = before - n;
    d = d < -1022.0 ? -1023.0 : d;
    d = d > 1023.0 ? 1023.0 : d;
    return double_of((bits_of_double(d + 6755399441055744.0) + 1023) << 52);
}

/* n exponents of two as a natural logarithm, in float64, of which m is taken away; n times the first constant is exact. */
INLINE double log_of_power(double n, double m)
{
    return (n * 6.93145751953125e-1 - m) + n * 1.42860682030941723212e-6;
}

/* g, where a sum is s 2^n = s' exp(g): so that s' lies near 1, and nothing cancels where logarithms are added to g. */
INLINE double based_sum(double n, double *s)
{
    const double sum = *s;
    const uint64_t bits = bits_of_double(sum), k = bits >> 52;
    const _Bool usual = (sum > 0.0) & (sum < INFINITY);
    const double e = usual ? double_of(k | 0x4330000000000000u) - (4503599627370496.0 + 1023.0) : 0.0;
    const double near = usual ? double_of(bits - (k << 52) + ((uint64_t)1023 << 52)) : sum;
    const double g = log_of_power(n + e, 0.0);
    *s = near + near * log_of_power(n + e, g);
    return g;
}

/* a - b, and in `low` what rounding took away (Knuth's two-sum); 0 beyond the range of exponentials' arguments. */
INLINE double difference(double a, double b, double *low)
{
    const double d = a - b, back = d - a, rest = (a - (d - back)) - (b + back);
    *low = fabs(d) < 1024.0 ? rest : 0.0;
    return d;
}

/* Adds to a sum that is kept as high + low. */
INLINE void accumulate(double *high, double *low, double value)
{
    const double sum = *high + value, back = sum - *high;
    const double rest = (*high - (sum - back)) + (value - back);
    *low += rest == rest ? rest : 0.0;
    *high = sum;
}
#endif

/* x / (T ln 2), rounded, plus ROUNDING. */
INLINE REAL NAME(powers_in)(REAL x, const Temper temper)
{
#if TEMPERED
    return MULTIPLY_ADD(x, temper.per_power, ROUNDING);
#else
    (void)temper;
    return NAME(in_powers)(x);
#endif
}

/* x / T - n ln 2. */
INLINE REAL NAME(rest_of)(REAL x, REAL n, const Temper temper)
{
#if TEMPERED
    const REAL rest = MULTIPLY_ADD(-n, temper.low, MULTIPLY_ADD(-n, temper.high, x));
    return MULTIPLY_ADD(rest, temper.inverse, (REAL)0.0); /* a product that no compiler fuses */
#else
    (void)temper;
    return NAME(reduced)(x, n);
#endif
}

#if !TEMPERED
static UNKNOWN REAL NAME(limit) = LIMIT;
#endif

INLINE REAL NAME(within)(REAL m, const Temper temper)
{
#if TEMPERED
    const REAL limit = LIMIT;
#else
    const REAL limit = NAME(limit);
    (void)temper;
#endif
    return NAME(at_most)(NAME(at_least)(m, -limit), limit);
}

/* Whether a row's maximum is too large for this type's exponentials, or infinite, or there is none. */
INLINE _Bool NAME(is_far)(REAL top, const Temper temper)
{
    return !(ABS(top) <= LIMIT);
}

/* The power of two for elements around m. */
INLINE REAL NAME(power_of)(REAL m, const Temper temper)
{
    return NAME(powers_in)(NAME(within)(m, temper), temper) - ROUNDING;
}

/* What a power of two stands for: T ln 2. */
INLINE REAL NAME(power)(const Temper temper)
{
    return (REAL)(TEMPERED ? temper.value * DOUBLE_LN2 : DOUBLE_LN2);
}

/* The least and the largest x that are told from -inf and inf. */
INLINE REAL NAME(lowest)(REAL n, const Temper temper)
{
    return (n - (REAL)BIAS) * NAME(power)(temper);
}

INLINE REAL NAME(highest)(REAL n, const Temper temper)
{
    return (n + (REAL)(BIAS - 3)) * NAME(power)(temper);
}

/* An integer in a float, as bits. */
INLINE UINT NAME(integer)(REAL n)
{
    return BITS_OF(n + ROUNDING) - BITS_OF(ROUNDING);
}

INLINE UINT NAME(bias)(REAL n)
{
    return ((UINT)BIAS - NAME(integer)(n)) << MANTISSA;
}

/* exp(x / T) 2^-n = power (1 + tail) for x not far above n ln 2: gives the tail.  0 below `lowest`, NaN for NaN and inf. */
INLINE REAL NAME(part_of_term)(REAL x, REAL lowest, UINT bias, REAL *power, const Temper temper)
{
    x = x < lowest ? lowest : x;
    const REAL t = NAME(powers_in)(x, temper), n = t - ROUNDING;
#if SHORT
    const REAL r = MULTIPLY_ADD(-n, LN2_HI, x);
#else
    const REAL r = NAME(rest_of)(x, n, temper);
#endif
    *power = FLOAT_OF((BITS_OF(t) << MANTISSA) + bias);
    return NAME(exp_tail)(r);
}

INLINE REAL NAME(term)(REAL x, REAL lowest, UINT bias, const Temper temper)
{
    REAL power;
    const REAL tail = NAME(part_of_term)(x, lowest, bias, &power, temper);
    return power * tail + power;
}

/* Bits by which terms are larger than the numbers that they stand for. */
#undef HEADROOM
#undef BELOW_HEADROOM
#define HEADROOM ((REAL)(MANTISSA + 1))
#define BELOW_HEADROOM (1.0 / (double)((UINT)2 << MANTISSA)) /* 2 to minus that */

/* exp(x) 2^-n as `term`, with all of ln 2. */
INLINE REAL NAME(whole_term)(REAL x, REAL lowest, UINT bias, const Temper temper)
{
    x = x < lowest ? lowest : x;
    const REAL t = NAME(powers_in)(x, temper);
    const REAL power = FLOAT_OF((BITS_OF(t) << MANTISSA) + bias);
    return power * NAME(exp_tail)(NAME(rest_of)(x, t - ROUNDING, temper)) + power;
}

/* What a row's terms are relative to. */
INLINE REAL NAME(base_of)(REAL top, const Temper temper)
{
    return NAME(power_of)(top, temper) - HEADROOM;
}

/* by exp(x) 2^-n, rounded as if by gradual underflow, for results that are shown. */
INLINE REAL NAME(share_of_term)(REAL x, REAL lowest, UINT bias, REAL by, const Temper temper)
{
    x = x < lowest ? lowest : x;
    const REAL t = NAME(powers_in)(x, temper);
    const REAL power = FLOAT_OF((BITS_OF(t) << MANTISSA) + bias) * by;
    return power * NAME(exp_tail)(NAME(rest_of)(x, t - ROUNDING, temper)) + power;
}

/* The larger of two numbers, and the other one; NaN is kept as one of them.  Computed on bits, because gcc moves the masks of two comparisons
of the same numbers through general registers. */
INLINE REAL NAME(larger)(REAL a, REAL b)
{
    return a > b ? a : b;
}

INLINE REAL NAME(other_than)(REAL one, REAL a, REAL b)
{
    return FLOAT_OF(BITS_OF(a) ^ BITS_OF(b) ^ BITS_OF(one));
}

/* The sum of four terms; gives the largest x. */
INLINE REAL NAME(four_terms)(REAL a, REAL b, REAL c, REAL d, REAL lowest, UINT bias, REAL *most, const Temper temper)
{
    const REAL ab = NAME(larger)(a, b), cd = NAME(larger)(c, d), p = NAME(other_than)(ab, a, b), q = NAME(other_than)(cd, c, d);
    const REAL x = NAME(larger)(ab, cd), r = NAME(other_than)(x, ab, cd);
    const REAL others = NAME(term)(r, lowest, bias, temper) + (NAME(term)(p, lowest, bias, temper) + NAME(term)(q,
        lowest, bias, temper));
    REAL power;
    const REAL tail = NAME(part_of_term)(x, lowest, bias, &power, temper);
    *most = x;
    return power + (power * tail + others);
}

/* Sums of terms across rows: their powers, the largest last, and then the tails times these.  What each of the two additions is
rounded by is added to `low`. */
INLINE REAL NAME(sum_of_parts)(REAL power, REAL powers, REAL tails, REAL *low)
{
    const REAL whole = power + powers, rest = tails + (powers - (whole - power)), sum = whole + rest;
    *low += rest - (sum - whole);
    return sum;
}

/* Of two powers, as integers, which have the same order and are compared in one instruction. */
INLINE REAL NAME(larger_power)(REAL a, REAL b)
{
    return FLOAT_OF(BITS_OF(a) > BITS_OF(b) ? BITS_OF(a) : BITS_OF(b));
}

INLINE REAL NAME(smaller_power)(REAL a, REAL b)
{
    return FLOAT_OF(BITS_OF(a) < BITS_OF(b) ? BITS_OF(a) : BITS_OF(b));
}

/* A term from its parts, as results show it: what these are shortened by is made up for, relative to terms around `base`. */
INLINE REAL NAME(shown_term)(REAL power, REAL tail, REAL x, REAL lowest, REAL base)
{
    const REAL term = power * tail + power;
#if SHORT
    x = x < lowest ? lowest : x;
    return term + term * ((base - x) * (REAL)SHORTENED);
#else
    (void)x, (void)lowest, (void)base;
    return term;
#endif
}

INLINE REAL NAME(sum_of_one)(REAL a, REAL lowest, UINT bias, REAL *low, REAL base, REAL *term, const Temper temper)
{
    REAL pa;
    const REAL ta = NAME(part_of_term)(a, lowest, bias, &pa, temper);
    *term = NAME(shown_term)(pa, ta, a, lowest, base);
    return NAME(sum_of_parts)(pa, (REAL)0.0, pa * ta, low);
}

INLINE REAL NAME(sum_of_two)(
    REAL a, REAL b, REAL lowest, UINT bias, REAL *low, REAL base, REAL *terms, const Temper temper)
{
    REAL pa, pb;
    const REAL ta = NAME(part_of_term)(a, lowest, bias, &pa, temper);
    const REAL tb = NAME(part_of_term)(b, lowest, bias, &pb, temper);
    terms[0] = NAME(shown_term)(pa, ta, a, lowest, base);
    terms[1] = NAME(shown_term)(pb, tb, b, lowest, base);
    const REAL larger = NAME(larger_power)(pa, pb), smaller = NAME(smaller_power)(pa, pb);
    return NAME(sum_of_parts)(larger, smaller, pa * ta + pb * tb, low);
}

INLINE REAL NAME(sum_of_four)(
    REAL a, REAL b, REAL c, REAL d, REAL lowest, UINT bias, REAL *low, REAL base, REAL *terms, const Temper temper)
{
    REAL pa, pb, pc, pd;
    const REAL ta = NAME(part_of_term)(a, lowest, bias, &pa, temper);
    const REAL tb = NAME(part_of_term)(b, lowest, bias, &pb, temper);
    const REAL tc = NAME(part_of_term)(c, lowest, bias, &pc, temper);
    const REAL td = NAME(part_of_term)(d, lowest, bias, &pd, temper);
    terms[0] = NAME(shown_term)(pa, ta, a, lowest, base);
    terms[1] = NAME(shown_term)(pb, tb, b, lowest, base);
    terms[2] = NAME(shown_term)(pc, tc, c, lowest, base);
    terms[3] = NAME(shown_term)(pd, td, d, lowest, base);
    const REAL ab = NAME(larger_power)(pa, pb), cd = NAME(larger_power)(pc, pd), largest = NAME(larger_power)(ab, cd);
    const REAL others = NAME(smaller_power)(ab, cd) + (NAME(smaller_power)(pa, pb) + NAME(smaller_power)(pc, pd));
    return NAME(sum_of_parts)(largest, others, (pa * ta + pb * tb) + (pc * tc + pd * td), low);
}

/* The logarithm g that belongs to a sum s of terms relative to 2^n. */
INLINE double NAME(log_of_reference)(double s, REAL n, const Temper temper)
{
#if SHORT
    /* `term` has shortened the elements whose exponentials make up the sum, not n ln 2.  How far above or below n ln 2 they are can be estimated
       from the sum, whose leading bits above 1 may also come from the number of its terms. */
    const double e = double_of((bits_of_double(s) >> 52) | 0x4330000000000000u) - (4503599627370496.0 + 1023.0);
    const double above = e > 20.0 ? e - 10.0 : e > 0.0 ? 0.5 * e : e;
    return ((double)n - ((double)n + above) * SHORTENED) * DOUBLE_LN2;
#else
    (void)s;
    return log_of_power((double)n, 0.0) * temper.value;
#endif
}

/* --- likelihood from sums: in float64, to the accuracy that results of this type want --------------------------------- */

#if !SINGLE
/* s exp(a) with gradual underflow: rounded once below the smallest normal number. */
INLINE double scaled_exp(double s, double a)
{
    a = a < EXP_LEAST ? EXP_LEAST : a;
    a = a > EXP_MOST ? EXP_MOST : a;
    const double t = in_powers_double(a);
    const uint64_t n = bits_of_double(t) - bits_of_double(ROUNDING);
    const double tail = exp_tail_double(reduced_double(a, t - ROUNDING));
    return (s * tail + s) * first_power_double(n) * second_power_double(n);
}

/* s exp((a - b) rate), without the rounding of a - b. */
INLINE double exp_of_difference(double s, double a, double b, double rate)
{
    double low;
    const double d = difference(a, b, &low);
    return scaled_exp(s + s * (low * rate), d * rate);
}
#endif

/* log1p(s exp(a)), for s >= 0 and a <= 40. */
INLINE double NAME(log1p_exp)(double s, double a)
{
#if SINGLE
    a = a < -700.0 ? -700.0 : a;
    const double t = a * 1.44269504088896340736 + 6755399441055744.0, n = t - 6755399441055744.0;
    const double r = (a - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6;
    const double power = double_of((bits_of_double(t) << 52) + ((uint64_t)1023 << 52));
    /* relative errors 2^-28 and 2^-30: the polynomials of float32 */
    const double tail =
        r * r * POLYNOMIAL_5(r, 0.4999999404, 0.1666651964, 0.0416683555, 0.0083688032, 0.0013817528) + r;
    const double x = s * (power * tail + power), u = x + 1.0;
    const uint64_t k = (bits_of_double(u) - bits_of_double(0.75) + ((uint64_t)2048 << 52)) >> 52;
    const double scale = double_of((2048 - k + 1023) << 52);
    const double f = x * scale + (scale - 1.0);
    const double p = POLYNOMIAL_9(
        f, 0.3333334029, -0.2500016391, 0.1999960542, -0.1665529609, 0.1427623779, -0.1272777915, 0.1170067042,
        -0.0911620557, 0.0376729965);
    const double exponent = double_of(k | 0x4330000000000000u) - (4503599627370496.0 + 2048.0);
    return (f - f * f * (0.5 - f * p)) + exponent * DOUBLE_LN2;
#else
    return log1p_double(scaled_exp(s, a));
#endif
}

/* -log(exp(x rate) / (exp(x rate) + s exp(g rate))).  A row of -inf alone, or with NaN or +inf in it, gives NaN. */
INLINE double NAME(nll)(double s, double g, double x, double rate)
{
#if SINGLE
    const double a = (g - x) * rate;
#else
    double low;
    const double a = difference(g, x, &low) * rate; /* rounding a difference of hundreds would cost a tiny loss hundreds of ulp */
    s += s * (low * rate);
#endif
    const double most = 40.0; /* beyond, what a has above it can be added outside */
    const double b = a > most ? a - most : 0.0;
    double value = b + NAME(log1p_exp)(s, a - b);
    value = x == -INFINITY ? s * INFINITY : value;
    return x == INFINITY ? NAN : value;
}

static void NAME(likelihoods)(
    const double *RESTRICT s, const double *RESTRICT g, const double *RESTRICT x, double *RESTRICT losses, int n, double rate)
{
    for (int i = 0; i < n; i++)
        losses[i] = NAME(nll)(s[i], g[i], x[i], rate);
}

#if !SINGLE
/* logsumexp - top rate, with top the row's maximum and `loss` the result of `nll`; accurate even if it is small. */
INLINE double tail_above(double s, double g, double x, double loss, double top, double rate)
{
    const double far = (g - top) * rate + log_double(s + exp_double(x > g ? 0.0 : (x - g) * rate));
    const double tail = x >= top ? loss : x > g ? (x - top) * rate + loss : far;
    return tail < 0.0 ? 0.0 : tail; /* negative only by rounding, if the sum contains the maximum */
}

static double tail_of(double s, double g, double x, double loss, double top, double rate)
{
    return tail_above(s, g, x, loss, top, rate);
}

/* The sum of exp((x - top) rate) over the row, the denominator of softmax.  NaN where the maximum is infinite. */
INLINE double row_total(double s, double g, double x, double top, double rate)
{
    const double own = x < top ? exp_of_difference(1.0, x, top, rate) : x == top ? 1.0 : NAN;
    return top - top == 0.0 ? exp_of_difference(s, g, top, rate) + own : NAN;
}

static double total_of_row(double s, double g, double x, double top, double rate)
{
    return row_total(s, g, x, top, rate);
}

/* The derivative of a row's loss with respect to its target's logit x times `rate`; `total` is the sum of exp(. - top) over the row. */
INLINE double row_slope(
    double s, double g, double x, double top, double total, double share, double mass, double own, double rate)
{
    const double others = exp_of_difference(s, g, top, rate) / total;
    return NAME(target_slope_)(others, exp_of_difference(1.0, x, top, rate) / total, share, mass, own);
}

static double slope_at_target(
    double s, double g, double x, double top, double total, double share, double mass, double own, double rate)
{
    return row_slope(s, g, x, top, total, share, mass, own, rate);
}

/* The same three of n rows, in vectors. */
static void find_row_tails(
    const double *RESTRICT s, const double *RESTRICT g, const double *RESTRICT x, const double *RESTRICT losses,
    const double *RESTRICT tops, int n, double rate, double *RESTRICT tails)
{
    for (int i = 0; i < n; i++)
        tails[i] = tail_above(s[i], g[i], x[i], losses[i], tops[i], rate);
}

static void find_row_totals(
    const double *RESTRICT s, const double *RESTRICT g, const double *RESTRICT x, const double *RESTRICT tops, int n,
    double rate, double *RESTRICT totals)
{
    for (int i = 0; i < n; i++)
        totals[i] = row_total(s[i], g[i], x[i], tops[i], rate);
}

static void find_target_slopes(
    const double *RESTRICT s, const double *RESTRICT g, const double *RESTRICT x, const double *RESTRICT tops,
    const double *RESTRICT totals, const double *RESTRICT shares, double mass, const double *RESTRICT own, int n, double rate,
    double *RESTRICT slopes)
{
    for (int i = 0; i < n; i++)
        slopes[i] = row_slope(s[i], g[i], x[i], tops[i], totals[i], shares[i], mass, own[i], rate);
}

/* One element as float64. */
static double element(const char *p, int kind)
{
    double v = 0.0;
    copied_double(p, 0, kind, 1, &v);
    return v;
}

/* Sums up n values, by fours in lanes; there is room for BLOCK more after them. */
static void add_in_lanes(double *RESTRICT v, Py_ssize_t n, double *RESTRICT sums)
{
    for (Py_ssize_t i = n; i % BLOCK; i++)
        v[i] = 0.0;
    for (Py_ssize_t i = 0; i < n; i += BLOCK)
        for (int k = 0; k < 16; k++)
            sums[k] += (v[i + k] + v[i + 16 + k]) + (v[i + 32 + k] + v[i + 48 + k]);
}

/* Sums in 16 lanes, each as high + low. */
typedef struct {
    double high[16], low[16];
} Lanes;

/* Takes up what was summed in lanes over a SPAN at most: so few additions that their roundings are not worth noting. */
INLINE void take_up(Lanes *lanes, double *RESTRICT sums)
{
    for (int k = 0; k < 16; k++) {
        accumulate(&lanes->high[k], &lanes->low[k], sums[k]);
        sums[k] = 0.0;
    }
}

INLINE double total_of(const Lanes *lanes)
{
    double high[16], low[16];
    memcpy(high, lanes->high, sizeof high);
    memcpy(low, lanes->low, sizeof low);
    for (int half = 8; half; half /= 2)
        for (int k = 0; k < half; k++) {
            accumulate(&high[k], &low[k], high[k + half]);
            low[k] += low[k + half];
        }
    return high[0] + low[0];
}

/* s, and g: the elements but one sum to s exp(g rate), in float64 whatever they are.  g is the largest of them, or the one left out if
there is nothing else. */
static double exact_sum(const char *x, Py_ssize_t step, int kind, Py_ssize_t n, Py_ssize_t skip, double *g, double rate)
{
    Lanes lanes = {{0.0}, {0.0}};
    double part[SPAN], sums[16] = {0.0}, most = -INFINITY, own = 0.0;
    for (int pass = 0; pass < 2; pass++) {
        for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += SPAN) {
            const Py_ssize_t size = n - start < SPAN ? n - start : SPAN;
            copied_double(x + start * step, step, kind, size, part);
            if (skip >= start && skip < start + size) {
                own = part[skip - start];
                part[skip - start] = -INFINITY;
            }
            if (pass == 0) {
                for (Py_ssize_t i = 0; i < size; i++)
                    most = part[i] > most ? part[i] : most;
                continue;
            }
            for (Py_ssize_t i = 0; i < size; i++)
                part[i] = exp_of_difference(1.0, part[i], most, rate);
            add_in_lanes(part, size, sums);
            take_up(&lanes, sums);
        }
        most = most > -INFINITY ? most : own;
    }
    *g = most;
    return total_of(&lanes);
}

/* Sum of so many numbers. */
static double sum_of(const double *x, Py_ssize_t n)
{
    Lanes lanes = {{0.0}, {0.0}};
    double part[SPAN], sums[16] = {0.0};
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += SPAN) {
        const Py_ssize_t size = n - start < SPAN ? n - start : SPAN;
        memcpy(part, x + start, size * sizeof(double));
        add_in_lanes(part, size, sums);
        take_up(&lanes, sums);
    }
    return total_of(&lanes);
}

/* What class c has of a smoothed, weighted target, whose own part is y: w (keep y + spread).  A coefficient of 0 stays 0, whatever
the weight. */
INLINE double coefficient(double y, const double *w, Py_ssize_t c, double keep, double spread)
{
    return weighed(keep * y + spread, w ? w[c] : 1.0);
}

/* logsumexp of a row whose maximum m is infinite: m, unless there is a NaN. */
static double infinite_sum(const char *x, Py_ssize_t step, int kind, Py_ssize_t n, double m)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        const double v = element(x + i * step, kind);
        if (v != v)
            return NAN;
    }
    return m;
}
#endif

/* --- along a row: x is contiguous, of any kind -------------------------------------------------------------------------- */

#undef SIZE_OF
#define SIZE_OF(kind) ((kind) == FLOAT64 ? 8 : (kind) == FLOAT32 ? 4 : 2)

/* The largest of one BLOCK and one so far, lane by lane; drops NaN. */
static void NAME(raise)(const REAL *RESTRICT x, Py_ssize_t n_blocks, REAL *RESTRICT tops)
{
    for (Py_ssize_t b = 0; b < n_blocks; b++, x += BLOCK)
        for (int k = 0; k < BLOCK; k++)
            tops[k] = x[k] > tops[k] ? x[k] : tops[k];
}

/* The largest of 16. */
INLINE REAL NAME(largest_of_lanes)(const REAL *tops)
{
    REAL folded[8];
    IN_LANES
    for (int k = 0; k < 8; k++)
        folded[k] = tops[k] > tops[k + 8] ? tops[k] : tops[k + 8];
    IN_LANES
    for (int k = 0; k < 4; k++)
        folded[k] = folded[k] > folded[k + 4] ? folded[k] : folded[k + 4];
    const REAL a = folded[0] > folded[2] ? folded[0] : folded[2], b = folded[1] > folded[3] ? folded[1] : folded[3];
    return a > b ? a : b;
}

INLINE REAL NAME(largest)(const REAL *tops)
{
    REAL most[16];
    IN_LANES
    for (int k = 0; k < 16; k++) {
        const REAL ab = tops[k] > tops[k + 32] ? tops[k] : tops[k + 32];
        const REAL cd = tops[k + 16] > tops[k + 48] ? tops[k + 16] : tops[k + 48];
        most[k] = ab > cd ? ab : cd;
    }
    return NAME(largest_of_lanes)(most);
}

/* A BLOCK of which only some elements are there; -inf for the others. */
INLINE void NAME(padded)(const REAL *x, Py_ssize_t n, REAL *RESTRICT block)
{
    for (int k = 0; k < BLOCK; k++)
        block[k] = -(REAL)INFINITY;
    memcpy(block, x, n * sizeof(REAL));
}

#if SINGLE && !TEMPERED
/* A half as an integer of the same order, and back; what lies above infinity's is NaN. */
INLINE int16_t in_order(int16_t v)
{
    return v ^ ((v >> 15) & 0x7fff);
}

/* The maximum of a row of halves, compared as integers: twice as many to a register, and nothing to be widened. */
static double top_of_halves(const int16_t *RESTRICT x, int kind, Py_ssize_t n)
{
    const int16_t most = kind == BFLOAT16 ? 0x7f80 : 0x7c00, least = in_order(most | (int16_t)0x8000);
    int16_t tops[BLOCK];
    for (int k = 0; k < BLOCK; k++)
        tops[k] = least;
    Py_ssize_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        for (int k = 0; k < BLOCK; k++) {
            const int16_t v = in_order(x[i + k]), number = v > most ? least : v;
            tops[k] = number > tops[k] ? number : tops[k];
        }
    int16_t top = least;
    for (; i < n; i++) {
        const int16_t v = in_order(x[i]);
        top = v <= most && v > top ? v : top;
    }
    for (int k = 0; k < BLOCK; k++)
        top = tops[k] > top ? tops[k] : top;
    top = in_order(top);
    return kind == BFLOAT16 ? from_bfloat((uint16_t)top) : from_half((uint16_t)top);
}
#endif

/* The maximum of a row; -inf if all is NaN. */
static double NAME(top_of)(const char *x, int kind, Py_ssize_t n)
{
#if SINGLE
    if (kind == BFLOAT16 || kind == FLOAT16)
        return top_of_halves((const int16_t *)x, kind, n);
#endif
    REAL tops[BLOCK], scratch[SPAN], block[BLOCK];
    for (int k = 0; k < BLOCK; k++)
        tops[k] = -(REAL)INFINITY;
    const Py_ssize_t span = kind == NATIVE ? MOST_AT_ONCE : SPAN, size = SIZE_OF(kind);
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += span) {
        const Py_ssize_t m = n - start < span ? n - start : span;
        const REAL *p = NAME(staged)(x + start * size, size, kind, m, scratch);
        NAME(raise)(p, m / BLOCK, tops);
        if (m % BLOCK) {
            NAME(padded)(p + (m - m % BLOCK), m % BLOCK, block);
            NAME(raise)(block, 1, tops);
        }
    }
    return NAME(largest)(tops);
}

/* The position of the first element that equals m; 0 if there is none. */
static Py_ssize_t NAME(position_of)(const char *x, int kind, Py_ssize_t n, double m)
{
    REAL scratch[BLOCK];
    const REAL wanted = (REAL)m;
    const Py_ssize_t size = SIZE_OF(kind);
    for (Py_ssize_t start = 0; start < n; start += BLOCK) {
        const int width = n - start < BLOCK ? (int)(n - start) : BLOCK;
        const REAL *p = NAME(staged)(x + start * size, size, kind, width, scratch);
        int found = 0;
        if (width == BLOCK) /* a number that compilers know: in registers */
            for (int k = 0; k < BLOCK; k++)
                found |= p[k] == wanted;
        else
            for (int k = 0; k < width; k++)
                found |= p[k] == wanted;
        if (found)
            for (int k = 0; k < width; k++)
                if (p[k] == wanted)
                    return start + k;
    }
    return 0;
}

/* The maximum, and the position of the first element that equals it: only the piece that it is in is searched. */
static double NAME(peak_of)(const char *x, int kind, Py_ssize_t n, Py_ssize_t *position)
{
    const Py_ssize_t size = SIZE_OF(kind), piece = 8192;
    double top = -INFINITY;
    Py_ssize_t from = 0;
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += piece) {
        const double most = NAME(top_of)(x + start * size, kind, n - start < piece ? n - start : piece);
        if (most > top) {
            top = most;
            from = start;
        }
    }
    *position = from + NAME(position_of)(x + from * size, kind, n - from < piece ? n - from : piece, top);
    return top;
}

/* Adds the terms of complete blocks, groups of four in REAL, then in float64; raises `tops`, lane by lane. */
static void NAME(add_terms)(
    const REAL *RESTRICT x, Py_ssize_t n_blocks, REAL lowest, UINT bias, double *RESTRICT sums, REAL *RESTRICT tops,
        const Temper temper)
{
    for (Py_ssize_t b = 0; b < n_blocks; b++, x += BLOCK) {
        ask_ahead(x, BLOCK * sizeof(REAL));
        for (int k = 0; k < 16; k++) {
            REAL most;
            sums[k] += (double)NAME(four_terms)(x[k], x[k + 16], x[k + 32], x[k + 48], lowest, bias, &most, temper);
            tops[k] = most > tops[k] ? most : tops[k];
        }
    }
}

static double NAME(folded)(const double *sums)
{
    double s[8];
    IN_LANES
    for (int k = 0; k < 8; k++)
        s[k] = sums[k] + sums[k + 8];
    IN_LANES
    for (int k = 0; k < 4; k++)
        s[k] += s[k + 4];
    return (s[0] + s[2]) + (s[1] + s[3]);
}

/* Sum of exp(x) 2^-n over a row without its element `skip`, and its largest element but that one, which leaves out NaN; infinite
where that is too large to be told from inf. */
static double NAME(sum_without)(
    const char *x, int kind, Py_ssize_t n_elements, Py_ssize_t skip, REAL n, REAL *most, const Temper temper)
{
    double sums[16] = {0.0};
    Lanes lanes = {{0.0}, {0.0}};
    REAL scratch[SPAN], some[2 * BLOCK]; /* the block that x[skip] is in; what is left after whole blocks */
    REAL tops[16];
    const REAL lowest = NAME(lowest)(n, temper);
    const UINT bias = NAME(bias)(n);
    const Py_ssize_t span = !SINGLE ? SPAN / 4 : kind == NATIVE ? MOST_AT_ONCE : SPAN, size = SIZE_OF(kind);
    IN_LANES
    for (int k = 0; k < 16; k++)
        tops[k] = -(REAL)INFINITY;
    for (Py_ssize_t start = 0; start < n_elements && GOES_ON(start, 20); start += span) {
        const Py_ssize_t m = n_elements - start < span ? n_elements - start : span;
        if (kind != NATIVE)
            ask_ahead(x + start * size, m * size);
        const REAL *p = NAME(staged)(x + start * size, size, kind, m, scratch);
        const Py_ssize_t full = m / BLOCK, rest = m % BLOCK, own = skip - start, at = own / BLOCK;
        const _Bool inside = own >= 0 && own < m;
        REAL *next = some;
        if (inside && at < full) {
            ask_ahead(p + at * BLOCK, BLOCK * sizeof(REAL));
            memcpy(next, p + at * BLOCK, BLOCK * sizeof(REAL));
            next[own % BLOCK] = -(REAL)INFINITY;
            next += BLOCK;
            NAME(add_terms)(p, at, lowest, bias, sums, tops, temper);
            NAME(add_terms)(p + (at + 1) * BLOCK, full - at - 1, lowest, bias, sums, tops, temper);
        }
        else
            NAME(add_terms)(p, full, lowest, bias, sums, tops, temper);
        if (rest) {
            ask_ahead(p + full * BLOCK, rest * sizeof(REAL));
            NAME(padded)(p + full * BLOCK, rest, next);
            if (inside && at == full)
                next[own % BLOCK] = -(REAL)INFINITY;
            next += BLOCK;
        }
        NAME(add_terms)(some, (next - some) / BLOCK, lowest, bias, sums, tops, temper);
        if (!SINGLE)
            take_up(&lanes, sums);
    }
    *most = NAME(largest_of_lanes)(tops);
    return *most > NAME(highest)(n, temper) ? INFINITY : SINGLE ? NAME(folded)(sums) : total_of(&lanes);
}

/* The largest of a row's first elements: what its sum is relative to until more is known. */
static REAL NAME(first_guess)(const char *x, int kind, Py_ssize_t n)
{
    REAL scratch[BLOCK], most[16];
    if (n < BLOCK)
        return (REAL)NAME(top_of)(x, kind, n);
    const REAL *p = NAME(staged)(x, SIZE_OF(kind), kind, BLOCK, scratch);
    IN_LANES
    for (int k = 0; k < 16; k++) {
        const REAL ab = p[k] > p[k + 16] ? p[k] : p[k + 16], cd = p[k + 32] > p[k + 48] ? p[k + 32] : p[k + 48];
        most[k] = ab > cd ? ab : cd;
    }
    return NAME(largest_of_lanes)(most);
}

/* (s, g): the elements but x[skip] sum to s exp(g).  `top` is the largest of them, or an upper bound near it, or NaN if none is
known: sums are then relative to the first elements', and taken again if that was far from where most of it comes from.  `most`
becomes the largest of them, but for NaN. */
static void NAME(scan)(
    const char *x, int kind, Py_ssize_t n, Py_ssize_t skip, double top, double *s, double *g, double *most,
        const Temper temper)
{
    REAL largest, guess = top == top ? (REAL)top : NAME(first_guess)(x, kind, n), power = NAME(power_of)(guess, temper);
    *s = NAME(sum_without)(x, kind, n, skip, power, &largest, temper);
    if (*s < TINY || *s > HUGE_SUM) {
        power = NAME(power_of)(largest, temper);
        *s = NAME(sum_without)(x, kind, n, skip, power, &largest, temper);
    }
    *most = (double)largest;
    const REAL distant = ABS(largest);
    if (*s < TINY || *s > HUGE_SUM || (distant > LIMIT && distant < (REAL)INFINITY)) {
        /* nothing to sum, or elements so large that exponentials need float64 */
        *s = exact_sum(x, SIZE_OF(kind), kind, n, skip, g, temper.rate);
        return;
    }
#if SINGLE
    *g = NAME(log_of_reference)(*s, power, temper);
#else
    *g = based_sum(power, s);
#endif
}

#if SINGLE
/* Sums of q (base - x), and of q, with q = keep y + spread; only of `spread` where there is no y. */
static void NAME(mix_evenly)(
    const char *x, int kind, Py_ssize_t n, const char *y, Py_ssize_t y_step, int y_kind, double base, double keep,
    double spread, double *loss, double *mass)
{
    double sums[16] = {0.0}, masses[16] = {0.0};
    REAL x_scratch[SPAN], y_scratch[SPAN];
    const Py_ssize_t size = SIZE_OF(kind);
    double rest = 0.0, rest_mass = 0.0;
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += SPAN) {
        const Py_ssize_t m = n - start < SPAN ? n - start : SPAN, whole = m - m % 16;
        const REAL *p = NAME(staged)(x + start * size, size, kind, m, x_scratch);
        if (y_kind == ABSENT) {
            if (spread == 0.0)
                continue; /* whatever the logits are */
            for (Py_ssize_t i = 0; i < whole; i += 16)
                for (int k = 0; k < 16; k++)
                    sums[k] += base - (double)p[i + k];
            for (Py_ssize_t i = whole; i < m; i++)
                rest += base - (double)p[i];
            continue;
        }
        const REAL *t = NAME(staged)(y + start * y_step, y_step, y_kind, m, y_scratch);
        for (Py_ssize_t i = 0; i < whole; i += 16) {
            ask_ahead(y + (start + i) * y_step, LINE);
            for (int k = 0; k < 16; k++) {
                const double q = keep * (double)t[i + k] + spread;
                sums[k] += weighed(q, base - (double)p[i + k]);
                masses[k] += q;
            }
        }
        for (Py_ssize_t i = whole; i < m; i++) {
            const double q = keep * (double)t[i] + spread;
            rest += weighed(q, base - (double)p[i]);
            rest_mass += q;
        }
    }
    const double total = NAME(folded)(sums) + rest;
    *loss = y_kind == ABSENT ? (spread == 0.0 ? 0.0 : spread * total) : total;
    if (mass)
        *mass = y_kind == ABSENT ? spread * (double)n : NAME(folded)(masses) + rest_mass;
}
#endif

/* Sums of q (base - x) / T, and of q where `mass` is wanted, with q = w (keep y + spread); y and w may be absent. */
static void NAME(mix)(
    const char *x, int kind, Py_ssize_t n, const char *y, Py_ssize_t y_step, int y_kind, const double *w, double base,
    double keep, double spread, double *loss, double *mass, const Temper temper)
{
    Lanes lanes = {{0.0}, {0.0}}, others = {{0.0}, {0.0}};
    REAL x_scratch[SPAN], y_scratch[SPAN];
    double q[SPAN], shares[SPAN], sums[16] = {0.0}, masses[16] = {0.0};
    const double unit = SINGLE ? 1.0 : 0.5; /* the difference of two float64 logits may overflow; that of their halves does not */
#if SINGLE
    if (!w) {
        NAME(mix_evenly)(x, kind, n, y, y_step, y_kind, base, keep, spread, loss, mass);
        *loss *= temper.rate;
        return;
    }
#endif
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += SPAN) {
        const Py_ssize_t m = n - start < SPAN ? n - start : SPAN, size = SIZE_OF(kind);
        const REAL *p = NAME(staged)(x + start * size, size, kind, m, x_scratch);
        if (y_kind != ABSENT) {
            const REAL *t = NAME(staged)(y + start * y_step, y_step, y_kind, m, y_scratch);
            for (Py_ssize_t i = 0; i < m; i++)
                q[i] = coefficient((double)t[i], w, start + i, keep, spread);
        }
        else
            for (Py_ssize_t i = 0; i < m; i++)
                q[i] = coefficient(0.0, w, start + i, keep, spread);
        for (Py_ssize_t i = 0; i < m; i++)
            shares[i] = weighed(q[i], unit * base - unit * (double)p[i]);
        add_in_lanes(shares, m, sums);
        take_up(&lanes, sums);
        if (mass) {
            add_in_lanes(q, m, masses);
            take_up(&others, masses);
        }
    }
    *loss = total_of(&lanes) * temper.rate / unit;
    if (mass)
        *mass = total_of(&others);
}

/* out = factor * softmax(x) - scale * w (keep y + spread), the second part if `mixed`; `total` is the sum of exp(x - top).

No probability is larger than the maximum's, rounded once. */
static void NAME(fill)(
    const char *x, int kind, Py_ssize_t n, double top, double total, double factor, int mixed, const char *y,
    Py_ssize_t y_step, int y_kind, const double *w, double scale, double keep, double spread, void *result,
    const Temper temper)
{
    REAL scratch[SPAN], y_scratch[SPAN];
    const double positive = fabs(factor) / total;
    const _Bool usual = ABS((REAL)top) <= LIMIT && (REAL)positive < (REAL)INFINITY;
    const REAL power = NAME(power_of)((REAL)top, temper), base = NAME(base_of)((REAL)top, temper),
        peak = (REAL)positive, lowest = NAME(lowest)(base, temper);
    const REAL multiplier = (REAL)(positive * exp_double(log_of_power((double)power,
        top * temper.rate)) * BELOW_HEADROOM);
    const UINT bias = NAME(bias)(base);
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += SPAN) {
        const Py_ssize_t m = n - start < SPAN ? n - start : SPAN, size = SIZE_OF(kind);
        const REAL *p = NAME(staged)(x + start * size, size, kind, m, scratch);
        REAL *RESTRICT out = (REAL *)result + start;
        if (usual) {
            Py_ssize_t i = 0;
            for (; i + BLOCK <= m; i += BLOCK) {
                ask_ahead(out + i, BLOCK * sizeof(REAL));
                for (int k = 0; k < BLOCK; k++)
                    out[i + k] = NAME(at_most)(NAME(share_of_term)(p[i + k], lowest, bias, multiplier, temper), peak);
            }
            for (; i < m; i++)
                out[i] = NAME(at_most)(NAME(share_of_term)(p[i], lowest, bias, multiplier, temper), peak);
            if (factor < 0.0)
                for (Py_ssize_t i = 0; i < m; i++)
                    out[i] = -out[i];
        }
        const REAL *t = mixed && y_kind != ABSENT ? NAME(staged)(y + start * y_step, y_step, y_kind, m, y_scratch) : NULL;
        if (!usual) { /* logits or a factor so large that float64 is needed, or infinite, which gives NaN */
            for (Py_ssize_t i = 0; i < m; i++) {
                const double share = factor * (exp_double(((double)p[i] - top) * temper.rate) / total);
                const double part = mixed ? scale * coefficient(t ? (double)t[i] : 0.0, w, start + i, keep, spread) : 0.0;
                out[i] = (REAL)(share - part);
            }
            continue;
        }
        if (!mixed)
            continue;
        if (t)
            for (Py_ssize_t i = 0; i < m; i++)
                out[i] -= (REAL)(scale * coefficient((double)t[i], w, start + i, keep, spread));
        else
            for (Py_ssize_t i = 0; i < m; i++)
                out[i] -= (REAL)(scale * coefficient(0.0, w, start + i, keep, spread));
    }
}

/* (x - top) / T. */
INLINE REAL NAME(gap)(REAL x, REAL top, const Temper temper)
{
#if TEMPERED
    const REAL gap = x - top, finite = gap < (REAL)-1e30 ? (REAL)-1e30 : gap;
    return MULTIPLY_ADD(gap, temper.inverse, finite * temper.inverse_rest);
#else
    (void)temper;
    return x - top;
#endif
}

/* out = (x - top) / T - tail, which keeps a small tail. */
static void NAME(log_probabilities)(
    const char *x, int kind, Py_ssize_t n, double top, double tail, void *result, const Temper temper)
{
    REAL scratch[SPAN];
    const REAL m = (REAL)top, rest = (REAL)tail;
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += SPAN) {
        const Py_ssize_t width = n - start < SPAN ? n - start : SPAN, size = SIZE_OF(kind);
        const REAL *p = NAME(staged)(x + start * size, size, kind, width, scratch);
        REAL *RESTRICT out = (REAL *)result + start;
        for (Py_ssize_t i = 0; i < width; i++)
            out[i] = NAME(gap)(p[i], m, temper) - rest;
    }
}

static void NAME(add)(REAL *RESTRICT x, const REAL *RESTRICT y, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++)
        x[i] += y[i];
}

/* --- positions in a row, in the order of argmax: NaN first, then larger elements, ties by position --------------------- */

/* The first element in that order. */
static Py_ssize_t NAME(first_of_all)(const char *x, Py_ssize_t step, int kind, Py_ssize_t n)
{
    Py_ssize_t best = 0;
    double most = -INFINITY;
    for (Py_ssize_t i = 0; i < n; i++) {
        const double v = element(x + i * step, kind);
        if (v != v)
            return i;
        best = v > most ? i : best;
        most = v > most ? v : most;
    }
    return best;
}

/* How many elements come before x[label], which is `level`. */
static Py_ssize_t NAME(count_before)(
    const char *x, Py_ssize_t step, int kind, Py_ssize_t n, Py_ssize_t label, double level)
{
    REAL scratch[SPAN];
    const REAL own = (REAL)level;
    const _Bool missing = own != own;
    Py_ssize_t count = 0;
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += SPAN) {
        const Py_ssize_t m = n - start < SPAN ? n - start : SPAN, left = label - start;
        const Py_ssize_t earlier = left < 0 ? 0 : left > m ? m : left;
        const REAL *p = NAME(staged)(x + start * step, step, kind, m, scratch);
        int larger = 0, equal = 0;
        for (Py_ssize_t i = 0; i < m; i++)
            larger += (p[i] > own) | (p[i] != p[i]);
        for (Py_ssize_t i = 0; i < earlier; i++)
            equal += missing ? p[i] != p[i] : p[i] == own;
        count += (missing ? 0 : larger) + equal;
    }
    return count;
}
