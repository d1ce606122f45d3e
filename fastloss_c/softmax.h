/* The softmax family's innermost loops.  Included once for each type, as elementary.h.

One element of a row is left out, the target's or the maximum; the others are summed up as s exp(g).  With x the element left
out, -log softmax(x) = log1p(s exp(g - x)).  Sums are relative to a power of two near the row's elements (its exponent is called
n), so that no subtraction rounds the exponentials' arguments.  Sums that may have lost something are taken again in float64. */

#undef LIMIT
#undef SHORT

/* Where x / ln 2 has enough fraction bits left. */
#if FUSED || !SINGLE
#define LIMIT ((REAL)20000.0)
#else
#define LIMIT ((REAL)1000.0)
#endif

/* Whether `term` leaves the low part of ln 2 out: x then counts as x (1 + SHORTENED). */
#define SHORT (SINGLE && FUSED)

#ifndef SHORTENED
#define SHORTENED -2.7478355e-09 /* ln 2 / (ln 2 rounded to float32) - 1 */
#define TINY 1e-24               /* a sum as small as this, relative to what was expected, may have lost terms */
#define HUGE_SUM 1e30            /* and one as large as this may have terms that were cut off */
#define DOUBLE_LN2 0.693147180559945286226764

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
#endif

INLINE REAL NAME(within)(REAL m)
{
    m = m < -LIMIT ? -LIMIT : m;
    return m > LIMIT ? LIMIT : m;
}

/* The power of two for elements around m. */
INLINE REAL NAME(power_of)(REAL m)
{
    return NAME(in_powers)(NAME(within)(m)) - ROUNDING;
}

/* The least and the largest x that `term` tells from -inf and inf. */
INLINE REAL NAME(lowest)(REAL n)
{
    return (n - (REAL)BIAS) * (REAL)DOUBLE_LN2;
}

INLINE REAL NAME(highest)(REAL n)
{
    return (n + (REAL)(BIAS - 3)) * (REAL)DOUBLE_LN2;
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

/* exp(x) 2^-n for x not far above n ln 2; 0 below `lowest`, NaN for NaN and inf. */
INLINE REAL NAME(term)(REAL x, REAL lowest, UINT bias)
{
    x = x < lowest ? lowest : x;
    const REAL t = NAME(in_powers)(x), n = t - ROUNDING;
#if SHORT
    const REAL r = MULTIPLY_ADD(-n, LN2_HI, x);
#else
    const REAL r = NAME(reduced)(x, n);
#endif
    const REAL power = FLOAT_OF((BITS_OF(t) << MANTISSA) + bias);
    return power * NAME(exp_tail)(r) + power;
}

/* The same for any x: some 2^124 above `highest`. */
INLINE REAL NAME(bounded_term)(REAL x, REAL lowest, REAL highest, UINT bias)
{
    return NAME(term)(x > highest ? highest : x, lowest, bias);
}

/* exp(x) 2^-n with gradual underflow, for results that are shown. */
INLINE REAL NAME(fine_term)(REAL x, REAL n)
{
    const REAL lowest = (n - (REAL)(BIAS + MANTISSA + 5)) * (REAL)DOUBLE_LN2;
    x = x < lowest ? lowest : x;
    const REAL t = NAME(in_powers)(x);
    const REAL tail = NAME(exp_tail)(NAME(reduced)(x, t - ROUNDING));
    const UINT k = BITS_OF(t) - BITS_OF(ROUNDING) - NAME(integer)(n);
    return (tail + (REAL)1.0) * NAME(first_power)(k) * NAME(second_power)(k);
}

/* The logarithm g that belongs to a sum s of terms relative to 2^n. */
INLINE double NAME(log_of_reference)(double s, REAL n)
{
#if SHORT
    /* What `term` has shortened are the elements that make up the sum, not n ln 2.  How far above or below they lie shows in the
       sum; its first bits above 1 may as well come from their number. */
    const double e = double_of((bits_of_double(s) >> 52) | 0x4330000000000000u) - (4503599627370496.0 + 1023.0);
    const double above = e > 20.0 ? e - 10.0 : e > 0.0 ? 0.5 * e : e;
    return ((double)n - ((double)n + above) * SHORTENED) * DOUBLE_LN2;
#else
    (void)s;
    return log_of_power((double)n, 0.0);
#endif
}

/* --- likelihood from sums: in float64, to the accuracy that results of this type want --------------------------------- */

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
    return log1p_double(s * exp_double(a));
#endif
}

/* -log(exp(x) / (exp(x) + s exp(g))).  A row of -inf alone, or with NaN or +inf in it, gives NaN. */
INLINE double NAME(nll)(double s, double g, double x)
{
    const double a = g - x, most = 40.0; /* beyond, what a has above it can be added outside */
    const double b = a > most ? a - most : 0.0;
    double value = b + NAME(log1p_exp)(s, a - b);
    value = x == -INFINITY ? s * INFINITY : value;
    return x == INFINITY ? NAN : value;
}

static void NAME(likelihoods)(
    const double *RESTRICT s, const double *RESTRICT g, const double *RESTRICT x, double *RESTRICT losses, int n)
{
    for (int i = 0; i < n; i++)
        losses[i] = NAME(nll)(s[i], g[i], x[i]);
}

#if !SINGLE
/* logsumexp - top, with top the maximum, of a row as in `nll`, which gave `loss`; keeps a small difference. */
INLINE double tail_above(double s, double g, double x, double loss, double top)
{
    const double far = (g - top) + log_double(s + exp_double(x > g ? 0.0 : x - g));
    return x >= top ? loss : x > g ? (x - top) + loss : far;
}

static double tail_of(double s, double g, double x, double loss, double top)
{
    return tail_above(s, g, x, loss, top);
}

/* Derivative of share * nll(x) + (the rest of a row's loss) with respect to its target's logit x.

logsumexp is top + tail; `mass` is the weight of the smoothed part, `own` what the target has of it.  1 - softmax(x) is taken from
the others' sum, as the difference would cancel. */
static double target_slope(
    double s, double g, double x, double top, double tail, double share, double mass, double own)
{
    return mass * exp_double((x - top) - tail) - own - share * (s * exp_double((g - top) - tail));
}

/* One element as float64. */
static double element(const char *p, int kind)
{
    double v = 0.0;
    copied_double(p, 0, kind, 1, &v);
    return v;
}

/* Sum of exp(x - m) over all elements but one. */
static double exact_sum(const char *x, Py_ssize_t step, int kind, Py_ssize_t n, Py_ssize_t skip, double m)
{
    double s = 0.0, part[SPAN];
    for (Py_ssize_t start = 0; start < n; start += SPAN) {
        const Py_ssize_t size = n - start < SPAN ? n - start : SPAN;
        copied_double(x + start * step, step, kind, size, part);
        for (Py_ssize_t i = 0; i < size; i++)
            part[i] = exp_double(part[i] - m);
        if (skip >= start && skip < start + size)
            part[skip - start] = 0.0;
        for (Py_ssize_t i = 0; i < size; i++)
            s += part[i];
    }
    return s;
}

/* logsumexp where the maximum is infinite: m, unless there is a NaN. */
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

INLINE REAL NAME(largest)(const REAL *tops)
{
    REAL folded[BLOCK];
    memcpy(folded, tops, sizeof folded);
    for (int half = BLOCK / 2; half; half /= 2)
        for (int k = 0; k < half; k++)
            folded[k] = folded[k] > folded[k + half] ? folded[k] : folded[k + half];
    return folded[0];
}

/* A BLOCK of which only some elements are there; -inf for the others. */
INLINE void NAME(padded)(const REAL *x, Py_ssize_t n, REAL *RESTRICT block)
{
    for (int k = 0; k < BLOCK; k++)
        block[k] = -(REAL)INFINITY;
    memcpy(block, x, n * sizeof(REAL));
}

#if SINGLE
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
    return element((const char *)&top, kind);
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
    const Py_ssize_t span = kind == NATIVE ? n : SPAN, size = SIZE_OF(kind);
    for (Py_ssize_t start = 0; start < n; start += span) {
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
    for (Py_ssize_t start = 0; start < n; start += piece) {
        const double most = NAME(top_of)(x + start * size, kind, n - start < piece ? n - start : piece);
        if (most > top) {
            top = most;
            from = start;
        }
    }
    *position = from + NAME(position_of)(x + from * size, kind, n - from < piece ? n - from : piece, top);
    return top;
}

/* Asks for memory AHEAD of so many bytes: exponentials leave it idle otherwise. */
INLINE void NAME(ask_ahead)(const void *x, Py_ssize_t bytes)
{
    for (Py_ssize_t line = 0; line < bytes; line += LINE)
        ASK_FOR((const char *)x + AHEAD + line);
}

/* Adds the terms of whole blocks: two of the additions in REAL, then in float64. */
static void NAME(add_terms)(
    const REAL *RESTRICT x, Py_ssize_t n_blocks, REAL lowest, REAL highest, UINT bias, double *RESTRICT sums)
{
    for (Py_ssize_t b = 0; b < n_blocks; b++, x += BLOCK) {
        NAME(ask_ahead)(x, BLOCK * sizeof(REAL));
        for (int k = 0; k < 16; k++)
            sums[k] += (double)(
                (NAME(bounded_term)(x[k], lowest, highest, bias) + NAME(bounded_term)(x[k + 16], lowest, highest, bias))
                + (NAME(bounded_term)(x[k + 32], lowest, highest, bias) + NAME(bounded_term)(x[k + 48], lowest, highest, bias)));
    }
}

static double NAME(folded)(const double *sums)
{
    double s[16];
    memcpy(s, sums, sizeof s);
    for (int half = 8; half; half /= 2)
        for (int k = 0; k < half; k++)
            s[k] += s[k + half];
    return s[0];
}

/* Sum of exp(x) 2^-n over a row without its element `skip`. */
static double NAME(sum_without)(const char *x, int kind, Py_ssize_t n_elements, Py_ssize_t skip, REAL n)
{
    double sums[16] = {0.0};
    REAL scratch[SPAN], some[2 * BLOCK]; /* the block that x[skip] is in; what is left after whole blocks */
    const REAL lowest = NAME(lowest)(n), highest = NAME(highest)(n);
    const UINT bias = NAME(bias)(n);
    const Py_ssize_t span = kind == NATIVE ? n_elements : SPAN, size = SIZE_OF(kind);
    for (Py_ssize_t start = 0; start < n_elements; start += span) {
        const Py_ssize_t m = n_elements - start < span ? n_elements - start : span;
        if (kind != NATIVE)
            NAME(ask_ahead)(x + start * size, m * size);
        const REAL *p = NAME(staged)(x + start * size, size, kind, m, scratch);
        const Py_ssize_t full = m / BLOCK, rest = m % BLOCK, own = skip - start, at = own / BLOCK;
        const _Bool inside = own >= 0 && own < m;
        REAL *next = some;
        if (inside && at < full) {
            NAME(ask_ahead)(p + at * BLOCK, BLOCK * sizeof(REAL));
            memcpy(next, p + at * BLOCK, BLOCK * sizeof(REAL));
            next[own % BLOCK] = -(REAL)INFINITY;
            next += BLOCK;
            NAME(add_terms)(p, at, lowest, highest, bias, sums);
            NAME(add_terms)(p + (at + 1) * BLOCK, full - at - 1, lowest, highest, bias, sums);
        }
        else
            NAME(add_terms)(p, full, lowest, highest, bias, sums);
        if (rest) {
            NAME(ask_ahead)(p + full * BLOCK, rest * sizeof(REAL));
            NAME(padded)(p + full * BLOCK, rest, next);
            if (inside && at == full)
                next[own % BLOCK] = -(REAL)INFINITY;
            next += BLOCK;
        }
        NAME(add_terms)(some, (next - some) / BLOCK, lowest, highest, bias, sums);
    }
    return NAME(folded)(sums);
}

/* The largest of a row's first elements: what its sum is relative to until more is known. */
static REAL NAME(first_guess)(const char *x, int kind, Py_ssize_t n)
{
    REAL scratch[BLOCK], most[16];
    if (n < BLOCK)
        return (REAL)NAME(top_of)(x, kind, n);
    const REAL *p = NAME(staged)(x, SIZE_OF(kind), kind, BLOCK, scratch);
    for (int k = 0; k < 16; k++) {
        const REAL ab = p[k] > p[k + 16] ? p[k] : p[k + 16], cd = p[k + 32] > p[k + 48] ? p[k + 32] : p[k + 48];
        most[k] = ab > cd ? ab : cd;
    }
    for (int half = 8; half; half /= 2)
        for (int k = 0; k < half; k++)
            most[k] = most[k] > most[k + half] ? most[k] : most[k + half];
    return most[0];
}

/* (s, g): the elements but x[skip] sum to s exp(g).  `top` is the row's maximum, or NaN if it is not known: sums are then
relative to the first elements', and taken again if that was far from where most of it comes from. */
static void NAME(scan)(const char *x, int kind, Py_ssize_t n, Py_ssize_t skip, double top, double *s, double *g)
{
    const _Bool known = top == top;
    if (!known)
        top = (double)NAME(first_guess)(x, kind, n);
    REAL power = NAME(power_of)((REAL)top);
    *s = NAME(sum_without)(x, kind, n, skip, power);
    if (!known && (*s < TINY || *s > HUGE_SUM)) {
        top = NAME(top_of)(x, kind, n);
        power = NAME(power_of)((REAL)top);
        *s = NAME(sum_without)(x, kind, n, skip, power);
    }
    if (*s < TINY || *s > HUGE_SUM || (ABS((REAL)top) > LIMIT && ABS((REAL)top) < (REAL)INFINITY)) {
        /* terms far below the maximum, or elements so large that exponentials want float64 */
        top = known ? top : NAME(top_of)(x, kind, n);
        *s = exact_sum(x, SIZE_OF(kind), kind, n, skip, top);
        *g = top;
        return;
    }
#if SINGLE
    *g = NAME(log_of_reference)(*s, power);
#else
    *g = NAME(within)(top);
    *s *= exp_double(log_of_power(power, *g));
#endif
}

/* Sums of q (base - x) and of q, with q = w (keep y + spread); y and w may be absent. */
static void NAME(mix)(
    const char *x, int kind, Py_ssize_t n, const char *y, Py_ssize_t y_step, int y_kind, const void *weights, double base,
    double keep, double spread, double *loss, double *mass)
{
    REAL x_scratch[SPAN], y_scratch[SPAN], q[SPAN], shares[SPAN];
    double sums[16] = {0.0}, masses[16] = {0.0};
    const REAL *w = weights;
    const REAL from = (REAL)base, share = (REAL)keep, rest = (REAL)spread;
    for (Py_ssize_t start = 0; start < n; start += SPAN) {
        const Py_ssize_t m = n - start < SPAN ? n - start : SPAN, size = SIZE_OF(kind);
        const REAL *p = NAME(staged)(x + start * size, size, kind, m, x_scratch);
        if (y_kind != ABSENT) {
            const REAL *t = NAME(staged)(y + start * y_step, y_step, y_kind, m, y_scratch);
            for (Py_ssize_t i = 0; i < m; i++)
                q[i] = share * t[i] + rest;
        }
        else
            for (Py_ssize_t i = 0; i < m; i++)
                q[i] = rest;
        if (w)
            for (Py_ssize_t i = 0; i < m; i++)
                q[i] *= w[start + i];
        for (Py_ssize_t i = 0; i < m; i++)
            shares[i] = q[i] == 0 ? (REAL)0.0 : q[i] * (from - p[i]);
        NAME(add_weighted)(shares, NULL, m, sums, NULL);
        NAME(add_weighted)(q, NULL, m, masses, NULL);
    }
    *loss = NAME(folded)(sums);
    *mass = NAME(folded)(masses);
}

/* out = factor * softmax(x) - scale * w (keep y + spread), the second part if `mixed`; logsumexp is top + tail. */
static void NAME(fill)(
    const char *x, int kind, Py_ssize_t n, double top, double tail, double factor, int mixed, const char *y,
    Py_ssize_t y_step, int y_kind, const void *weights, double scale, double keep, double spread, void *result)
{
    REAL scratch[SPAN], y_scratch[SPAN];
    const REAL *w = weights;
    const REAL by = (REAL)scale, kept = (REAL)keep, rest = (REAL)spread;
    const _Bool usual = ABS((REAL)top) <= LIMIT;
    const REAL power = NAME(power_of)((REAL)top), share = (REAL)factor;
    const REAL multiplier = (REAL)exp_double(log_of_power((double)power, top) - tail);
    for (Py_ssize_t start = 0; start < n; start += SPAN) {
        const Py_ssize_t m = n - start < SPAN ? n - start : SPAN, size = SIZE_OF(kind);
        const REAL *p = NAME(staged)(x + start * size, size, kind, m, scratch);
        REAL *RESTRICT out = (REAL *)result + start;
        if (usual)
            for (Py_ssize_t i = 0; i < m; i++) {
                const REAL v = NAME(fine_term)(p[i], power) * multiplier;
                out[i] = share * (v > (REAL)1.0 ? (REAL)1.0 : v);
            }
        else /* so large that exponentials need float64, or infinite, which gives NaN */
            for (Py_ssize_t i = 0; i < m; i++)
                out[i] = (REAL)(factor * exp_double(((double)p[i] - top) - tail));
        if (!mixed)
            continue;
        if (y_kind != ABSENT) {
            const REAL *t = NAME(staged)(y + start * y_step, y_step, y_kind, m, y_scratch);
            for (Py_ssize_t i = 0; i < m; i++)
                out[i] -= by * ((w ? w[start + i] : (REAL)1.0) * (kept * t[i] + rest));
        }
        else
            for (Py_ssize_t i = 0; i < m; i++)
                out[i] -= by * ((w ? w[start + i] : (REAL)1.0) * rest);
    }
}

/* out = (x - top) - tail, which keeps a small tail. */
static void NAME(log_probabilities)(const char *x, int kind, Py_ssize_t n, double top, double tail, void *result)
{
    REAL scratch[SPAN];
    const REAL m = (REAL)top, rest = (REAL)tail;
    for (Py_ssize_t start = 0; start < n; start += SPAN) {
        const Py_ssize_t width = n - start < SPAN ? n - start : SPAN, size = SIZE_OF(kind);
        const REAL *p = NAME(staged)(x + start * size, size, kind, width, scratch);
        REAL *RESTRICT out = (REAL *)result + start;
        for (Py_ssize_t i = 0; i < width; i++)
            out[i] = (p[i] - m) - rest;
    }
}

static void NAME(add)(REAL *RESTRICT x, const REAL *RESTRICT y, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++)
        x[i] += y[i];
}

/* --- places in a row, in the order in which argmax takes elements: NaN first, of equals the first ---------------------- */

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
    for (Py_ssize_t start = 0; start < n; start += SPAN) {
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
