/* Details of a row: its first elements in the order of argmax, and sums over the distances of the others from the largest.
Included once per type, like elementary.h.

An entropy is log z + w / z, with z the sum of exp(x - top) and w that of (top - x) exp(x - top): no term is negative,
so nothing cancels, however small it is.  The few largest elements go into both sums in float64, and only the others in
REAL: none of these makes up most of a sum, so that their roundings hardly show. */

#ifndef HEAVIEST
#define HEAVIEST 4 /* elements that are summed up in float64 */
#endif

/* Whether one element comes before another: NaN first, then larger ones, ties by position. */
INLINE _Bool NAME(is_ahead)(REAL a, int64_t i, REAL b, int64_t j)
{
    if (a != a || b != b)
        return a != a && (b == b || i < j);
    return a > b || (a == b && i < j);
}

/* Sifts an element down from `root` in a heap whose root is the last in that order. */
static void NAME(sink)(REAL *values, int64_t *places, Py_ssize_t size, Py_ssize_t root, REAL value, int64_t place)
{
    for (Py_ssize_t child = 2 * root + 1; child < size; child = 2 * root + 1) {
        if (child + 1 < size && NAME(is_ahead)(values[child], places[child], values[child + 1], places[child + 1]))
            child++;
        if (!NAME(is_ahead)(value, place, values[child], places[child]))
            break;
        values[root] = values[child];
        places[root] = places[child];
        root = child;
    }
    values[root] = value;
    places[root] = place;
}

/* The first m elements of a row in that order, as far as it has been gone through: a heap once there are as many. */
typedef struct {
    REAL *values;
    int64_t *places;
    Py_ssize_t m, n_kept;
    REAL level; /* what is at most that is not among them; NaN where nothing is known */
} NAME(First);

static void NAME(keep)(NAME(First) *first, REAL value, int64_t place)
{
    REAL *values = first->values;
    int64_t *places = first->places;
    if (first->n_kept < first->m) {
        values[first->n_kept] = value;
        places[first->n_kept++] = place;
        if (first->n_kept < first->m)
            return;
        for (Py_ssize_t root = first->m / 2; root--;)
            NAME(sink)(values, places, first->m, root, values[root], places[root]);
    }
    else if (NAME(is_ahead)(value, place, values[0], places[0]))
        NAME(sink)(values, places, first->m, 0, value, place);
    first->level = values[0];
}

/* Which of 16 elements are above a level or NaN, as a bit mask: written with intrinsics, as compilers need more instructions. */
INLINE uint64_t NAME(exceeding)(const REAL *x, REAL level)
{
#if defined(__AVX512F__) && SINGLE
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(x), _mm512_set1_ps(level), _CMP_NLE_UQ);
#elif defined(__AVX512F__)
    const __m512d v = _mm512_set1_pd(level);
    return _mm512_cmp_pd_mask(_mm512_loadu_pd(x), v, _CMP_NLE_UQ)
        | (uint64_t)_mm512_cmp_pd_mask(_mm512_loadu_pd(x + 8), v, _CMP_NLE_UQ) << 8;
#elif defined(__F16C__) && SINGLE
    const __m256 v = _mm256_set1_ps(level);
    return (uint64_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x), v, _CMP_NLE_UQ))
        | (uint64_t)_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + 8), v, _CMP_NLE_UQ)) << 8;
#else
    uint64_t found = 0;
    for (int k = 0; k < 16; k++)
        found |= (uint64_t)!(x[k] <= level) << k;
    return found;
#endif
}

INLINE int NAME(some_exceed)(const REAL *x, int n, REAL level)
{
    uint64_t found = 0;
    for (int k = 0; k < n; k += 16)
        found |= NAME(exceeding)(x + k, level);
    return found != 0;
}

/* Takes up n elements, the first of which is at `place`. */
static void NAME(keep_some)(NAME(First) *first, const REAL *x, Py_ssize_t n, int64_t place)
{
    const Py_ssize_t whole = n / 16 * 16;
    for (Py_ssize_t i = 0; i < whole; i += 16)
        for (uint64_t bits = NAME(exceeding)(x + i, first->level); bits; bits &= bits - 1) {
            const int k = lowest_bit(bits);
            NAME(keep)(first, x[i + k], place + i + k);
        }
    for (Py_ssize_t i = whole; i < n; i++)
        if (!(x[i] <= first->level))
            NAME(keep)(first, x[i], place + i);
}

/* What at least m elements are above, or NaN: of each lane's largest, the m-th is no larger than the row's m-th. */
static REAL NAME(level_of)(const char *x, Py_ssize_t step, int kind, Py_ssize_t n, Py_ssize_t m)
{
    REAL tops[BLOCK], scratch[SPAN];
    const REAL unknown = (REAL)NAN;
    if (m > BLOCK / 2 || n < 8 * BLOCK) /* where it would take longer than it saves */
        return unknown;
    for (int k = 0; k < BLOCK; k++)
        tops[k] = -(REAL)INFINITY;
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += SPAN) {
        const Py_ssize_t whole = (n - start < SPAN ? n - start : SPAN) / BLOCK;
        NAME(raise)(NAME(staged)(x + start * step, step, kind, whole * BLOCK, scratch), whole, tops);
    }
    for (Py_ssize_t k = 0; k < m; k++) {
        int best = (int)k;
        for (int i = best + 1; i < BLOCK; i++)
            best = tops[i] > tops[best] ? i : best;
        const REAL top = tops[best];
        tops[best] = tops[k];
        tops[k] = top;
    }
    const REAL level = tops[m - 1];
    if (!(ABS(level) < (REAL)INFINITY))
        return unknown;
    /* the next number below, as that one itself may be the row's m-th */
    return level > 0 ? FLOAT_OF(BITS_OF(level) - 1) : level < 0 ? FLOAT_OF(BITS_OF(level) + 1) : -TINIEST;
}

/* The first m of n elements in that order, and their places.  Most of a row's elements are compared with the last of
those before them, many at a time, and that is all. */
static void NAME(find_first)(
    const char *x, Py_ssize_t step, int kind, Py_ssize_t n, Py_ssize_t m, REAL *values, int64_t *places)
{
    REAL scratch[SPAN];
    enum { MANY = 4 * BLOCK };
    const Py_ssize_t sample = n < 16 * SPAN ? n : 16 * SPAN;
    NAME(First) first = {values, places, m, 0, NAME(level_of)(x, step, kind, sample, m)};
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += SPAN) {
        const Py_ssize_t width = n - start < SPAN ? n - start : SPAN;
        if (step == SIZE_OF(kind))
            ask_ahead(x + start * step, width * step);
        const REAL *p = NAME(staged)(x + start * step, step, kind, width, scratch);
        Py_ssize_t i = 0;
        for (; i + MANY <= width; i += MANY)
            if (NAME(some_exceed)(p + i, MANY, first.level))
                NAME(keep_some)(&first, p + i, MANY, start + i);
        NAME(keep_some)(&first, p + i, width - i, start + i);
    }
    for (Py_ssize_t size = m - 1; size > 0; size--) { /* the root is the last of those that are left */
        const REAL value = values[size];
        const int64_t place = places[size];
        values[size] = values[0];
        places[size] = places[0];
        NAME(sink)(values, places, size, 0, value, place);
    }
}

/* A term as `term` has it, and its product with top - x, which is rounded once more than that difference. */
INLINE REAL NAME(spread_term)(REAL x, REAL top, REAL lowest, UINT bias, REAL *spread)
{
    x = x < lowest ? lowest : x;
    REAL power;
    const REAL tail = NAME(part_of_term)(x, lowest, bias, &power, UNTEMPERED), gap = (top - x) * power;
    *spread = MULTIPLY_ADD(gap, tail, gap);
    return power * tail + power;
}

static void NAME(add_spread)(
    const REAL *RESTRICT x, Py_ssize_t n_blocks, REAL top, REAL lowest, UINT bias, Py_ssize_t ahead,
    double *RESTRICT sums, double *RESTRICT spreads)
{
    for (Py_ssize_t i = 0; i < n_blocks; i++, x += BLOCK) {
        for (unsigned line = 0; line < BLOCK * sizeof(REAL); line += LINE)
            ASK_FOR((const char *)x + ahead + line);
        for (int k = 0; k < 16; k++) {
            REAL p, q, r, t;
            const REAL a = NAME(spread_term)(x[k], top, lowest, bias, &p);
            const REAL b = NAME(spread_term)(x[k + 16], top, lowest, bias, &q);
            const REAL c = NAME(spread_term)(x[k + 32], top, lowest, bias, &r);
            const REAL d = NAME(spread_term)(x[k + 48], top, lowest, bias, &t);
            sums[k] += (double)((a + b) + (c + d));
            spreads[k] += (double)((p + q) + (r + t));
        }
    }
}

/* Sums of exp(x) 2^-n, and of that times top - x, over a row without some of its elements, whose places ascend.
`ahead` is how many bytes after it lies what will be needed next. */
static void NAME(sum_spread)(
    const char *x, Py_ssize_t step, int kind, Py_ssize_t n_elements, const int64_t *left_out, int n_left_out, REAL top,
    REAL n, Py_ssize_t ahead, double *s, double *w)
{
    double sums[16] = {0.0}, spreads[16] = {0.0};
    Lanes lanes = {{0.0}, {0.0}}, others = {{0.0}, {0.0}};
    REAL scratch[SPAN], block[BLOCK];
    const REAL lowest = NAME(lowest)(n, UNTEMPERED);
    const UINT bias = NAME(bias)(n);
    const _Bool in_place = kind == NATIVE && step == (Py_ssize_t)sizeof(REAL);
    const Py_ssize_t span = !SINGLE ? SPAN / 4 : in_place ? MOST_AT_ONCE : SPAN;
    int next = 0;
    for (Py_ssize_t start = 0; start < n_elements && GOES_ON(start, 20); start += span) {
        const Py_ssize_t m = n_elements - start < span ? n_elements - start : span;
        if (!in_place)
            for (Py_ssize_t line = 0; line < m * SIZE_OF(kind); line += LINE)
                ASK_FOR(x + start * step + ahead + line);
        const REAL *p = NAME(staged)(x + start * step, step, kind, m, scratch);
        Py_ssize_t done = 0;
        while (done < m) {
            /* whole BLOCKs up to the next element that is left out; then the BLOCK that it is in, or what remains */
            const Py_ssize_t stop = next < n_left_out && left_out[next] < start + m ? left_out[next] - start : m;
            const Py_ssize_t whole = (stop - done) / BLOCK * BLOCK;
            NAME(add_spread)(p + done, whole / BLOCK, top, lowest, bias, in_place ? ahead : 0, sums, spreads);
            done += whole;
            if (done == m)
                break;
            const Py_ssize_t size = m - done < BLOCK ? m - done : BLOCK;
            NAME(padded)(p + done, size, block);
            for (; next < n_left_out && left_out[next] < start + done + size; next++)
                block[left_out[next] - start - done] = -(REAL)INFINITY;
            NAME(add_spread)(block, 1, top, lowest, bias, 0, sums, spreads);
            done += size;
        }
        if (!SINGLE) {
            take_up(&lanes, sums);
            take_up(&others, spreads);
        }
    }
    *s = SINGLE ? NAME(folded)(sums) : total_of(&lanes);
    *w = SINGLE ? NAME(folded)(spreads) : total_of(&others);
}

#if !SINGLE
/* exp(x - top) and that times top - x, 0 for -inf. */
INLINE double spread_of(double x, double top, double *spread)
{
    const double power = exp_of_difference(1.0, x, top, 1.0);
    *spread = weighed(power, top - x);
    return power;
}

/* The sums of these over a row of up to BLOCK elements without one of them. */
static void spread_of_few(
    const char *x, Py_ssize_t step, int kind, Py_ssize_t n, int64_t left_out, double top, double *s, double *w)
{
    enum { SUMS = 16 };
    double part[BLOCK], sums[SUMS] = {0.0}, spreads[SUMS] = {0.0};
    copied_double(x, step, kind, n, part);
    part[left_out] = -INFINITY;
    for (Py_ssize_t i = n; i % SUMS; i++)
        part[i] = -INFINITY;
    for (Py_ssize_t i = 0; i < n; i += SUMS)
        IN_LANES
        for (int k = 0; k < SUMS; k++) {
            double spread;
            sums[k] += spread_of(part[i + k], top, &spread);
            spreads[k] += spread;
        }
    *s = folded_double(sums);
    *w = folded_double(spreads);
}

/* The sums of these over a row without some elements, in float64 whatever it is. */
static void exact_spread(
    const char *x, Py_ssize_t step, int kind, Py_ssize_t n, const int64_t *left_out, int n_left_out, double top,
    double *s, double *w)
{
    Lanes lanes = {{0.0}, {0.0}}, others = {{0.0}, {0.0}};
    double part[SPAN], spreads[SPAN], sums[16] = {0.0};
    int next = 0;
    for (Py_ssize_t start = 0; start < n && GOES_ON(start, 20); start += SPAN) {
        const Py_ssize_t size = n - start < SPAN ? n - start : SPAN;
        copied_double(x + start * step, step, kind, size, part);
        for (; next < n_left_out && left_out[next] < start + size; next++)
            part[left_out[next] - start] = -INFINITY;
        for (Py_ssize_t i = 0; i < size; i++)
            part[i] = spread_of(part[i], top, &spreads[i]);
        add_in_lanes(part, size, sums);
        take_up(&lanes, sums);
        add_in_lanes(spreads, size, sums);
        take_up(&others, sums);
    }
    *s = total_of(&lanes);
    *w = total_of(&others);
}

/* The first numbers in ascending order. */
static int ascending(const int64_t *places, int n, int64_t *sorted)
{
    for (int i = 0; i < n; i++) {
        int k = i;
        for (; k && sorted[k - 1] > places[i]; k--)
            sorted[k] = sorted[k - 1];
        sorted[k] = places[i];
    }
    return n;
}
#endif

/* A row's first m elements, at least HEAVIEST of them if there are as many; and in `state` its largest, and of all
others the sums of exp(x - top) and of that times top - x: NaN where the largest is not finite.  `ahead` as above. */
static void NAME(detail)(
    const char *x, Py_ssize_t step, int kind, Py_ssize_t n, Py_ssize_t m, Py_ssize_t ahead, REAL *values,
    int64_t *places, double *state)
{
    NAME(find_first)(x, step, kind, n, m, values, places);
    const int heavy = m < HEAVIEST ? (int)m : HEAVIEST;
    const double top = (double)values[0];
    double s = 0.0, w = 0.0, spread, rest_s = 0.0, rest_w = 0.0;
    int64_t left_out[HEAVIEST];
    state[0] = top;
    state[1] = state[2] = NAN;
    if (!(fabs(top) < INFINITY))
        return;
    if (SINGLE && n > heavy && n <= BLOCK) { /* so few that float64 takes no longer */
        spread_of_few(x, step, kind, n, places[0], top, &state[1], &state[2]);
        return;
    }
    for (int k = 1; k < heavy; k++) {
        s += spread_of((double)values[k], top, &spread);
        w += spread;
    }
    if (n > heavy && values[heavy - 1] > -(REAL)INFINITY) {
        ascending(places, heavy, left_out);
        if (ABS(values[0]) <= LIMIT && ABS(values[1]) <= LIMIT) {
            const REAL power = NAME(power_of)(values[1], UNTEMPERED); /* terms far below the second largest add nothing */
            NAME(sum_spread)(x, step, kind, n, left_out, heavy, values[0], power, ahead, &rest_s, &rest_w);
            if (rest_s != 0.0) {
                double based = rest_s;
#if SINGLE
                const double g = NAME(log_of_reference)(rest_s, power, UNTEMPERED);
#else
                const double g = based_sum(power, &based);
#endif
                const double by = exp_of_difference(1.0, g, top, 1.0) * (based / rest_s);
                rest_s *= by;
                rest_w *= by;
            }
        }
        else /* logits so large that exponentials need float64 */
            exact_spread(x, step, kind, n, left_out, heavy, top, &rest_s, &rest_w);
    }
    state[1] = s + rest_s;
    state[2] = w + rest_w;
}

/* --- the same across rows of up to BLOCK classes ------------------------------------------------------------------------- */

/* The first of those of STRIP rows that are not NaN. */
APART void NAME(find_next)(const REAL *RESTRICT tile, int classes, UINT *RESTRICT found)
{
    REAL most[STRIP];
    UINT place[STRIP] = {0};
    memcpy(most, tile, sizeof most);
    for (int c = 1; c < classes; c++) {
        const REAL *RESTRICT v = tile + c * LANES;
        IN_LANES
        for (int k = 0; k < STRIP; k++) {
            const _Bool ahead = (v[k] > most[k]) | (most[k] != most[k]);
            place[k] = ahead ? (UINT)c : place[k];
            most[k] = ahead ? v[k] : most[k];
        }
    }
    memcpy(found, place, sizeof place);
}

/* A row's largest element, and the sums over the others, as above: of STRIP rows, whose largest are at `own`. */
APART void NAME(spread_strip)(
    const REAL *RESTRICT tile, int classes, const UINT *RESTRICT own, double *RESTRICT top, double *RESTRICT s,
    double *RESTRICT w)
{
    enum { SUMMED = 8 }; /* terms that are added up before they are added to the rest */
    double tops[STRIP], sums[STRIP], spreads[STRIP], all[STRIP] = {0.0}, every[STRIP] = {0.0};
    for (int k = 0; k < STRIP; k++)
        tops[k] = (double)tile[own[k] * LANES + k];
    for (int start = 0; start < classes; start += SUMMED) {
        memset(sums, 0, sizeof sums);
        memset(spreads, 0, sizeof spreads);
        for (int c = start; c < classes && c < start + SUMMED; c++) {
            const REAL *RESTRICT v = tile + c * LANES;
            IN_LANES
            for (int k = 0; k < STRIP; k++) {
                const double x = (double)(own[k] == (UINT)c ? -(REAL)INFINITY : v[k]);
#if SINGLE
                const double power = exp_double(x - tops[k]); /* that difference is exact, or nearly */
#else
                const double power = exp_of_difference(1.0, x, tops[k], 1.0);
#endif
                sums[k] += power;
                spreads[k] += weighed(power, tops[k] - x);
            }
        }
        for (int k = 0; k < STRIP; k++) {
            all[k] += sums[k];
            every[k] += spreads[k];
        }
    }
    for (int k = 0; k < STRIP; k++) {
        const _Bool finite = fabs(tops[k]) < INFINITY;
        top[k] = tops[k];
        s[k] = finite ? all[k] : NAN;
        w[k] = finite ? every[k] : NAN;
    }
}

/* All classes of up to LANES rows, as a tile. */
static void NAME(load_few)(const Columns *x, int n, int width, REAL *tile)
{
    for (int start = 0; start < n; start += GROUP)
        NAME(load_tile)(x, start, NAME(group)(n, start), width, LANES, tile + start * LANES);
}

/* The entropies of rows whose largest elements are known. */
static void NAME(entropy_columns)(const Columns *x, int n, int width, const int64_t *largest, double *entropies)
{
    REAL tile[BLOCK * LANES];
    double top[LANES], s[LANES], w[LANES];
    UINT own[LANES];
    NAME(load_few)(x, n, width, tile);
    for (int lane = 0; lane < LANES; lane++)
        own[lane] = lane < width ? (UINT)largest[lane] : 0;
    for (int lane = 0; lane < width; lane += STRIP) {
        NAME(spread_strip)(tile + lane, n, own + lane, top + lane, s + lane, w + lane);
        for (int k = lane; k < lane + STRIP; k++)
            entropies[k] = log1p_double(s[k]) + w[k] / (1.0 + s[k]);
    }
}

/* What `detail` finds, of up to LANES rows; each step is that from a row to the next, in bytes. */
static void NAME(detail_columns)(
    const Columns *x, int n, int width, Py_ssize_t m, char *values, Py_ssize_t values_step, char *places,
    Py_ssize_t places_step, char *state, Py_ssize_t state_step)
{
    enum { MOST = 8 }; /* elements that are found one after the other */
    REAL tile[BLOCK * LANES], left[BLOCK * LANES];
    double top[LANES], s[LANES], w[LANES];
    UINT found[MOST][LANES];
    _Bool missing = 0;
    NAME(load_few)(x, n, width, tile);
    for (int i = 0; i < n * LANES; i++)
        missing |= tile[i] != tile[i];
    if (m > MOST || missing)
        for (int lane = 0; lane < width; lane++) {
            int64_t *own = (int64_t *)(places + lane * places_step);
            NAME(find_first)(
                x->data + lane * x->lane_step, x->class_step, x->kind, n, m, (REAL *)(values + lane * values_step), own);
            found[0][lane] = (UINT)own[0];
        }
    else {
        memcpy(left, tile, n * LANES * sizeof(REAL));
        for (int k = 0; k < (int)m; k++) {
            for (int lane = 0; lane < width; lane += STRIP)
                NAME(find_next)(left + lane, n, found[k] + lane);
            for (int lane = 0; lane < width; lane++) {
                const UINT at = found[k][lane];
                left[at * LANES + lane] = (REAL)NAN;
                ((REAL *)(values + lane * values_step))[k] = tile[at * LANES + lane];
                ((int64_t *)(places + lane * places_step))[k] = at;
            }
        }
    }
    for (int lane = width; lane < LANES; lane++)
        found[0][lane] = 0;
    for (int lane = 0; lane < width; lane += STRIP)
        NAME(spread_strip)(tile + lane, n, found[0] + lane, top + lane, s + lane, w + lane);
    for (int lane = 0; lane < width; lane++) {
        double *own = (double *)(state + lane * state_step);
        own[0] = top[lane];
        own[1] = s[lane];
        own[2] = w[lane];
    }
}
