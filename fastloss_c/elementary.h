/* Elementary functions without branches or calls, so that loops around them vectorise.

Included once for each type, with REAL, UINT (its bits), NAME(f) (f for this type) and SINGLE (whether REAL is float) defined.
The same formulas and coefficients as the Numba backend's, where their derivations are cited; written down again since neither can
read the other.  Without fused multiply-add, ln 2 is split so that n times its first part is exact. */

#undef MANTISSA
#undef BIAS
#undef OFFSET
#undef TINIEST
#undef INV_LN2
#undef LN2_HI
#undef LN2_LO
#undef LN2_SHORT
#undef LN2_REST
#undef ROUNDING
#undef MAGIC
#undef EXP_LEAST
#undef EXP_MOST
#undef FLOAT_OF
#undef BITS_OF
#undef ABS
#undef SQRT
#undef MULTIPLY_ADD

/* a + b x + c x^2 + ... */
#ifndef POLYNOMIAL_2
#define POLYNOMIAL_2(x, a, b) ((a) + (x) * (b))
#define POLYNOMIAL_3(x, a, ...) ((a) + (x) * POLYNOMIAL_2(x, __VA_ARGS__))
#define POLYNOMIAL_4(x, a, ...) ((a) + (x) * POLYNOMIAL_3(x, __VA_ARGS__))
#define POLYNOMIAL_5(x, a, ...) ((a) + (x) * POLYNOMIAL_4(x, __VA_ARGS__))
#define POLYNOMIAL_6(x, a, ...) ((a) + (x) * POLYNOMIAL_5(x, __VA_ARGS__))
#define POLYNOMIAL_7(x, a, ...) ((a) + (x) * POLYNOMIAL_6(x, __VA_ARGS__))
#define POLYNOMIAL_8(x, a, ...) ((a) + (x) * POLYNOMIAL_7(x, __VA_ARGS__))
#define POLYNOMIAL_9(x, a, ...) ((a) + (x) * POLYNOMIAL_8(x, __VA_ARGS__))
#define POLYNOMIAL_10(x, a, ...) ((a) + (x) * POLYNOMIAL_9(x, __VA_ARGS__))
#endif

#if SINGLE
#define MANTISSA 23
#define BIAS 127
#define OFFSET 256 /* makes exponents positive before they are shifted */
#define TINIEST 1.17549435082228750797e-38f
#define INV_LN2 1.44269504088896340736f
#define ROUNDING 12582912.0f /* 1.5 * 2^23: added and taken away again it rounds; a sum's low bits are the integer */
#define MAGIC 8388608.0f     /* 2^23: or-ed into its bits, integers become floats */
#define EXP_LEAST -110.0f
#define EXP_MOST 100.0f
#define FLOAT_OF float_of
#define BITS_OF bits_of_float
#define ABS fabsf
#define SQRT sqrtf
#define LN2_SHORT 0.693359375f /* so few bits that its products with exponents are exact */
#define LN2_REST -2.12194440054690583e-4f
#if FUSED
#define MULTIPLY_ADD(a, b, c) __builtin_fmaf((a), (b), (c))
#define LN2_HI 0.693147182464599609375f
#define LN2_LO -1.9046542121259336e-09f
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#define LN2_HI LN2_SHORT
#define LN2_LO LN2_REST
#endif
#else
#define MANTISSA 52
#define BIAS 1023
#define OFFSET 2048
#define TINIEST 2.22507385850720138309e-308
#define INV_LN2 1.44269504088896340736
#define ROUNDING 6755399441055744.0
#define MAGIC 4503599627370496.0
#define EXP_LEAST -760.0
#define EXP_MOST 720.3 /* a little above 1039 ln 2: rounding leaves no negative rest, which would make NaN of infinities */
#define FLOAT_OF double_of
#define BITS_OF bits_of_double
#define ABS fabs
#define SQRT sqrt
#define LN2_SHORT 6.93145751953125e-1
#define LN2_REST 1.42860682030941723212e-6
#if FUSED
#define MULTIPLY_ADD(a, b, c) __builtin_fma((a), (b), (c))
#define LN2_HI 0.693147180559945286226764
#define LN2_LO 2.3190468138462996e-17
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#define LN2_HI LN2_SHORT
#define LN2_LO LN2_REST
#endif
#endif

#if !TEMPERED
/* --- whether numbers are finite ----------------------------------------------------------------------------------- */

/* Unsigned numbers, the most of which tells whether all of which they were made are finite. */
#if SINGLE && (defined(__SSE4_1__) || defined(__aarch64__)) /* which have a maximum of these */
INLINE UINT NAME(magnitude)(REAL v)
{
    return BITS_OF(v) & ~(UINT)0 >> 1;
}

INLINE UINT NAME(most)(UINT a, UINT b)
{
    return a > b ? a : b;
}

#define FINITE_BELOW 0x7f800000u
#else /* where all bits of the exponent are set, one more goes to the sign's */
INLINE UINT NAME(magnitude)(REAL v)
{
    return (BITS_OF(v) & ~(UINT)0 >> 1) + ((UINT)1 << MANTISSA);
}

INLINE UINT NAME(most)(UINT a, UINT b)
{
    return a | b;
}

#define FINITE_BELOW (~(~(UINT)0 >> 1))
#endif

/* Of what was found so far, and of every 16th of a block. */
INLINE UINT NAME(most_of)(UINT found, const REAL *v)
{
    const UINT first = NAME(most)(NAME(magnitude)(v[0]), NAME(magnitude)(v[16]));
    const UINT second = NAME(most)(NAME(magnitude)(v[32]), NAME(magnitude)(v[48]));
    return NAME(most)(found, NAME(most)(first, second));
}

INLINE int NAME(were_finite)(const UINT *found)
{
    UINT most = 0;
    for (int i = 0; i < 16; i++)
        most = NAME(most)(most, found[i]);
    return most < FINITE_BELOW;
}

#undef FINITE_BELOW

/* As `sign` of scalars.py: 1 with the sign of d, or d where that is 0 or NaN. */
INLINE REAL NAME(sign)(REAL d)
{
    const UINT one = (BITS_OF(d) & ~(~(UINT)0 >> 1)) | BITS_OF((REAL)1.0);
    return ABS(d) > (REAL)0.0 ? FLOAT_OF(one) : d;
}
#endif

/* v, but no more than `most`, or no less than `least`; NaN stays.  The limits are `UNKNOWN`. */
INLINE REAL NAME(at_most)(REAL v, REAL most)
{
    return most < v ? most : v;
}

INLINE REAL NAME(at_least)(REAL v, REAL least)
{
    return least > v ? least : v;
}

static UNKNOWN REAL NAME(exp_least) = EXP_LEAST, NAME(exp_most) = EXP_MOST;
#if SINGLE
static UNKNOWN float NAME(most_decay) = 110.0f; /* exp(-a) is 0 from there on */
static UNKNOWN float NAME(log_least) = -100.0f;
#endif

/* --- exp: 2^n exp(r) with n = round(x / ln 2) --------------------------------------------------------------------- */

/* x / ln 2, rounded, plus ROUNDING. */
INLINE REAL NAME(in_powers)(REAL x)
{
    return MULTIPLY_ADD(x, INV_LN2, ROUNDING);
}

/* x - n ln 2. */
INLINE REAL NAME(reduced)(REAL x, REAL n)
{
    return MULTIPLY_ADD(-n, LN2_LO, MULTIPLY_ADD(-n, LN2_HI, x));
}

/* (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2. */
INLINE REAL NAME(exp_curve)(REAL r)
{
#if SINGLE
    return POLYNOMIAL_5(r, 0.4999999404f, 0.1666651964f, 0.0416683555f, 0.0083688032f, 0.0013817528f);
#else
    return POLYNOMIAL_10(
        r, 0.5000000000000011, 0.1666666666666642, 0.04166666666652855, 0.008333333333489576, 0.0013888888944093764,
        0.00019841269519948245, 2.48014925797813e-05, 2.7557571967153702e-06, 2.7630445986831664e-07,
        2.500539362949108e-08);
#endif
}

/* exp(r) - 1, likewise. */
INLINE REAL NAME(exp_tail)(REAL r)
{
    return r * r * NAME(exp_curve)(r) + r;
}

/* Half of a small integer that may be negative, rounded down. */
INLINE UINT NAME(halved)(UINT n)
{
    return ((n + 4096) >> 1) - 2048;
}

/* 2^n as a product of two: results below the smallest normal number then come out rounded, not flushed. */
INLINE REAL NAME(first_power)(UINT n)
{
    return FLOAT_OF((NAME(halved)(n) + BIAS) << MANTISSA);
}

INLINE REAL NAME(second_power)(UINT n)
{
    return FLOAT_OF((n - NAME(halved)(n) + BIAS) << MANTISSA);
}

INLINE REAL NAME(exp)(REAL x)
{
    x = NAME(at_least)(x, NAME(exp_least));
    const REAL t = NAME(in_powers)(x);
    const UINT n = BITS_OF(t) - BITS_OF(ROUNDING);
    const REAL tail = NAME(exp_tail)(NAME(reduced)(x, t - ROUNDING));
    const REAL value = (tail + (REAL)1.0) * NAME(first_power)(n) * NAME(second_power)(n);
    /* a product fused with what is done to it next would not overflow */
    return x > EXP_MOST ? (REAL)INFINITY : value;
}

INLINE REAL NAME(expm1)(REAL x)
{
    x = NAME(at_least)(x, NAME(exp_least));
    x = NAME(at_most)(x, NAME(exp_most));
    const REAL t = NAME(in_powers)(x);
    const UINT n = BITS_OF(t) - BITS_OF(ROUNDING);
    const REAL tail = NAME(exp_tail)(NAME(reduced)(x, t - ROUNDING));
    const REAL low = NAME(first_power)(n), high = NAME(second_power)(n);
    /* 2^n (1 + tail) - 1 with the subtraction done where it is exact; n = 0 leaves the tail alone */
    return (tail * low) * high + (low * high - (REAL)1.0);
}

/* --- log: x = 2^k (1 + f) with 1 + f in [3/4, 3/2) ----------------------------------------------------------------- */

/* log(1 + f) - f for f in [-1/4, 1/2). */
INLINE REAL NAME(log_rest)(REAL f)
{
#if SINGLE
    const REAL p = POLYNOMIAL_9(
        f, 0.3333334029f, -0.2500016391f, 0.1999960542f, -0.1665529609f, 0.1427623779f, -0.1272777915f, 0.1170067042f,
        -0.0911620557f, 0.0376729965f);
    return -(f * f * (0.5f - f * p));
#else
    const REAL s = f / (f + 2.0), z = s * s, half = f * f * 0.5;
    const REAL p = POLYNOMIAL_8(
        z, 0.666666666666666, 0.4000000000005594, 0.2857142855600734, 0.22222224276185507, 0.1818166708949459,
        0.15391072396431815, 0.1317426239136125, 0.1383856317850995);
    return s * (half + z * p) - half;
#endif
}

/* log(1 + f), likewise. */
INLINE REAL NAME(log_tail)(REAL f)
{
    return f + NAME(log_rest)(f);
}

/* The bits of x and OFFSET in the exponent, less those of 3/4: k + OFFSET lies above the mantissa. */
INLINE UINT NAME(shifted)(REAL x)
{
    return BITS_OF(x) - (BITS_OF((REAL)0.75) - ((UINT)OFFSET << MANTISSA));
}

/* k + OFFSET. */
INLINE UINT NAME(exponent)(REAL x)
{
    return NAME(shifted)(x) >> MANTISSA;
}

/* 1 + f. */
INLINE REAL NAME(significand)(REAL x)
{
    return FLOAT_OF((NAME(shifted)(x) & (((UINT)1 << MANTISSA) - 1)) + BITS_OF((REAL)0.75));
}

/* k as a float, less so much. */
INLINE REAL NAME(as_number_less)(UINT exponent, int less)
{
    return FLOAT_OF(exponent | BITS_OF(MAGIC)) - (MAGIC + (REAL)(OFFSET + less));
}

INLINE REAL NAME(as_number)(UINT exponent)
{
    return NAME(as_number_less)(exponent, 0);
}

INLINE REAL NAME(recomposed)(REAL n, REAL tail)
{
    return n * LN2_HI + (tail + n * LN2_LO);
}

/* n ln 2 + log(1 + f), where the two nearly cancel too: all but the last rounding is made up for. */
INLINE REAL NAME(logarithm)(REAL n, REAL f)
{
    const REAL whole = n * LN2_SHORT, sum = whole + f;
    return sum + (NAME(log_rest)(f) + (n * LN2_REST + (f - (sum - whole))));
}

INLINE REAL NAME(log)(REAL x)
{
    const REAL lift = (REAL)((UINT)1 << (MANTISSA / 2 + 1)) * (REAL)((UINT)1 << (MANTISSA - MANTISSA / 2 + 1));
    const _Bool small = x < TINIEST; /* brought among the normal numbers */
    const REAL y = small ? x * lift : x;
    const REAL n = NAME(as_number)(NAME(exponent)(y)) - (small ? (REAL)(MANTISSA + 2) : (REAL)0.0);
    REAL value = NAME(logarithm)(n, NAME(significand)(y) - (REAL)1.0);
    value = x == (REAL)INFINITY ? x : value;
    value = x == (REAL)0.0 ? -(REAL)INFINITY : value;
    return x >= (REAL)0.0 ? value : (REAL)NAN;
}

INLINE REAL NAME(log1p)(REAL x)
{
    const REAL u = x + (REAL)1.0;
    const UINT k = NAME(exponent)(u);
    /* 2^-k, which is subnormal for the largest x */
    const REAL t = FLOAT_OF((OFFSET - k + BIAS + BIAS / 2) << MANTISSA) * FLOAT_OF((UINT)(BIAS - BIAS / 2) << MANTISSA);
    /* (1 + x) 2^-k - 1 without the rounding of 1 + x */
    REAL value = NAME(logarithm)(NAME(as_number)(k), x * t + (t - (REAL)1.0));
    value = u == (REAL)INFINITY ? x : value;
    value = x == (REAL)-1.0 ? -(REAL)INFINITY : value;
    return x >= (REAL)-1.0 ? value : (REAL)NAN;
}

/* NaN where one of the two is NaN. */
INLINE REAL NAME(maximum)(REAL a, REAL b)
{
    return (a > b) | (a != a) ? a : b;
}

INLINE REAL NAME(minimum)(REAL a, REAL b)
{
    return (a < b) | (a != a) ? a : b;
}

/* --- shorter ways for what scalars.py needs -------------------------------------------------------------------------- */

/* exp(-a), a >= 0. */
INLINE REAL NAME(decay)(REAL a)
{
#if SINGLE
    a = NAME(at_most)(a, NAME(most_decay));
    const REAL t = NAME(in_powers)(-a);
    const REAL tail = NAME(exp_tail)(NAME(reduced)(-a, t - ROUNDING));
    /* 2^64 is taken out again at the end, so that one power of two suffices however small the result */
    const REAL power = FLOAT_OF((BITS_OF(t) << MANTISSA) + ((UINT)(BIAS + 64) << MANTISSA));
    return (power * tail + power) * 5.42101086242752217e-20f;
#else
    return NAME(exp)(-a);
#endif
}

/* x with log1p(x) = log1p(a) + log1p(b). */
INLINE REAL NAME(joined)(REAL a, REAL b)
{
    return a + b * (a + (REAL)1.0);
}

/* log1p(x) for 0 <= x < 2^100, or NaN. */
INLINE REAL NAME(log1p_moderate)(REAL x)
{
    const UINT k = NAME(exponent)(x + (REAL)1.0);
    const REAL t = FLOAT_OF((OFFSET - k + BIAS) << MANTISSA);
    return NAME(recomposed)(NAME(as_number)(k), NAME(log_tail)(x * t + (t - (REAL)1.0)));
}

#if SINGLE
/* log1p(exp(-(a + low))) + (linear - above), a >= 0, linear >= 0, `low` and `above` within the roundings of these: as a sum of two, the
smaller of which is `rest`. */
INLINE REAL NAME(softplus_of_parts)(REAL a, REAL low, REAL linear, REAL above, REAL *rest)
{
    a = NAME(at_most)(a, NAME(most_decay));
    const REAL t = NAME(in_powers)(-a);
    const REAL tail = NAME(exp_tail)(NAME(reduced)(-a, t - ROUNDING) - low);
    const REAL power = FLOAT_OF((BITS_OF(t) << MANTISSA) + ((UINT)(BIAS + 64) << MANTISSA)) * 5.42101086242752217e-20f;
    /* exp(-a) is power * (one + rounded) */
    const REAL one = tail + 1.0f, rounded = tail - (one - 1.0f), e = power * one;
    const REAL p = POLYNOMIAL_9(
        e - 0.5f, 0.378139559414f, -0.179224886121f, 0.0932318558336f, -0.0510890590702f, 0.0289050025125f,
        -0.0166569927435f, 0.0101776985515f, -0.00693066315126f, 0.00331844966871f);
    const REAL curve = power * rounded * (1.0f - 0.5f * e) - e * e * p;
    const REAL larger = linear > e ? linear : e, smaller = linear > e ? e : linear;
    *rest = smaller + (curve - above);
    return larger;
}
#endif

/* log1p(exp(-a)) + linear, a >= 0, linear >= 0. */
INLINE REAL NAME(softplus_added)(REAL a, REAL linear)
{
#if SINGLE
    REAL rest;
    const REAL larger = NAME(softplus_of_parts)(a, 0.0f, linear, 0.0f, &rest);
    return larger + rest;
#else
    return NAME(log1p)(NAME(exp)(-a)) + linear;
#endif
}

/* log1p(exp(-a)), a >= 0. */
INLINE REAL NAME(softplus_tail)(REAL a)
{
    return NAME(softplus_added)(a, (REAL)0.0);
}

/* log(u), at least -100, for 0 <= u <= 1/2. */
INLINE REAL NAME(log_clamped)(REAL u)
{
#if SINGLE
    const REAL y = u * 33554432.0f + 0.0f; /* 2^25 brings subnormal numbers among the normal ones; 0 ends up below -100 */
    const REAL n = NAME(as_number_less)(NAME(exponent)(y), 25);
    /* the two terms don't nearly cancel, as u is at most 1/2 */
    return NAME(at_least)(NAME(recomposed)(n, NAME(log_tail)(NAME(significand)(y) - 1.0f)), NAME(log_least));
#else
    const REAL value = NAME(log)(u);
    return value < -100.0 ? -100.0 : value;
#endif
}

/* -log(1 - u) - u for 0 <= u <= 1/2. */
INLINE REAL NAME(log_complement_rest)(REAL u)
{
#if SINGLE
    const REAL p = POLYNOMIAL_9(
        u - 0.25f, 0.602913176201f, 0.510028061964f, 0.49537389587f, 0.518457068756f, 0.569893764067f, 0.639356369386f,
        0.688051843157f, 1.00956371273f, 1.74593393706f);
    return u * u * p;
#else
    return -(NAME(log1p)(-u) + u);
#endif
}

INLINE REAL NAME(tanh)(REAL x)
{
    const REAL h = NAME(expm1)(ABS(x) * (REAL)-2.0);
    const REAL t = -h / (h + (REAL)2.0);
    return x < (REAL)0.0 ? -t : t;
}

#if SINGLE
/* In double to 2^-30, where the roundings of several operations in float would be doubled, or more, by what follows. */

/* log(1 + x), x > -1 and not nearer to that than floats' quotients come, and finite. */
INLINE double NAME(short_log1p_finite)(double x)
{
    const double u = x + 1.0;
    const uint64_t k = (bits_of_double(u) - bits_of_double(0.75) + ((uint64_t)2048 << 52)) >> 52;
    const double t = double_of((1023 + 2048 - k) << 52), f = x * t + (t - 1.0);
    const double p = POLYNOMIAL_9(
        f, 0.3333334029, -0.2500016391, 0.1999960542, -0.1665529609, 0.1427623779, -0.1272777915, 0.1170067042,
        -0.0911620557, 0.0376729965);
    const double n = double_of(k | 0x4330000000000000u) - (4503599627370496.0 + 2048.0); /* k as a number, by 2^52 */
    return n * 0.6931471805599453 + (f - f * f * (0.5 - f * p));
}

INLINE double NAME(short_log1p)(double x)
{
    const double value = NAME(short_log1p_finite)(x);
    return x == INFINITY ? INFINITY : value;
}

/* As ROUNDING and INV_LN2, in double. */
#ifndef DOUBLE_ROUNDING
#define DOUBLE_ROUNDING 6755399441055744.0
#define DOUBLE_INV_LN2 1.44269504088896340736
#endif

/* 2^n exp(r), t = n + DOUBLE_ROUNDING, |n| <= 1022, |r| <= ln(2) / 2. */
INLINE double NAME(short_power_of_parts)(double t, double r)
{
    const double power = double_of((bits_of_double(t) << 52) + ((uint64_t)1023 << 52));
    const double curve = POLYNOMIAL_5(r, 0.4999999404, 0.1666651964, 0.0416683555, 0.0083688032, 0.0013817528);
    return power * (r * r * curve + r) + power;
}

/* exp(x), |x| <= 700. */
INLINE double NAME(short_power)(double x)
{
    const double t = x * DOUBLE_INV_LN2 + DOUBLE_ROUNDING, n = t - DOUBLE_ROUNDING;
    return NAME(short_power_of_parts)(t, x - n * 0.693147180559945286226764);
}

/* exp(x), within +-700, which is beyond what products with floats leave finite. */
INLINE double NAME(short_exp)(double x)
{
    x = x < -700.0 ? -700.0 : x;
    x = x > 700.0 ? 700.0 : x;
    return NAME(short_power)(x);
}

/* x - 1 - log(x) for positive numbers.  The exponent's whole part cancels, and what is left of the logarithm begins with the square. */
INLINE double NAME(excess_of_log)(double x)
{
    const uint64_t shifted = bits_of_double(x) - bits_of_double(0.75) + ((uint64_t)2048 << 52);
    const double m = double_of((shifted & 0x000fffffffffffffu) + bits_of_double(0.75)), f = m - 1.0;
    const double n = double_of((shifted >> 52) | 0x4330000000000000u) - (4503599627370496.0 + 2048.0);
    const double p = POLYNOMIAL_9(
        f, 0.3333334029, -0.2500016391, 0.1999960542, -0.1665529609, 0.1427623779, -0.1272777915, 0.1170067042,
        -0.0911620557, 0.0376729965);
    return ((x - m) - n * 0.6931471805599453) + f * f * (0.5 - f * p);
}
#endif

/* log((1 + high) / (1 + low)), high >= low. */
INLINE REAL NAME(log_ratio)(REAL high, REAL low)
{
#if SINGLE
    return (float)NAME(short_log1p)(((double)high - (double)low) / (1.0 + (double)low));
#else
    return NAME(log1p)((high - low) / ((REAL)1.0 + low));
#endif
}

/* log(a / b), `far` where they are not close to each other. */
INLINE REAL NAME(log_near)(REAL a, REAL b, REAL far)
{
#if SINGLE
    const double x = ((double)a - (double)b) / (double)b;
    return x > -1.0 ? (float)NAME(short_log1p)(x) : x == -1.0 ? -INFINITY : NAN;
#else
    return a < (REAL)0.5 * b ? far : NAME(log1p)((a - b) / b);
#endif
}

/* factor exp(exponent) (1 + low). */
INLINE REAL NAME(times_exp)(REAL factor, REAL exponent, REAL low)
{
#if SINGLE
    return (float)((double)factor * NAME(short_exp)((double)exponent) * (1.0 + (double)low));
#else
    const _Bool near = ABS(exponent) < (REAL)80.0;
    const REAL power = NAME(exp)(near ? exponent : (REAL)0.5 * exponent);
    const REAL value = factor * power * (near ? (REAL)1.0 : power);
    return ABS(value) < (REAL)INFINITY ? value + value * low : value;
#endif
}

/* y log(y / x) - y + x, which is `value`.  NaN, where that is not NaN, has it computed in double. */
INLINE REAL NAME(short_divergence)(REAL x, REAL y, REAL value)
{
#if SINGLE
    const float v = (float)((double)y * NAME(excess_of_log)((double)x / (double)y));
    (void)value;
    return (x > 0.0f) & (y > 0.0f) ? v : (x >= 0.0f) & (y == 0.0f) ? x : NAN;
#else
    (void)x, (void)y;
    return value;
#endif
}

/* a / b - 1 - log(a / b), which is `value`; likewise. */
INLINE REAL NAME(short_log_excess)(REAL a, REAL b, REAL value)
{
#if SINGLE
    const float v = (float)NAME(excess_of_log)((double)a / (double)b);
    (void)value;
    return (a > 0.0f) & (b > 0.0f) & (b < INFINITY) ? v : NAN;
#else
    (void)a, (void)b;
    return value;
#endif
}

/* weight (u + v) / (1 + e) exp(-a) (1 - low), a >= 0. */
INLINE REAL NAME(times_decay)(REAL weight, REAL u, REAL v, REAL e, REAL a, REAL low)
{
#if SINGLE
    const double factor = (double)weight * (((double)u + (double)v) / (1.0 + (double)e));
    return (float)(factor * NAME(short_exp)(-(double)a) * (1.0 - (double)low));
#else
    const REAL value = weight * ((u + v) / ((REAL)1.0 + e)) * NAME(exp)(-a);
    return ABS(value) < (REAL)INFINITY ? value - value * low : value;
#endif
}

/* a u + b v + c, where c is the smallest. */
INLINE REAL NAME(weighted_sum)(REAL a, REAL u, REAL b, REAL v, REAL c)
{
#if FUSED
    return MULTIPLY_ADD(b, v, MULTIPLY_ADD(a, u, c));
#elif SINGLE
    return (float)((double)a * (double)u + ((double)b * (double)v + (double)c)); /* products are exact there */
#else
    const REAL first = a * u, second = b * v;
    const _Bool greater = first > second;
    return (greater ? first : second) + ((greater ? second : first) + c);
#endif
}
