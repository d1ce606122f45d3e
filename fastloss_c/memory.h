/* From memory to contiguous REAL, and sums of that.  Included once for each type, as elementary.h. */

/* Whether elements of that kind are read where they lie. */
#undef NATIVE
#define NATIVE (SINGLE ? FLOAT32 : FLOAT64)

#define COPY_LOOP(type, value)                                                                                         \
    do {                                                                                                               \
        if (step == (Py_ssize_t)sizeof(type)) {                                                                        \
            const type *RESTRICT from = (const type *)p;                                                               \
            for (Py_ssize_t i = 0; i < n; i++) {                                                                       \
                const type v = from[i];                                                                                \
                out[i] = (REAL)(value);                                                                                \
            }                                                                                                          \
        }                                                                                                              \
        else if (step == 0) {                                                                                          \
            const type v = *(const type *)p;                                                                           \
            const REAL same = (REAL)(value);                                                                           \
            for (Py_ssize_t i = 0; i < n; i++)                                                                         \
                out[i] = same;                                                                                         \
        }                                                                                                              \
        else                                                                                                           \
            for (Py_ssize_t i = 0; i < n; i++) {                                                                       \
                const type v = *(const type *)(p + i * step);                                                          \
                out[i] = (REAL)(value);                                                                                \
            }                                                                                                          \
    } while (0)

/* n elements of a kind, `step` bytes apart, as REAL. */
static void NAME(copied)(const char *p, Py_ssize_t step, int kind, Py_ssize_t n, REAL *RESTRICT out)
{
    switch (kind) {
    case FLOAT32: COPY_LOOP(float, v); break;
    case FLOAT64: COPY_LOOP(double, v); break;
    case BFLOAT16: COPY_LOOP(uint16_t, from_bfloat(v)); break;
    case FLOAT16:
#if SINGLE && (defined(__F16C__) || defined(__AVX512F__))
        if (step == 2) { /* one instruction for many, which compilers don't find by themselves */
            const uint16_t *RESTRICT from = (const uint16_t *)p;
            Py_ssize_t i = 0;
#if defined(__AVX512F__)
            for (; i + 16 <= n; i += 16)
                _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(from + i))));
#else
            for (; i + 8 <= n; i += 8)
                _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(from + i))));
#endif
            p += 2 * i;
            out += i;
            n -= i;
        }
#endif
        COPY_LOOP(uint16_t, from_half(v));
        break;
    default: break;
    }
}

#undef COPY_LOOP

/* The same, where they lie if they are contiguous REAL already. */
static const REAL *NAME(staged)(const char *p, Py_ssize_t step, int kind, Py_ssize_t n, REAL *scratch)
{
    if (kind == NATIVE && step == (Py_ssize_t)sizeof(REAL))
        return (const REAL *)p;
    NAME(copied)(p, step, kind, n, scratch);
    return scratch;
}

/* A loop over n elements; what is left after whole blocks goes through a block of its own.  Whether all results are finite. */
static int NAME(looped)(
    Loop loop, const REAL *x, const REAL *y, const REAL *z, const REAL *p, Py_ssize_t n, REAL *out)
{
    const Py_ssize_t rest = n % BLOCK, whole = n - rest;
    const int finite = whole ? loop(x, y, z, p, whole / BLOCK, out) : 1;
    if (!rest)
        return finite;
    REAL operands[3][BLOCK], results[BLOCK];
    const REAL *const from[3] = {x, y, z};
    for (int k = 0; k < 3; k++)
        if (from[k]) {
            for (int i = 0; i < BLOCK; i++)
                operands[k][i] = (REAL)0.5; /* in every loss's domain */
            memcpy(operands[k], from[k] + whole, rest * sizeof(REAL));
        }
    const int rest_finite = loop(operands[0], operands[1], operands[2], p, 1, results);
    memcpy(out + whole, results, rest * sizeof(REAL));
    return finite & rest_finite;
}

#if !TEMPERED
static int NAME(all_finite)(const REAL *v, Py_ssize_t n)
{
    UINT found[16] = {0};
    Py_ssize_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        for (int k = 0; k < 16; k++)
            found[k] = NAME(most_of)(found[k], v + i + k);
    for (; i < n; i++)
        found[0] = NAME(most)(found[0], NAME(magnitude)(v[i]));
    return NAME(were_finite)(found);
}
#endif

/* --- sums: in 16 lanes of float64; which lane an element goes to depends on its position alone ------------------------- */

/* n values, room for BLOCK more after them. */
static void NAME(add_values)(REAL *RESTRICT v, Py_ssize_t n, double *RESTRICT sums)
{
    for (Py_ssize_t i = n; i % BLOCK; i++)
        v[i] = 0;
    for (Py_ssize_t i = 0; i < n; i += BLOCK) /* two of the additions are in REAL */
        for (int k = 0; k < 16; k++)
            sums[k] += (double)((v[i + k] + v[i + 16 + k]) + (v[i + 32 + k] + v[i + 48 + k]));
}

/* The sum of each of n_rows rows of n values, as above, to every second number; it reads up to BLOCK values beyond the last. */
static void NAME(sum_rows)(const REAL *RESTRICT v, Py_ssize_t n, Py_ssize_t n_rows, double *RESTRICT out)
{
    const int rest = (int)(n % BLOCK);
    const Py_ssize_t whole = n - rest;
    for (Py_ssize_t row = 0; row < n_rows; row++, v += n) {
        double sums[16] = {0};
        for (Py_ssize_t i = 0; i < whole; i += BLOCK)
            for (int k = 0; k < 16; k++)
                sums[k] += (double)((v[i + k] + v[i + 16 + k]) + (v[i + 32 + k] + v[i + 48 + k]));
        if (rest) {
            const REAL *RESTRICT last = v + whole;
#define KEPT_AT(i) FLOAT_OF(BITS_OF(last[i]) & (0 - (UINT)((i) < rest))) /* what belongs to the next row becomes 0 */
            for (int k = 0; k < 16; k++)
                sums[k] += (double)((KEPT_AT(k) + KEPT_AT(k + 16)) + (KEPT_AT(k + 32) + KEPT_AT(k + 48)));
#undef KEPT_AT
        }
        for (int k = 0; k < 8; k++) /* as `folded`, which compilers make a loop of */
            sums[k] += sums[k + 8];
        for (int k = 0; k < 4; k++)
            sums[k] += sums[k + 4];
        out[2 * row] = (sums[0] + sums[2]) + (sums[1] + sums[3]);
    }
}

/* The values of n elements. */
static void NAME(summed)(
    const Formula *formula, const REAL *x, const REAL *y, const REAL *z, const REAL *p, Py_ssize_t n, double *sums)
{
    const Py_ssize_t blocks = n / BLOCK, whole = blocks * BLOCK;
    REAL rest[2 * BLOCK];
    if (blocks)
        formula->sums(x, y, z, p, blocks, sums);
    if (whole == n)
        return;
    NAME(looped)(formula->values, x + whole, y + whole, z ? z + whole : z, p, n - whole, rest);
    NAME(add_values)(rest, n - whole, sums);
}

/* Values with their weights or without, added in float64.  A weight of 0 takes out the value, whatever it is. */
static void NAME(add_weighted)(
    REAL *RESTRICT v, double *RESTRICT w, Py_ssize_t n, double *RESTRICT sums, double *RESTRICT weights)
{
    for (Py_ssize_t i = n; i % 16; i++) {
        v[i] = 0;
        if (w)
            w[i] = 0.0;
    }
    if (w)
        for (Py_ssize_t i = 0; i < n; i += 16)
            for (int k = 0; k < 16; k++) {
                sums[k] += weighed(w[i + k], (double)v[i + k]);
                weights[k] += w[i + k];
            }
    else
        for (Py_ssize_t i = 0; i < n; i += 16)
            for (int k = 0; k < 16; k++)
                sums[k] += (double)v[i + k];
}

/* Each value into a sum of its own, and each weight, if there are any. */
static void NAME(add_each)(
    const REAL *RESTRICT v, const double *RESTRICT w, Py_ssize_t n, double *RESTRICT sums, double *RESTRICT weights)
{
    if (w)
        for (Py_ssize_t i = 0; i < n; i++) {
            sums[i] += weighed(w[i], (double)v[i]);
            weights[i] += w[i];
        }
    else
        for (Py_ssize_t i = 0; i < n; i++)
            sums[i] += (double)v[i];
}

/* n_rows rows of n values, each column into a sum of its own; of four rows two of the additions are in REAL. */
static void NAME(add_rows)(const REAL *RESTRICT v, Py_ssize_t n, Py_ssize_t n_rows, double *RESTRICT sums)
{
    for (; n_rows >= 4; n_rows -= 4, v += 4 * n)
        for (Py_ssize_t i = 0; i < n; i++)
            sums[i] += (double)((v[i] + v[n + i]) + (v[2 * n + i] + v[3 * n + i]));
    for (; n_rows; n_rows--, v += n)
        for (Py_ssize_t i = 0; i < n; i++)
            sums[i] += (double)v[i];
}

/* values * weights in place, in float64; weights as above. */
static void NAME(weigh)(REAL *RESTRICT v, const double *RESTRICT w, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++)
        v[i] = (REAL)weighed(w[i], (double)v[i]);
}
