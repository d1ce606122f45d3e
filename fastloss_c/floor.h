/* What no kernel can beat by much: the cheapest loops that still compute a loss, over data in the first-level cache, and plain reads and
copies.  They look at no labels, special values or ends of rows, and are less accurate than kernels have to be: yardsticks for
`fastloss bench`, not kernels. */
#ifndef FASTLOSS_FLOOR_H
#define FASTLOSS_FLOOR_H

#include "machine.h"

#define NAME(f) f##_float
#define REAL float
#define UINT uint32_t
#define SINGLE 1
#include "elementary.h"

/* Arithmetic of one element: a difference and its square; with an exponential, a logarithm, two logarithms, both as in softplus; an element
of a long row, in float32 or from bfloat16; one of `n_classes` planes, with rows side by side in the lanes. */
enum { PLAIN, EXPONENTIAL, LOGARITHM, TWO_LOGARITHMS, SOFTPLUS, ROW, HALF_ROW, PLANES, N_PACES };

#if SHUFFLES
enum { PACED = 4096, TURNS = 4 }; /* elements per array: 16 KiB; independent chains of operations */

static float paced_x[PACED + 16], paced_y[PACED + 16], paced_out[PACED + 16];
static uint16_t paced_halves[PACED + 16];
static volatile float paced_sink; /* keeps results from being optimised away */

static void prepare_paces(void)
{
    uint32_t state = 1;
    for (int i = 0; i < PACED; i++) {
        state = state * 1664525u + 1013904223u;
        paced_x[i] = (float)(state >> 8) * (0.998f / 16777216.0f) + 0.001f; /* in (0, 1), for logarithms of it and of 1 - x */
        paced_y[i] = (float)(state >> 31);
        paced_halves[i] = (uint16_t)(bits_of_float(paced_x[i]) >> 16);
    }
}

INLINE Wide all_of(float c)
{
    return c - (Wide){0};
}

/* a > b ? p : q */
INLINE Wide pick_greater(Wide a, Wide b, Wide p, Wide q)
{
#if defined(__AVX512F__)
    return (Wide)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ), (__m512)q, (__m512)p);
#elif defined(__AVX2__)
    return (Wide)_mm256_blendv_ps((__m256)q, (__m256)p, (__m256)(a > b));
#else
    const WideBits mask = (WideBits)(a > b);
    return (Wide)(((WideBits)p & mask) | ((WideBits)q & ~mask));
#endif
}

INLINE Wide wide_maximum(Wide a, Wide b)
{
#if defined(__AVX512F__)
    return (Wide)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (Wide)_mm256_max_ps((__m256)a, (__m256)b);
#else
    return pick_greater(a, b, a, b);
#endif
}

INLINE Wide wide_at(const float *p)
{
    return *(const Wide *)p;
}

INLINE Wide wide_of_halves(const uint16_t *p)
{
    typedef uint16_t Halves __attribute__((vector_size(2 * WIDE), aligned(2), may_alias));
    return (Wide)(__builtin_convertvector(*(const Halves *)p, WideBits) << 16);
}

/* exp(x) for moderate x: no overflow, nothing subnormal. */
INLINE Wide wide_exp(Wide x)
{
    x = wide_maximum(x, all_of(-87.0f));
    const Wide t = x * INV_LN2 + ROUNDING, n = t - ROUNDING;
    const Wide r = (x - n * LN2_HI) - n * LN2_LO;
    const Wide p = POLYNOMIAL_5(r, 0.4999999404f, 0.1666651964f, 0.0416683555f, 0.0083688032f, 0.0013817528f);
    const Wide power = (Wide)(((WideBits)t << MANTISSA) + ((uint32_t)BIAS << MANTISSA));
    return power * (r * r * p + r) + power;
}

/* log(1 + f) for -1/4 <= f < 1/2. */
INLINE Wide wide_log_tail(Wide f)
{
    const Wide p = POLYNOMIAL_9(
        f, 0.3333334029f, -0.2500016391f, 0.1999960542f, -0.1665529609f, 0.1427623779f, -0.1272777915f, 0.1170067042f,
        -0.0911620557f, 0.0376729965f);
    return f - f * f * (0.5f - f * p);
}

/* log(x) for normal x > 0. */
INLINE Wide wide_log(Wide x)
{
    const WideBits k = ((WideBits)x - bits_of_float(0.75f) + ((uint32_t)OFFSET << MANTISSA)) >> MANTISSA;
    const Wide n = (Wide)(k | bits_of_float(MAGIC)) - (MAGIC + (float)OFFSET);
    return n * 0.693147182f + wide_log_tail((Wide)((WideBits)x - ((k - OFFSET) << MANTISSA)) - 1.0f);
}

/* log(1 + e) for 0 <= e <= 1. */
INLINE Wide wide_log1p(Wide e)
{
    const Wide p = POLYNOMIAL_9(
        e - 0.5f, 0.378139559414f, -0.179224886121f, 0.0932318558336f, -0.0510890590702f, 0.0289050025125f,
        -0.0166569927435f, 0.0101776985515f, -0.00693066315126f, 0.00331844966871f);
    return e - e * e * p;
}

INLINE float sum_of_wide(Wide v)
{
    float sum = 0;
    for (int k = 0; k < WIDE; k++)
        sum += v[k];
    return sum;
}

/* An element's value, and its slope if that is asked for. */
INLINE Wide wide_value(int kind, int sloped, Wide x, Wide y, Wide *slope)
{
    const Wide d = x - y;
    if (kind == EXPONENTIAL) {
        const Wide e = wide_exp(x);
        *slope = e - y;
        return e - y * x;
    }
    if (kind == LOGARITHM) {
        const Wide value = y * wide_log(x);
        *slope = value;
        if (sloped)
            *slope = y / x;
        return value;
    }
    if (kind == TWO_LOGARITHMS) { /* -y log(x) - (1 - y) log(1 - x): which of the two is near 1 is not known */
        const Wide u = wide_maximum(x, 1.0f - x);
        const Wide rare = wide_log(1.0f - u), often = wide_log_tail(u - 1.0f);
        const Wide value = y * pick_greater(x, u * 0.5f, often, rare) + (1.0f - y) * pick_greater(x, u * 0.5f, rare, often);
        *slope = value;
        if (sloped)
            *slope = d / (x * (1.0f - x));
        return value;
    }
    if (kind == SOFTPLUS) {
        const Wide a = wide_maximum(x, -x), e = wide_exp(-a);
        if (sloped) {
            const Wide larger = 1.0f / (1.0f + e);
            *slope = pick_greater(x, all_of(0.0f), larger, e * larger) - y;
        }
        return wide_log1p(e) + wide_maximum(x, all_of(0.0f)) - x * y;
    }
    *slope = d;
    return d * d;
}

/* One pass; `written`: 0 nothing, 1 the values, 2 slopes. */
INLINE float pass_of_elements(int kind, int written)
{
    Wide sums[TURNS] = {0};
    for (int i = 0; i < PACED; i += TURNS * WIDE)
#pragma GCC unroll 4
        for (int k = 0; k < TURNS; k++) {
            Wide slope = {0};
            const int at = i + k * WIDE;
            const Wide value = wide_value(kind, written == 2, wide_at(paced_x + at), wide_at(paced_y + at), &slope);
            if (written == 1)
                *(Wide *)(paced_out + at) = value;
            else
                sums[k] += value;
            if (written == 2)
                *(Wide *)(paced_out + at) = slope * 0.001f;
        }
    return sum_of_wide(sums[0] + sums[1] + sums[2] + sums[3]);
}

/* The sum of exponentials and the maximum of a long row; `written`: the exponentials, scaled afterwards. */
INLINE float pass_of_row(int halves, int written)
{
    Wide sums[TURNS] = {0}, most[TURNS] = {0};
    for (int i = 0; i < PACED; i += TURNS * WIDE)
#pragma GCC unroll 4
        for (int k = 0; k < TURNS; k++) {
            const int at = i + k * WIDE;
            const Wide x = halves ? wide_of_halves(paced_halves + at) : wide_at(paced_x + at), e = wide_exp(x - 1.0f);
            most[k] = wide_maximum(most[k], x);
            sums[k] += e;
            if (written)
                *(Wide *)(paced_out + at) = e;
        }
    const float sum = sum_of_wide(sums[0] + sums[1] + sums[2] + sums[3]);
    if (written)
        for (int i = 0; i < PACED; i += WIDE)
            *(Wide *)(paced_out + i) = wide_at(paced_out + i) * (1.0f / sum);
    return sum + sum_of_wide(wide_maximum(wide_maximum(most[0], most[1]), wide_maximum(most[2], most[3])));
}

/* As many rows of `n_classes` as there is room for, each in a lane, and about the sum of their logsumexp. */
INLINE float pass_of_planes(int n_classes, int written)
{
    const int n_rows = PACED / n_classes / WIDE * WIDE;
    Wide total = {0};
    for (int i = 0; i < n_rows; i += WIDE) {
        Wide most = wide_at(paced_x + i), sum = {0};
        for (int c = 1; c < n_classes; c++)
            most = wide_maximum(most, wide_at(paced_x + c * n_rows + i));
        for (int c = 0; c < n_classes; c++) {
            const Wide e = wide_exp(wide_at(paced_x + c * n_rows + i) - most);
            sum += e;
            if (written)
                *(Wide *)(paced_out + c * n_rows + i) = e;
        }
        total += wide_log1p(sum - 1.0f) + most; /* without the reduction that more than two classes need */
        if (written) {
            const Wide share = 1.0f / sum;
            for (int c = 0; c < n_classes; c++)
                *(Wide *)(paced_out + c * n_rows + i) = wide_at(paced_out + c * n_rows + i) * share;
        }
    }
    return sum_of_wide(total);
}

/* The elements of one pass; 0 where this compiler or so many classes allow none. */
static int elements_of_pass(int kind, int n_classes)
{
    if (kind != PLANES)
        return PACED;
    return n_classes > 0 ? PACED / n_classes / WIDE * WIDE * n_classes : 0;
}

#define PASSES(call)                                                                                                   \
    for (Py_ssize_t i = 0; i < times; i++)                                                                             \
        paced_sink = (call);                                                                                           \
    break
#define PASSES_OF(kind)                                                                                                \
    case kind * 3:                                                                                                     \
        PASSES(pass_of_elements(kind, 0));                                                                             \
    case kind * 3 + 1:                                                                                                 \
        PASSES(pass_of_elements(kind, 1));                                                                             \
    case kind * 3 + 2:                                                                                                 \
        PASSES(pass_of_elements(kind, 2))

/* `times` passes of `kind`; written: 0 nothing, 1 values, 2 slopes. */
static void run_passes(int kind, int written, int n_classes, Py_ssize_t times)
{
    switch (kind * 3 + written) {
        PASSES_OF(PLAIN);
        PASSES_OF(EXPONENTIAL);
        PASSES_OF(LOGARITHM);
        PASSES_OF(TWO_LOGARITHMS);
        PASSES_OF(SOFTPLUS);
    case ROW * 3:
        PASSES(pass_of_row(0, 0));
    case ROW * 3 + 1:
    case ROW * 3 + 2:
        PASSES(pass_of_row(0, 1));
    case HALF_ROW * 3:
        PASSES(pass_of_row(1, 0));
    case HALF_ROW * 3 + 1:
    case HALF_ROW * 3 + 2:
        PASSES(pass_of_row(1, 1));
    case PLANES * 3:
        PASSES(pass_of_planes(n_classes, 0));
    case PLANES * 3 + 1:
    case PLANES * 3 + 2:
        PASSES(pass_of_planes(n_classes, 1));
    }
}

/* Read n_in bytes and write n_out, of which those that both have are copied, `times` times. */
static void move_bytes(const char *in, Py_ssize_t n_in, char *out, Py_ssize_t n_out, Py_ssize_t times)
{
    enum { STEP = 8 * (int)sizeof(WideBits) };
    for (Py_ssize_t turn = 0; turn < times; turn++) {
        const Py_ssize_t copied = (n_in < n_out ? n_in : n_out) / STEP * STEP;
        WideBits sums[8] = {0};
        Py_ssize_t i = 0;
        for (; i < copied; i += STEP)
#pragma GCC unroll 8
            for (int k = 0; k < 8; k++)
                ((WideBits *)(out + i))[k] = ((const WideBits *)(in + i))[k];
        for (Py_ssize_t j = i; j + STEP <= n_out; j += STEP)
#pragma GCC unroll 8
            for (int k = 0; k < 8; k++)
                ((WideBits *)(out + j))[k] = sums[k];
        for (; i + STEP <= n_in; i += STEP)
#pragma GCC unroll 8
            for (int k = 0; k < 8; k++)
                sums[k] += ((const WideBits *)(in + i))[k];
        paced_sink = sum_of_wide((Wide)(sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7]));
    }
}
#else
static void prepare_paces(void) {}
static int elements_of_pass(int kind, int n_classes) { return 0; }
static void run_passes(int kind, int written, int n_classes, Py_ssize_t times) {}
static void move_bytes(const char *in, Py_ssize_t n_in, char *out, Py_ssize_t n_out, Py_ssize_t times) {}
#endif

/* --- the elementary functions, over arrays --------------------------------------------------------------------------- */

/* log(1 - u), as binary cross-entropy adds it up. */
INLINE float log_complement_float(float u)
{
    return -(u + log_complement_rest_float(u));
}

/* out[i] = f(x[i]) */
#define OVER_ARRAYS(f)                                                                                                 \
    static void all_##f(const float *RESTRICT x, float *RESTRICT out, Py_ssize_t n)                                    \
    {                                                                                                                  \
        for (Py_ssize_t i = 0; i < n; i++)                                                                             \
            out[i] = f##_float(x[i]);                                                                                  \
    }

#define ELEMENTARY(_)                                                                                                  \
    _(exp) _(expm1) _(log) _(log1p) _(tanh) _(decay) _(softplus_tail) _(log_clamped) _(log1p_moderate) _(log_complement)

ELEMENTARY(OVER_ARRAYS)

#define ROW_OF_ELEMENTARY(f) {#f, all_##f},

static const struct {
    const char *name;
    void (*over)(const float *, float *, Py_ssize_t);
} elementary_functions[] = {ELEMENTARY(ROW_OF_ELEMENTARY){NULL, NULL}};

#endif
