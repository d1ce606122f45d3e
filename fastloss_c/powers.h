/* Losses with powers, which multiply what logarithms are off by: those of float32 in double.  Included once for each type, after
elementary.h; the functions of float use those of double.  The same formulas as the Numba backend's. */

#if SINGLE
/* log(x), x positive and not subnormal; `above` is x - 1, which is used near 1. */
INLINE double NAME(long_log)(double x, double above)
{
    const double n = as_number_double(exponent_double(x)), f = n == 0.0 ? above : significand_double(x) - 1.0;
    return n * 0.693147180559945286 + (f + log_rest_double(f));
}

/* exp(x) - 1, and with `whole` exp(x), within +-700. */
INLINE double NAME(long_power)(double x, _Bool whole)
{
    x = x < -700.0 ? -700.0 : x;
    x = x > 700.0 ? 700.0 : x;
    const double t = x * 1.44269504088896340736 + 6755399441055744.0;
    const double tail = exp_tail_double(reduced_double(x, t - 6755399441055744.0));
    const double power = double_of((bits_of_double(t) << 52) + ((uint64_t)1023 << 52));
    return power * tail + (whole ? power : power - 1.0);
}

/* The second divided difference of exp at 0, b and c, times b^2, for |b| and |c| up to 1/64: its series, to 2^-30. */
INLINE double NAME(difference_near)(double b, double c)
{
    const double squares = b * b + c * c, sum = b + c;
    const double more = 0.041666666666666664 * (squares + b * c) + 0.008333333333333333 * (sum * squares);
    return b * b * (0.5 + (sum * 0.16666666666666666 + more));
}
#endif

/* Tweedie's deviance of the power p + p_low, which is `value`.  NaN, where that is not NaN, has it computed in double. */
INLINE REAL NAME(short_tweedie)(REAL x, REAL y, REAL p, REAL p_low, REAL value)
{
#if SINGLE
    (void)value;
    const double power = (double)p + (double)p_low, first = 1.0 - power, second = 2.0 - power;
    const double wide_x = x, wide_y = y, r = wide_y / wide_x, d = (wide_y - wide_x) / wide_x;
    const double b = NAME(long_log)(r, d), c = second * b;
    /* with exponent (1 - p) log r for p < 1.5, and (2 - p) log r otherwise: the larger one of the two divisors is left */
    const _Bool is_low = power < 1.5;
    const double rate = is_low ? first : second, divisor = is_low ? second : first, exponent = rate * b;
    const double raised = NAME(long_power)(exponent, 0) / rate;
    const double far = ((is_low ? r * raised : raised) - d) / divisor;
    const _Bool is_near = (fabs(b) <= 0.015625) & (fabs(c) <= 0.015625);
    const double unit = y > 0.0f ? (is_near ? NAME(difference_near)(b, c) : far) : 1.0 / second - r / first;
    const double scale = second * NAME(long_log)(wide_x, wide_x - 1.0);
    const double found = 2.0 * unit * NAME(long_power)(scale, 1);
    const _Bool inside = (x > 0.0f) & ((y > 0.0f) | ((y == 0.0f) & (power < 2.0)) | ((y < 0.0f) & (power < 0.0)));
    const _Bool fits = (x < INFINITY) & (ABS(y) < INFINITY) & (fabs(scale) < 500.0) & ((fabs(exponent) < 500.0) | (y <= 0.0f));
    return inside & fits ? (float)found : NAN;
#else
    (void)x, (void)y, (void)p, (void)p_low;
    return value;
#endif
}

/* Its slope, 2 (x - y) / x^(p + p_low), likewise. */
INLINE REAL NAME(short_tweedie_slope)(REAL x, REAL y, REAL p, REAL p_low, REAL value)
{
#if SINGLE
    (void)value;
    const double wide_x = x, exponent = -((double)p + (double)p_low) * NAME(long_log)(wide_x, wide_x - 1.0);
    const double found = 2.0 * (wide_x - (double)y) * NAME(long_power)(exponent, 1);
    return (x > 0.0f) & (x < INFINITY) & (fabs(exponent) < 500.0) ? (float)found : NAN;
#else
    (void)x, (void)y, (void)p, (void)p_low;
    return value;
#endif
}

#if SINGLE
/* What focal losses of labels in [0, 1] are made of: e = exp(-|x|), the share of the label that is missed, (1 + e) m with m the
probability that is missed, the weight, and the cross-entropy, in which a stands for |x|. */
typedef struct {
    double e, share, odds, weight, loss;
} NAME(FocalParts);

INLINE NAME(FocalParts) NAME(focal_parts)(
    double x, double hit, double positive, double negative, double a, double e, double log1p_e)
{
    const double miss = 1.0 - hit, share = x > 0.0 ? miss : hit;
    const double odds = share + (1.0 - share) * e, loss = (share != 0.0 ? share * a : 0.0) + log1p_e;
    const NAME(FocalParts) parts = {e, share, odds, positive * hit + negative * miss, loss};
    return parts;
}

/* The slope of cross-entropy times 1 + e. */
INLINE double NAME(focal_plain)(double x, double hit, double e)
{
    return x > 0.0 ? (1.0 - hit) - hit * e : (1.0 - hit) * e - hit;
}

/* These and m^gamma. */
INLINE NAME(FocalParts) NAME(focal_power)(float x, float y, float gamma, float positive, float negative, double *raised)
{
    const double a = fabs((double)x), e = a > 700.0 ? 0.0 : NAME(long_power)(-a, 1);
    const _Bool big = e >= 0.5;
    const double f = big ? 0.5 * e - 0.5 : e;
    const double tail = (big ? 0.693147180559945286 : 0.0) + (f + log_rest_double(f));
    const NAME(FocalParts) own = NAME(focal_parts)(x, y, positive, negative, a, e, tail);
    const double logarithm = own.share > 0.0 ? NAME(long_log)(own.odds, own.odds - 1.0) : a > 1e38 ? -1e38 : -a;
    *raised = NAME(long_power)((double)gamma * (logarithm - tail), 1);
    return own;
}

/* These for gamma 2, which multiplies errors only twice, and m. */
INLINE NAME(FocalParts) NAME(focal_square)(float x, float y, float positive, float negative, double a, double *m)
{
    const double e = NAME(short_power)(a > 700.0 ? -700.0 : -a);
    const NAME(FocalParts) own = NAME(focal_parts)(x, y, positive, negative, a, e, NAME(short_log1p_finite)(e));
    *m = own.odds / (1.0 + e);
    return own;
}
#endif

/* The focal loss of a logit and a label in [0, 1], which is `value`; likewise. */
INLINE REAL NAME(short_focal)(REAL x, REAL y, REAL gamma, REAL positive, REAL negative, REAL value)
{
#if SINGLE
    (void)value;
    double raised;
    const NAME(FocalParts) own = NAME(focal_power)(x, y, gamma, positive, negative, &raised);
    return (y >= 0.0f) & (y <= 1.0f) ? (float)(own.loss * own.weight * raised) : NAN;
#else
    (void)x, (void)y, (void)gamma, (void)positive, (void)negative;
    return value;
#endif
}

/* Its slope, likewise. */
INLINE REAL NAME(short_focal_slope)(REAL x, REAL y, REAL gamma, REAL positive, REAL negative, REAL value)
{
#if SINGLE
    (void)value;
    double raised;
    const NAME(FocalParts) own = NAME(focal_power)(x, y, gamma, positive, negative, &raised);
    const double turn = (1.0 - y - y) * (own.share > 0.0 ? own.e / own.odds : 1.0);
    const double more = turn != 0.0 ? (double)gamma * own.loss * turn : 0.0;
    return (float)((NAME(focal_plain)(x, y, own.e) + more) / (1.0 + own.e) * (own.weight * raised));
#else
    (void)x, (void)y, (void)gamma, (void)positive, (void)negative;
    return value;
#endif
}

/* Both with gamma 2. */
INLINE REAL NAME(short_focal_squared)(REAL x, REAL y, REAL positive, REAL negative, REAL value)
{
#if SINGLE
    (void)value;
    double m;
    const NAME(FocalParts) own = NAME(focal_square)(x, y, positive, negative, fabs((double)x), &m);
    return (y >= 0.0f) & (y <= 1.0f) ? (float)(own.loss * own.weight * (m * m)) : NAN;
#else
    (void)x, (void)y, (void)positive, (void)negative;
    return value;
#endif
}

INLINE REAL NAME(short_focal_squared_slope)(REAL x, REAL y, REAL positive, REAL negative, REAL value)
{
#if SINGLE
    (void)value;
    double m;
    const float a = fabsf(x);
    const NAME(FocalParts) own = NAME(focal_square)(x, y, positive, negative, a > 700.0f ? 700.0f : a, &m); /* where m is 0 in float */
    const double inverse = 1.0 / (1.0 + own.e), more = 2.0 * own.loss * (1.0 - y - y) * own.e * inverse;
    return (float)((NAME(focal_plain)(x, y, own.e) * m + more) * inverse * (own.weight * m));
#else
    (void)x, (void)y, (void)positive, (void)negative;
    return value;
#endif
}
