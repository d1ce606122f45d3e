/* The softmax family of float32 logits with a soft cap c and a temperature T: of c tanh(x / c) / T.

Included once, after everything for both types.  A loss may be smaller than what a capped logit is rounded by in float32, so they are
float64: a block of a row's, or a tile of rows', at a time, in the first-level cache.  Along a row their exponentials are still taken in
float32, once the power of two has been taken out in float64; everything else is left to the kernels of float64.  To those who
make logarithms of sums there is no temperature. */

/* Classes of rows across lanes: a tile of them is 96 KiB. */
enum { CAPPED_CLASSES = 192 };

/* Up to this size of c / T, exponentials need no maximum: they and four-fold sums stay in the range of float32. */
#define CAPPED_REACH 80.0

/* x for which x / c is at most 1: (tanh(u) / u - 1) / u^2 by u^2, to 2^-42 of tanh(u) (Remez). */
INLINE double capped_near(double x, const Temper *temper)
{
    const double u = x * temper->per_cap, v = u * u, z = x * temper->steepness;
    const double p = POLYNOMIAL_6(
        v, -0.33333333329049056, 0.13333333082190978, -0.053968202509192066, 0.021868959206244735, -0.0088600442614821131,
        0.0035798808064097459 + v * POLYNOMIAL_5(v, -0.0014244725571259908, 0.00053502029060955883,
            -0.00017217754251390793, 3.9929848931612075e-5, -4.7348577130537475e-6));
    return z + z * (v * p);
}

/* exp(-2 |u|), for |u| >= 1; what remains beyond 40 is not seen beside 1. */
INLINE double capped_decay(double x, const Temper *temper)
{
    double a = fabs(x) * (2.0 * temper->per_cap);
    a = a > 80.0 ? 80.0 : a;
    const double t = in_powers_double(-a), power = double_of((bits_of_double(t) << 52) + ((uint64_t)1023 << 52));
    return power * exp_tail_double(reduced_double(-a, t - 6755399441055744.0)) + power;
}

/* The same beyond; an infinite x stays infinite. */
INLINE double capped_far(double x, const Temper *temper)
{
    const double q = capped_decay(x, temper), size = temper->rise * ((1.0 - q) / (1.0 + q));
    const double z = x < 0.0 ? -size : size;
    return fabs(x) < INFINITY ? z : x;
}

static double capped_logit(double x, const Temper temper)
{
    return fabs(x) > temper.cap ? capped_far(x, &temper) : capped_near(x, &temper);
}

/* How fast a capped logit rises with x: (1 - tanh^2) / T. */
INLINE double steepness_far(double x, const Temper *temper)
{
    const double q = capped_decay(x, temper), slope = 4.0 * q / ((1.0 + q) * (1.0 + q)) * temper->steepness;
    return fabs(x) < INFINITY ? slope : 0.0;
}

INLINE double steepness_near(double z, const Temper *temper)
{
    const double t = z / temper->rise;
    return (1.0 - t * t) * temper->steepness;
}

static double capped_steepness(double x, const Temper temper)
{
    return fabs(x) > temper.cap ? steepness_far(x, &temper) : steepness_near(capped_near(x, &temper), &temper);
}

static double same_logit(double x, const Temper temper)
{
    (void)temper;
    return x;
}

/* A BLOCK of capped logits.  Few blocks have some beyond the cap. */
static void cap_block(const float *RESTRICT x, double *RESTRICT z, const Temper *temper)
{
    const double cap = temper->cap;
    const float limit = (float)cap;
    int some = 0;
    for (int k = 0; k < BLOCK; k++) {
        z[k] = capped_near((double)x[k], temper);
        some |= fabsf(x[k]) >= limit;
    }
    if (some)
        for (int k = 0; k < BLOCK; k++) {
            const double v = (double)x[k], far = capped_far(v, temper);
            z[k] = fabs(v) > cap ? far : z[k];
        }
}

static void cap_many(const float *x, Py_ssize_t n, double *z, const Temper *temper)
{
    float block[BLOCK] = {0.0f};
    double capped[BLOCK];
    Py_ssize_t i = 0;
    for (; i + BLOCK <= n; i += BLOCK)
        cap_block(x + i, z + i, temper);
    if (i == n)
        return;
    memcpy(block, x + i, (n - i) * sizeof(float));
    cap_block(block, capped, temper);
    memcpy(z + i, capped, (n - i) * sizeof(double));
}

/* out = slopes * steepness, which takes out nothing of a slope of 0 whatever the logit is. */
static void slopes_of_logits(const float *RESTRICT x, Py_ssize_t n, const double *RESTRICT slopes, float *RESTRICT out,
    const Temper *temper)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        const double v = (double)x[i], near = steepness_near(capped_near(v, temper), temper);
        const double far = steepness_far(v, temper), rise = fabs(v) > temper->cap ? far : near;
        out[i] = (float)(slopes[i] == 0.0 ? 0.0 : slopes[i] * rise);
    }
}

/* --- along a row ------------------------------------------------------------------------------------------------------------- */

/* A BLOCK of a row's capped logits: -inf for `skip`, and from `there` on. */
INLINE void cap_some(const float *x, Py_ssize_t there, Py_ssize_t skip, double *z, const Temper *temper)
{
    float block[BLOCK] = {0.0f};
    if (there >= BLOCK)
        cap_block(x, z, temper);
    else {
        memcpy(block, x, there * sizeof(float));
        cap_block(block, z, temper);
        for (Py_ssize_t k = there; k < BLOCK; k++)
            z[k] = -INFINITY;
    }
    if (skip >= 0 && skip < BLOCK)
        z[skip] = -INFINITY;
}

/* Sum of exp(z) 2^-n over a row of capped logits without its element `skip`, and the largest of them but NaN. */
static double sum_of_capped(
    const char *x, int kind, Py_ssize_t n_elements, Py_ssize_t skip, float n, double *most, const Temper temper)
{
    double sums[16] = {0.0}, tops[16], z[BLOCK];
    float scratch[SPAN], rests[BLOCK], powers[BLOCK];
    const double lowest = ((double)n - 127.0) * DOUBLE_LN2;
    const uint32_t bias = bias_float(n);
    const Py_ssize_t size = SIZE_OF(kind);
    for (int k = 0; k < 16; k++)
        tops[k] = -INFINITY;
    for (Py_ssize_t start = 0; start < n_elements && GOES_ON(start, 20); start += SPAN) {
        const Py_ssize_t m = n_elements - start < SPAN ? n_elements - start : SPAN;
        const float *p = staged_float(x + start * size, size, kind, m, scratch);
        for (Py_ssize_t b = 0; b < m; b += BLOCK) {
            ask_ahead(x + (start + b) * size, BLOCK * size);
            cap_some(p + b, m - b, skip - start - b, z, &temper);
            for (int k = 0; k < BLOCK; k++) {
                const double v = z[k] < lowest ? lowest : z[k], t = in_powers_double(v), power = t - 6755399441055744.0;
                rests[k] = (float)reduced_double(v, power);
                powers[k] = (float)power;
            }
            for (int k = 0; k < 16; k++) {
                float parts[4], tails[4];
                for (int i = 0; i < 4; i++) {
                    parts[i] = float_of((bits_of_float(powers[k + 16 * i] + 12582912.0f) << 23) + bias);
                    tails[i] = parts[i] * exp_tail_float(rests[k + 16 * i]);
                }
                const float ab = larger_power_float(parts[0], parts[1]), cd = larger_power_float(parts[2], parts[3]);
                const float others = smaller_power_float(ab, cd) + (smaller_power_float(parts[0], parts[1]) +
                    smaller_power_float(parts[2], parts[3]));
                sums[k] += (double)(larger_power_float(ab, cd) + ((tails[0] + tails[1]) + (tails[2] + tails[3]) + others));
            }
            for (int k = 0; k < 16; k++) {
                const double u = z[k] > z[k + 16] ? z[k] : z[k + 16], v = z[k + 32] > z[k + 48] ? z[k + 32] : z[k + 48];
                const double top = u > v ? u : v;
                tops[k] = top > tops[k] ? top : tops[k];
            }
        }
    }
    *most = -INFINITY;
    for (int k = 0; k < 16; k++)
        *most = tops[k] > *most ? tops[k] : *most;
    return folded_float(sums);
}

static float power_of_capped(double z)
{
    return z - z == 0.0 ? (float)(in_powers_double(z) - 6755399441055744.0) : 0.0f;
}

static void scan_capped(
    const char *x, int kind, Py_ssize_t n, Py_ssize_t skip, double top, double *s, double *g, double *most, const Temper temper)
{
    float power = 0.0f;
    (void)top;
    if (temper.rise > CAPPED_REACH)
        power = power_of_capped(capped_logit(top_of_float(x, kind, n), temper));
    *s = sum_of_capped(x, kind, n, skip, power, most, temper);
    if (temper.rise > CAPPED_REACH && *s < 1e-20) {
        power = power_of_capped(*most);
        *s = sum_of_capped(x, kind, n, skip, power, most, temper);
    }
    *g = log_of_power((double)power, 0.0);
}

/* The sum of exp(z - top) over a row without its element `skip`, in float64. */
static double exact_sum_of_capped(
    const char *x, int kind, Py_ssize_t n, Py_ssize_t skip, double top, const Temper temper)
{
    double sums[16] = {0.0}, z[BLOCK];
    float scratch[BLOCK];
    const Py_ssize_t size = SIZE_OF(kind);
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += BLOCK) {
        const Py_ssize_t m = n - start < BLOCK ? n - start : BLOCK;
        cap_some(staged_float(x + start * size, size, kind, m, scratch), m, skip - start, z, &temper);
        for (int k = 0; k < BLOCK; k++)
            z[k] = exp_double(z[k] - top);
        add_in_lanes(z, BLOCK, sums);
    }
    return folded_float(sums);
}

/* `mix` of capped logits. */
static void mix_capped(
    const char *x, int kind, Py_ssize_t n, const char *y, Py_ssize_t y_step, int y_kind, const double *w, double base,
    double keep, double spread, double *loss, double *mass, const Temper temper)
{
    float scratch[SPAN];
    double z[SPAN], low = 0.0, mass_low = 0.0;
    const Py_ssize_t size = SIZE_OF(kind);
    *loss = 0.0;
    if (mass)
        *mass = 0.0;
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += SPAN) {
        const Py_ssize_t m = n - start < SPAN ? n - start : SPAN;
        double part, share;
        cap_many(staged_float(x + start * size, size, kind, m, scratch), m, z, &temper);
        mix_double(
            (const char *)z, FLOAT64, m, y ? y + start * y_step : NULL, y_step, y_kind, w ? w + start : NULL, base, keep, spread,
            &part, mass ? &share : NULL, UNTEMPERED);
        accumulate(loss, &low, part);
        if (mass)
            accumulate(mass, &mass_low, share);
    }
    *loss += low;
    if (mass)
        *mass += mass_low;
}

/* `fill`, with the derivatives of the capped logits where `slopes`. */
INLINE void fill_from_capped(
    const char *x, int kind, Py_ssize_t n, double top, double total, double factor, int mixed, const char *y,
    Py_ssize_t y_step, int y_kind, const double *w, double scale, double keep, double spread, float *out, const int slopes,
    const Temper temper)
{
    float scratch[SPAN];
    double z[SPAN];
    const Py_ssize_t size = SIZE_OF(kind);
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += SPAN) {
        const Py_ssize_t m = n - start < SPAN ? n - start : SPAN;
        const float *p = staged_float(x + start * size, size, kind, m, scratch);
        if (p != scratch) /* the results may go where the logits are */
            p = memcpy(scratch, p, m * sizeof(float));
        cap_many(p, m, z, &temper);
        fill_double(
            (const char *)z, FLOAT64, m, top, total, factor, mixed, y ? y + start * y_step : NULL, y_step, y_kind,
            w ? w + start : NULL, scale, keep, spread, z, UNTEMPERED);
        if (slopes)
            slopes_of_logits(p, m, z, out + start, &temper);
        else
            for (Py_ssize_t i = 0; i < m; i++)
                out[start + i] = (float)z[i];
    }
}

static void fill_capped(
    const char *x, int kind, Py_ssize_t n, double top, double total, double factor, int mixed, const char *y,
    Py_ssize_t y_step, int y_kind, const double *w, double scale, double keep, double spread, void *out, const Temper temper)
{
    fill_from_capped(
        x, kind, n, top, total, factor, mixed, y, y_step, y_kind, w, scale, keep, spread, (float *)out, 1, temper);
}

static void log_probabilities_capped(
    const char *x, int kind, Py_ssize_t n, double top, double tail, void *result, const Temper temper)
{
    float scratch[SPAN], *out = (float *)result;
    double z[SPAN];
    const Py_ssize_t size = SIZE_OF(kind);
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += SPAN) {
        const Py_ssize_t m = n - start < SPAN ? n - start : SPAN;
        cap_many(staged_float(x + start * size, size, kind, m, scratch), m, z, &temper);
        for (Py_ssize_t i = 0; i < m; i++)
            out[start + i] = (float)((z[i] - top) - tail);
    }
}

static void normalise_rows_capped(
    const char *const *x, int kind, Py_ssize_t n, int n_rows, double *lse, char *const *logs, char *const *shares,
    Rows *found, const Temper temper)
{
    for (int k = 0; k < n_rows; k++) {
        Py_ssize_t place;
        double s, g, most, tail;
        const double raw = peak_of_float(x[k], kind, n, &place), top = capped_logit(raw, temper);
        const _Bool finite = fabs(raw) < INFINITY;
        scan_capped(x[k], kind, n, place, top, &s, &g, &most, temper);
        likelihoods_float(&s, &g, &top, &tail, 1, 1.0);
        if (lse) {
            lse[k] = finite ? top + tail : infinite_sum(x[k], SIZE_OF(kind), kind, n, raw);
            if (finite && fabs(lse[k]) < 1.0) /* little may be left of a sum in float32 */
                lse[k] = top + log1p_double(exact_sum_of_capped(x[k], kind, n, place, top, temper));
        }
        const double total = total_of_row(s, g, top, top, 1.0);
        if (found) {
            found->top[k] = top;
            found->tail[k] = tail;
            found->total[k] = total;
        }
        if (logs)
            log_probabilities_capped(x[k], kind, n, top, finite ? tail : NAN, logs[k], temper);
        if (shares)
            fill_from_capped(
                x[k], kind, n, top, total, 1.0, 0, NULL, 0, ABSENT, NULL, 1.0, 0.0, 0.0, (float *)shares[k], 0, temper);
    }
}

/* The maximum of capped logits, to the last bit as they are computed here, and logsumexp less that, in float64. */
static double tail_of_capped(const Side *x, Py_ssize_t n, double *top, const Temper temper)
{
    const float most = (float)top_of_float(x->x, x->kind, n);
    double z[BLOCK];
    cap_some(&most, 1, -1, z, &temper);
    *top = z[0];
    return log_double(exact_sum_of_capped(x->x, x->kind, n, -1, *top, temper));
}

/* `divergence`, in float64. */
static double divergence_capped(const Side *r, const Side *x, Py_ssize_t n, double *gap, const Temper temper)
{
    float r_scratch[BLOCK], x_scratch[BLOCK];
    double r_capped[BLOCK], x_capped[BLOCK], r_top, x_top, most[16], top = -INFINITY, sums[16] = {0.0}, shares[16] = {0.0};
    Pair_double pair;
    for (int k = 0; k < 16; k++)
        most[k] = -INFINITY;
    const double r_tail = tail_of_capped(r, n, &r_top, temper), x_tail = tail_of_capped(x, n, &x_top, temper);
    find_pair_double(r_top, r_tail, x_top, x_tail, &pair, UNTEMPERED);
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += BLOCK) {
        const Py_ssize_t m = n - start < BLOCK ? n - start : BLOCK;
        const float *p = staged_float(r->x + start * r->step, r->step, r->kind, m, r_scratch);
        const float *q = staged_float(x->x + start * x->step, x->step, x->kind, m, x_scratch);
        cap_some(p, m, -1, r_capped, &temper);
        cap_some(q, m, -1, x_capped, &temper);
        add_excesses_double(r_capped, x_capped, 1, &pair, sums, shares, most, UNTEMPERED);
    }
    for (int k = 0; k < 16; k++)
        top = most[k] > top ? most[k] : top;
    *gap = pair.high + pair.low;
    if (!is_moderate_double(r_top, x_top, top, UNTEMPERED))
        return INFINITY; /* a class that is ruled out: all other capped logits are close enough */
    return finished_divergence(folded_float(sums) / pair.total, folded_float(shares) / pair.total, gap);
}

/* Left to the above. */
static int quick_divergence_capped(
    const Side *r, const Side *x, Py_ssize_t n, Py_ssize_t own, double *kl, double *gap, Py_ssize_t *r_peak,
    Py_ssize_t *x_peak, Others *others, const Temper temper)
{
    (void)r, (void)x, (void)n, (void)own, (void)kl, (void)gap, (void)r_peak, (void)x_peak, (void)others, (void)temper;
    return 0;
}

/* --- across rows --------------------------------------------------------------------------------------------------------------- */

/* LANES rows of up to CAPPED_CLASSES classes, for the kernels of float64. */
static Columns capped_tile(const Columns *x, Py_ssize_t n_classes, int width, double *tile, const Temper *temper)
{
    float some[64 * LANES];
    for (Py_ssize_t start = 0; start < n_classes; start += 64) {
        const int classes = n_classes - start < 64 ? (int)(n_classes - start) : 64;
        load_tile_float(x, start, classes, width, LANES, some);
        for (int c = 0; c < classes; c++)
            cap_block(some + c * LANES, tile + (start + c) * LANES, temper);
    }
    return (Columns){(const char *)tile, LANES * sizeof(double), sizeof(double), FLOAT64};
}

static void scan_columns_capped(const Columns *x, Py_ssize_t n_classes, int width, Rows *rows, const Temper temper)
{
    double tile[CAPPED_CLASSES * LANES];
    const Columns z = capped_tile(x, n_classes, width, tile, &temper);
    scan_columns_double(&z, n_classes, width, rows, UNTEMPERED);
}

static void find_losses_capped(const Columns *x, Py_ssize_t n_classes, int width, Rows *rows, const Temper temper)
{
    scan_columns_capped(x, n_classes, width, rows, temper);
}

static void mix_columns_capped(
    const Columns *x, const Columns *y, Py_ssize_t n_classes, int width, const double *w, double keep, double spread,
    Rows *rows, const Temper temper)
{
    double tile[CAPPED_CLASSES * LANES];
    const Columns z = capped_tile(x, n_classes, width, tile, &temper);
    mix_columns_double(&z, y, n_classes, width, w, keep, spread, rows, UNTEMPERED);
}

/* What is in a tile of float64, times the steepness of `x` where that is given, to float32. */
static void put_capped(
    const double *tile, const Columns *x, Py_ssize_t n_classes, int width, char *out, Py_ssize_t class_step,
    Py_ssize_t lane_step, const Temper *temper)
{
    float some[64 * LANES], logits[64 * LANES];
    for (Py_ssize_t start = 0; start < n_classes; start += 64) {
        const int classes = n_classes - start < 64 ? (int)(n_classes - start) : 64;
        const double *from = tile + start * LANES;
        if (x) {
            load_tile_float(x, start, classes, width, LANES, logits);
            slopes_of_logits(logits, classes * LANES, from, some, temper);
        }
        else
            for (int i = 0; i < classes * LANES; i++)
                some[i] = (float)from[i];
        store_tile_float(some, classes, width, out + start * class_step, class_step, lane_step);
    }
}

static void fill_columns_capped(
    const Columns *x, const Columns *y, Py_ssize_t n_classes, int width, const double *w, int mixed, double keep,
    double spread, double scale, int at_labels, const Rows *rows, char *out, Py_ssize_t class_step, Py_ssize_t lane_step,
    const Temper temper)
{
    double tile[CAPPED_CLASSES * LANES];
    const Columns z = capped_tile(x, n_classes, width, tile, &temper);
    fill_columns_double(
        &z, y, n_classes, width, w, mixed, keep, spread, scale, at_labels, rows, (char *)tile, z.class_step, z.lane_step,
        UNTEMPERED);
    put_capped(tile, temper.slopes ? x : NULL, n_classes, width, out, class_step, lane_step, &temper);
}

static void log_columns_capped(
    const Columns *x, Py_ssize_t n_classes, int width, const Rows *rows, char *out, Py_ssize_t class_step,
    Py_ssize_t lane_step, const Temper temper)
{
    double tile[CAPPED_CLASSES * LANES];
    const Columns z = capped_tile(x, n_classes, width, tile, &temper);
    log_columns_double(&z, n_classes, width, rows, (char *)tile, z.class_step, z.lane_step, UNTEMPERED);
    put_capped(tile, NULL, n_classes, width, out, class_step, lane_step, &temper);
}

static void diverge_columns_capped(
    const Columns *r, const Columns *x, Py_ssize_t n_classes, int width, const Rows *reference, const Rows *rows, double *kl,
    double *gaps, const Temper temper)
{
    double r_tile[CAPPED_CLASSES * LANES], x_tile[CAPPED_CLASSES * LANES];
    const Columns p = capped_tile(r, n_classes, width, r_tile, &temper), q = capped_tile(x, n_classes, width, x_tile, &temper);
    diverge_columns_double(&p, &q, n_classes, width, reference, rows, kl, gaps, UNTEMPERED);
}
