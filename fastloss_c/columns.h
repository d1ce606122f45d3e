/* The softmax family across rows: LANES rows at a time, for few classes or a class axis that is not the last.

Included as often as softmax.h, after that.  Up to GROUP classes at a time are copied to a tile (class, row);
strides and dtypes of the logits matter only to that copy.  x is (n_classes, rows). */

#ifndef FASTLOSS_COLUMNS
#define FASTLOSS_COLUMNS

enum { STRIP = 16 };  /* rows whose sums stay in registers */
enum { NARROW = STRIP }; /* lanes that are computed where there are no more rows */
enum { KEPT = 128 };   /* classes that slopes keep the terms of */
enum { FEW = 10 };     /* up to this many classes are compared with labels one by one */
enum { FETCHED = 8 };  /* tiles ahead that memory is asked for */

/* Where logits of neighbouring rows are. */
typedef struct {
    const char *data;
    Py_ssize_t class_step, lane_step; /* in bytes */
    int kind;
} Columns;

/* What is known about the rows at work, one in each lane. */
typedef struct {
    int64_t labels[LANES]; /* classes left out of the sums; -1 for none */
    double s[LANES], g[LANES]; /* the others sum to s exp(g) */
    double x[LANES], top[LANES], loss[LANES]; /* the one left out, the maximum, the negative log-likelihood of x */
    double tail[LANES], total[LANES]; /* logsumexp minus the maximum; sum of exp(x - top) over all classes */
    double smooth[LANES], mass[LANES];        /* the smoothed part of the loss and its weight */
    double factor[LANES], slope[LANES];       /* for the gradient: the factor of softmax; the slope at the target */
    _Bool single; /* whether they are computed in float */
} Rows;

#endif

#undef GROUP
#define GROUP (SINGLE ? 64 : 32) /* classes of a tile: 16 KiB */

/* --- tiles ----------------------------------------------------------------------------------------------------------------- */

#if SINGLE && SHUFFLES && !TEMPERED
/* Rows and columns of each piece exchanged. */
INLINE void exchange(Wide *a, Wide *b, Wide *c, Wide *d)
{
    const Wide ab = LOW_OF(*a, *b), AB = HIGH_OF(*a, *b), cd = LOW_OF(*c, *d), CD = HIGH_OF(*c, *d);
    *a = FIRST_HALVES(ab, cd);
    *b = LAST_HALVES(ab, cd);
    *c = FIRST_HALVES(AB, CD);
    *d = LAST_HALVES(AB, CD);
}

/* Four classes of WIDE rows, from rows to where classes lie so many bytes apart. */
INLINE void transposed_to(const char *rows, Py_ssize_t row_step, char *classes, Py_ssize_t class_step)
{
    const Py_ssize_t step = 4 * row_step; /* from piece to piece */
    Wide a = pieces_at(rows, step), b = pieces_at(rows + row_step, step);
    Wide c = pieces_at(rows + 2 * row_step, step), d = pieces_at(rows + 3 * row_step, step);
    exchange(&a, &b, &c, &d);
    *(Wide *)classes = a;
    *(Wide *)(classes + class_step) = b;
    *(Wide *)(classes + 2 * class_step) = c;
    *(Wide *)(classes + 3 * class_step) = d;
}

/* Those of a tile. */
INLINE void transposed(const char *rows, Py_ssize_t row_step, float *tile)
{
    transposed_to(rows, row_step, (char *)tile, LANES * sizeof(float));
}

/* And back. */
INLINE void transposed_back(const float *tile, char *rows, Py_ssize_t row_step)
{
    Wide a = *(const Wide *)tile, b = *(const Wide *)(tile + LANES);
    Wide c = *(const Wide *)(tile + 2 * LANES), d = *(const Wide *)(tile + 3 * LANES);
    const Py_ssize_t step = 4 * row_step;
    exchange(&a, &b, &c, &d);
    put_pieces(a, rows, step);
    put_pieces(b, rows + row_step, step);
    put_pieces(c, rows + 2 * row_step, step);
    put_pieces(d, rows + 3 * row_step, step);
}
#endif

/* So many rows of contiguous classes, as REAL. */
INLINE void NAME(load_rows)(const char *rows, Py_ssize_t row_step, int classes, int width, REAL *RESTRICT tile)
{
    const Py_ssize_t class_step = sizeof(REAL);
    if (row_step == classes * class_step && classes == 2) {
        const REAL *RESTRICT from = (const REAL *)rows;
        for (int lane = 0; lane < width; lane++) {
            tile[lane] = from[2 * lane];
            tile[LANES + lane] = from[2 * lane + 1];
        }
        return;
    }
#if SINGLE && SHUFFLES
    if (classes >= 4 && width >= WIDE) { /* the last four may have been there before, and so may the last rows */
        for (int c = 0; c < classes; c += 4) {
            const int first = c + 4 <= classes ? c : classes - 4;
            for (int lane = 0; lane < width; lane += WIDE) {
                const int at = lane + WIDE <= width ? lane : width - WIDE;
                transposed(rows + at * row_step + first * class_step, row_step, tile + first * LANES + at);
            }
        }
        return;
    }
    if (classes == 3 && width == LANES && row_step == classes * class_step) { /* the fourth is the next row's first, and is not looked at */
        float copy[3 * LANES + 1];
        memcpy(copy, rows, 3 * LANES * class_step);
        copy[3 * LANES] = 0.0f;
        for (int lane = 0; lane < LANES; lane += WIDE)
            transposed((const char *)copy + lane * row_step, row_step, tile + lane);
        return;
    }
#endif
    for (int lane = 0; lane < width; lane++)
        for (int c = 0; c < classes; c++)
            tile[c * LANES + lane] = *(const REAL *)(rows + lane * row_step + c * class_step);
}

INLINE void NAME(load_some_rows)(const char *rows, Py_ssize_t row_step, int classes, int width, REAL *RESTRICT tile)
{
    if (width == LANES) /* a number that compilers know */
        NAME(load_rows)(rows, row_step, classes, LANES, tile);
    else
        NAME(load_rows)(rows, row_step, classes, width, tile);
}

/* Classes [start, start + classes) of so many rows; 0 in lanes without a row, of so many lanes. */
static void NAME(load_tile)(const Columns *x, Py_ssize_t start, int classes, int width, const int lanes, REAL *RESTRICT tile)
{
    const char *from = x->data + start * x->class_step;
    const Py_ssize_t size = SIZE_OF(x->kind);
    if (width < lanes)
        for (int c = 0; c < classes; c++)
            for (int lane = 0; lane < lanes; lane += STRIP)
                memset(tile + c * LANES + lane, 0, STRIP * sizeof(REAL)); /* a number that compilers know */
    if (x->class_step == size && x->lane_step != size) {
        if (x->kind == NATIVE) {
            NAME(load_some_rows)(from, x->lane_step, classes, width, tile);
            return;
        }
        REAL rows[LANES * GROUP];
        if (x->lane_step == classes * size)
            NAME(copied)(from, size, x->kind, width * classes, rows);
        else
            for (int lane = 0; lane < width; lane++)
                NAME(copied)(from + lane * x->lane_step, size, x->kind, classes, rows + lane * classes);
        NAME(load_some_rows)((const char *)rows, classes * sizeof(REAL), classes, width, tile);
        return;
    }
    for (int c = 0; c < classes; c++)
        if (width == LANES && x->lane_step == (Py_ssize_t)sizeof(REAL) && x->kind == NATIVE)
            memcpy(tile + c * LANES, from + c * x->class_step, LANES * sizeof(REAL));
        else
            NAME(copied)(from + c * x->class_step, x->lane_step, x->kind, width, tile + c * LANES);
}

/* The reverse, for REAL only. */
static void NAME(store_tile)(
    const REAL *RESTRICT tile, int classes, int width, char *out, Py_ssize_t class_step, Py_ssize_t lane_step)
{
    const Py_ssize_t size = sizeof(REAL);
    if (lane_step == size) {
        for (int c = 0; c < classes; c++)
            if (width == LANES) /* a number that compilers know */
                memcpy(out + c * class_step, tile + c * LANES, LANES * sizeof(REAL));
            else
                memcpy(out + c * class_step, tile + c * LANES, width * size);
        return;
    }
    if (class_step == size && lane_step == classes * size && classes <= 3 && classes > 1) {
        REAL *RESTRICT to = (REAL *)out;
        if (classes == 2)
            for (int lane = 0; lane < width; lane++) {
                to[2 * lane] = tile[lane];
                to[2 * lane + 1] = tile[LANES + lane];
            }
        else
            for (int lane = 0; lane < width; lane++) {
                to[3 * lane] = tile[lane];
                to[3 * lane + 1] = tile[LANES + lane];
                to[3 * lane + 2] = tile[2 * LANES + lane];
            }
        return;
    }
#if SINGLE && SHUFFLES
    if (class_step == size && classes >= 4 && width >= WIDE) { /* the last may have been there before, as in `load_rows` */
        for (int lane = 0; lane < width; lane += WIDE) {
            const int at = lane + WIDE <= width ? lane : width - WIDE;
            for (int c = 0; c < classes; c += 4) {
                const int first = c + 4 <= classes ? c : classes - 4;
                transposed_back(tile + first * LANES + at, out + at * lane_step + first * size, lane_step);
            }
        }
        return;
    }
#endif
    for (int lane = 0; lane < width; lane++)
        for (int c = 0; c < classes; c++)
            *(REAL *)(out + c * class_step + lane * lane_step) = tile[c * LANES + lane];
}

INLINE int NAME(group)(Py_ssize_t n_classes, Py_ssize_t start)
{
    return n_classes - start < GROUP ? (int)(n_classes - start) : GROUP;
}

#if !TEMPERED
/* Rows of any steps as REAL, contiguous, and so many bytes apart. */
static void NAME(turned)(const Columns *x, Py_ssize_t n_classes, int width, char *rows, Py_ssize_t row_step)
{
    REAL tile[GROUP * LANES];
#if SINGLE && SHUFFLES
    if (x->kind == NATIVE && x->lane_step == (Py_ssize_t)sizeof(float) && width >= 4 && n_classes >= WIDE) {
        for (Py_ssize_t c = 0; c < n_classes; c += WIDE) { /* the last of both may have been there before */
            const Py_ssize_t first = c + WIDE <= n_classes ? c : n_classes - WIDE;
            const char *from = x->data + first * x->class_step;
            for (int k = 0; k < WIDE; k++)
                ASK_FOR(from + k * x->class_step + LANES * sizeof(float)); /* later rows' */
            for (int lane = 0; lane < width; lane += 4) { /* a class takes a row's place, and the other way round */
                const Py_ssize_t at = lane + 4 <= width ? lane : width - 4;
                transposed_to(from + at * sizeof(float), x->class_step, rows + at * row_step + first * sizeof(float), row_step);
            }
        }
        return;
    }
#endif
    if (width < NARROW && x->kind == NATIVE) {
        for (int lane = 0; lane < width; lane++)
            for (Py_ssize_t c = 0; c < n_classes; c++)
                ((REAL *)(rows + lane * row_step))[c] = *(const REAL *)(x->data + lane * x->lane_step + c * x->class_step);
        return;
    }
    for (Py_ssize_t start = 0; start < n_classes; start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        NAME(load_tile)(x, start, classes, width, width, tile);
        NAME(store_tile)(tile, classes, width, rows + start * sizeof(REAL), sizeof(REAL), row_step);
    }
}

/* And such rows back to where they go. */
static void NAME(turned_back)(
    const char *rows, Py_ssize_t row_step, Py_ssize_t n_classes, int width, char *out, Py_ssize_t class_step,
    Py_ssize_t lane_step)
{
    const Columns from = {rows, sizeof(REAL), row_step, NATIVE};
    REAL tile[GROUP * LANES];
#if SINGLE && SHUFFLES
    if (lane_step == (Py_ssize_t)sizeof(float) && width >= WIDE) {
        for (Py_ssize_t c = 0; c < n_classes; c += 4) {
            const Py_ssize_t first = c + 4 <= n_classes ? c : n_classes - 4;
            char *to = out + first * class_step;
            for (int k = 0; k < 4; k++)
                ask_for_all(to + (STRIP + k) * class_step, width * lane_step); /* as far ahead as memory takes */
            for (int lane = 0; lane < width; lane += WIDE) {
                const Py_ssize_t at = lane + WIDE <= width ? lane : width - WIDE;
                transposed_to(rows + at * row_step + first * sizeof(float), row_step, to + at * sizeof(float), class_step);
            }
        }
        return;
    }
#endif
    for (Py_ssize_t start = 0; start < n_classes; start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        NAME(load_tile)(&from, start, classes, width, width, tile);
        NAME(store_tile)(tile, classes, width, out + start * class_step, class_step, lane_step);
    }
}
#endif

/* --- LANES rows, or as many as there are --------------------------------------------------------------------------------- */

/* The rows' labels within a group that begins at `start`; -1 for those outside. */
INLINE void NAME(labels_from)(const Rows *rows, Py_ssize_t start, UINT *RESTRICT labels, const int lanes)
{
    for (int lane = 0; lane < lanes; lane++) {
        const uint64_t label = (uint64_t)rows->labels[lane] - (uint64_t)start;
        labels[lane] = label < GROUP ? (UINT)label : ~(UINT)0;
    }
}

/* Classes without a part in anything, up to a multiple of four, in STRIP lanes. */
INLINE void NAME(fill_up)(REAL *tile, int classes)
{
    for (; classes % 4; classes++) {
        REAL *RESTRICT v = tile + classes * LANES;
        IN_LANES
        for (int k = 0; k < STRIP; k++)
            v[k] = -(REAL)INFINITY;
    }
}

/* Raises the largest of STRIP rows so far, and where it was found, to those of some classes of a tile. */
APART void NAME(find_larger)(const REAL *RESTRICT tile, int classes, REAL *RESTRICT best, UINT *RESTRICT found)
{
    REAL most[STRIP];
    UINT place[STRIP];
    memcpy(most, best, sizeof most);
    memcpy(place, found, sizeof place);
    for (int c = 0; c < classes; c++) {
        const REAL *RESTRICT v = tile + c * LANES;
        IN_LANES
        for (int k = 0; k < STRIP; k++) {
            place[k] = v[k] > most[k] ? (UINT)c : place[k];
            most[k] = v[k] > most[k] ? v[k] : most[k];
        }
    }
    memcpy(best, most, sizeof most);
    memcpy(found, place, sizeof place);
}

/* The first class of each row that has its maximum; 0 if all is NaN. */
INLINE void NAME(find_lanes_peaks)(const Columns *x, Py_ssize_t n_classes, int width, Rows *rows, const int lanes)
{
    REAL tile[GROUP * LANES], best[LANES];
    for (int lane = 0; lane < lanes; lane++) {
        best[lane] = -(REAL)INFINITY;
        rows->labels[lane] = 0;
    }
    for (Py_ssize_t start = 0; start < n_classes && GOES_ON(start, 14); start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        UINT found[LANES];
        NAME(load_tile)(x, start, classes, width, lanes, tile);
        for (int lane = 0; lane < lanes; lane++)
            found[lane] = GROUP;
        for (int lane = 0; lane < lanes; lane += STRIP)
            NAME(find_larger)(tile + lane, classes, best + lane, found + lane);
        for (int lane = 0; lane < lanes; lane++)
            rows->labels[lane] = found[lane] < GROUP ? start + (int64_t)found[lane] : rows->labels[lane];
    }
}

static void NAME(find_peaks)(const Columns *x, Py_ssize_t n_classes, int width, Rows *rows)
{
    if (width <= NARROW)
        NAME(find_lanes_peaks)(x, n_classes, width, rows, NARROW);
    else
        NAME(find_lanes_peaks)(x, n_classes, width, rows, LANES);
}

/* The sums of rows at work. */
typedef struct {
    REAL own[LANES], peak[LANES]; /* the excluded element, and the largest of the others */
    REAL power[LANES];            /* sums are relative to two to that */
    double sum[LANES], low[LANES]; /* of the others, as high + low */
    double odds[LANES];           /* against the one left out */
} NAME(Sums);

/* Takes the labels' elements out of a tile, where they lie within those from `start` on: -inf stays there.  For many classes:
what follows has to wait until such narrow stores are done. */
INLINE void NAME(take_out)(
    const Rows *rows, Py_ssize_t start, int classes, REAL *RESTRICT tile, REAL *RESTRICT own, const int lanes)
{
    int32_t at[LANES];
    for (int lane = 0; lane < lanes; lane++) {
        const uint64_t label = (uint64_t)rows->labels[lane] - (uint64_t)start;
        at[lane] = (int32_t)(label < (uint64_t)classes ? label : (uint64_t)classes) * LANES + lane; /* elsewhere: a spare class */
    }
    for (int lane = 0; lane < lanes; lane++)
        own[lane] = at[lane] < classes * LANES || start == 0 ? tile[at[lane]] : own[lane];
    for (int lane = 0; lane < lanes; lane++)
        tile[at[lane]] = -(REAL)INFINITY;
}

/* The same from a tile of all classes: the last one's element comes in the place of what is taken out, so that there is one class less.
Of rows without a label the last is taken out. */
INLINE void NAME(exchange_labels)(
    const int64_t *RESTRICT labels, int classes, REAL *RESTRICT tile, REAL *RESTRICT own, const int lanes)
{
    const REAL *RESTRICT last = tile + (classes - 1) * LANES;
    int32_t at[LANES];
    for (int lane = 0; lane < lanes; lane++) {
        const uint64_t label = (uint64_t)labels[lane];
        at[lane] = (int32_t)(label < (uint64_t)classes ? label : (uint64_t)classes - 1) * LANES + lane;
    }
    for (int lane = 0; lane < lanes; lane++)
        own[lane] = tile[at[lane]];
    for (int lane = 0; lane < lanes; lane++)
        tile[at[lane]] = last[lane];
}

#if SINGLE && SHUFFLES && !TEMPERED
/* The same for few classes, each compared with the labels, in STRIP lanes. */
INLINE void exchange_few(float *tile, int classes, const int64_t *RESTRICT labels, float *own)
{
    enum { WIDES = STRIP / WIDE };
    uint32_t short_labels[STRIP];
    for (int k = 0; k < STRIP; k++)
        short_labels[k] = (uint32_t)labels[k];
    WideBits left[WIDES]; /* how many classes come before the label */
    WideBits found[WIDES], last[WIDES];
    memcpy(left, short_labels, sizeof left);
    memcpy(last, tile + (classes - 1) * LANES, sizeof last);
    memcpy(found, last, sizeof found);
    for (int c = 0; c < classes - 1; c++, tile += LANES)
        for (int i = 0; i < WIDES; i++) {
            WideBits *const v = (WideBits *)tile + i;
            const WideBits same = (WideBits)(left[i] == 0);
            found[i] = (*v & same) | (found[i] & ~same);
            *v = (last[i] & same) | (*v & ~same);
            left[i] -= 1;
        }
    memcpy(own, found, sizeof found);
}

/* The reverse, where `own` goes to the labels' places and what is there to the last class's; 0 in rows without a label. */
INLINE void exchange_few_back(float *tile, int classes, const int64_t *RESTRICT labels, const float *own)
{
    enum { WIDES = STRIP / WIDE };
    uint32_t short_labels[STRIP];
    for (int k = 0; k < STRIP; k++)
        short_labels[k] = (uint32_t)labels[k];
    WideBits left[WIDES], some[WIDES], last[WIDES], owns[WIDES];
    memcpy(left, short_labels, sizeof left);
    memcpy(owns, own, sizeof owns);
    memset(last, 0, sizeof last);
    for (int i = 0; i < WIDES; i++)
        some[i] = (left[i] >> 31) - 1;
    for (int c = 0; c < classes; c++, tile += LANES)
        for (int i = 0; i < WIDES; i++) {
            WideBits *const v = (WideBits *)tile + i;
            const WideBits same = (WideBits)(left[i] == 0), there = c < classes - 1 ? *v : last[i];
            last[i] |= there & same;
            *v = ((owns[i] & same) | (there & ~same)) & some[i];
            left[i] -= 1;
        }
}
#endif

/* What later tiles will read of STRIP rows: prefetched class by class, because memory is idle during exponentials. */
typedef struct {
    const char *data;
    Py_ssize_t class_step;
} NAME(Ahead);

INLINE NAME(Ahead) NAME(ahead_of)(const Columns *x, Py_ssize_t n_classes, Py_ssize_t start, int lane)
{
    NAME(Ahead) ahead = {x->data, x->class_step};
    if (x->lane_step == SIZE_OF(x->kind)) /* one class after the other */
        ahead.data += (FETCHED * LANES + lane) * x->lane_step;
    else { /* one row after the other */
        ahead.data += (2 * LANES + lane) * x->lane_step;
        ahead.class_step = STRIP * x->lane_step / n_classes;
    }
    ahead.data += start * ahead.class_step;
    return ahead;
}

INLINE void NAME(ask_for)(NAME(Ahead) ahead, int c)
{
    ASK_FOR(ahead.data + c * ahead.class_step);
    if (!SINGLE)
        ASK_FOR(ahead.data + c * ahead.class_step + LINE);
}

/* Prefetches where the k-th class of a tile goes, or its k-th row if rows lie one after the other. */
INLINE void NAME(ask_for_result)(const char *out, int k, int classes, int width, Py_ssize_t class_step, Py_ssize_t lane_step)
{
    if (lane_step == (Py_ssize_t)sizeof(REAL))
        ask_for_all(out + k * class_step, width * lane_step);
    else if (class_step == (Py_ssize_t)sizeof(REAL) && k < width)
        ask_for_all(out + k * lane_step, classes * class_step);
}

/* Raises the peaks of STRIP rows to the largest of so many classes.  The tile has -inf for what there is of a group of four after
them. */
INLINE void NAME(raise_peaks)(const REAL *RESTRICT tile, int classes, REAL *RESTRICT peak)
{
    for (int c = 0; c < classes; c += 4)
        for (int k = 0; k < STRIP; k++) {
            const REAL *v = tile + c * LANES + k;
            /* a comparison may drop a number where there is a NaN: the sum is NaN then */
            const REAL most = NAME(larger)(NAME(larger)(v[0], v[LANES]), NAME(larger)(v[2 * LANES], v[3 * LANES]));
            peak[k] = most > peak[k] ? most : peak[k];
        }
}

/* Adds so many classes of STRIP rows, the first or more, to their sums; with `keeps` each term is left in its logit's place. */
INLINE void NAME(add_classes)(
    REAL *RESTRICT tile, int classes, _Bool first, NAME(Ahead) ahead, const REAL *RESTRICT power, double *RESTRICT sum,
    double *RESTRICT low, const _Bool keeps, const Temper temper)
{
    REAL lowest[STRIP], base[STRIP], rest[STRIP]; /* what sums in REAL leave */
    UINT bias[STRIP];
    double some[STRIP];
    for (int k = 0; k < STRIP; k++) {
        lowest[k] = NAME(lowest)(power[k], temper);
        bias[k] = NAME(bias)(power[k]);
        base[k] = (power[k] + HEADROOM) * (REAL)DOUBLE_LN2; /* for no temperature */
        some[k] = rest[k] = 0.0;
    }
    if (first)
        for (int k = 0; k < STRIP; k++)
            sum[k] = low[k] = 0.0;
    for (int c = 0; c < classes; c += 4) {
        REAL *RESTRICT v = tile + c * LANES;
        for (int k = c; k < c + 4; k++)
            NAME(ask_for)(ahead, k);
        if (c + 1 == classes)
            for (int k = 0; k < STRIP; k++) {
                REAL term;
                some[k] += (double)NAME(sum_of_one)(v[k], lowest[k], bias[k], &rest[k], base[k], &term, temper);
                if (keeps)
                    v[k] = term;
            }
        else if (c + 2 == classes)
            for (int k = 0; k < STRIP; k++) {
                REAL terms[2];
                some[k] += (double)NAME(sum_of_two)(v[k], v[LANES + k], lowest[k], bias[k], &rest[k], base[k], terms,
                    temper);
                if (keeps) {
                    v[k] = terms[0];
                    v[LANES + k] = terms[1];
                }
            }
        else
            for (int k = 0; k < STRIP; k++) {
                REAL terms[4];
                some[k] += (double)NAME(sum_of_four)(
                    v[k], v[LANES + k], v[2 * LANES + k], v[3 * LANES + k], lowest[k], bias[k], &rest[k], base[k],
                    terms, temper);
                if (keeps) {
                    v[k] = terms[0];
                    v[LANES + k] = terms[1];
                    v[2 * LANES + k] = terms[2];
                    v[3 * LANES + k] = terms[3];
                }
            }
        if (!SINGLE && c % 8 == 4)
            for (int k = 0; k < STRIP; k++) {
                accumulate(&sum[k], &low[k], some[k]);
                some[k] = 0.0;
            }
    }
    if (SINGLE)
        IN_LANES
        for (int k = 0; k < STRIP; k++)
            sum[k] += some[k] + (double)rest[k];
    else
        for (int k = 0; k < STRIP; k++) {
            accumulate(&sum[k], &low[k], some[k]);
            low[k] += (double)rest[k];
        }
}

/* A tile's classes, with the labels taken out, to the sums of STRIP rows. */
static void NAME(take_up_classes)(
    REAL *RESTRICT tile, int classes, _Bool first, NAME(Ahead) ahead, int lane, NAME(Sums) *RESTRICT sums,
        const Temper temper)
{
    REAL *RESTRICT peak = sums->peak + lane, *RESTRICT power = sums->power + lane, before[STRIP];
    double *RESTRICT sum = sums->sum + lane, *RESTRICT low = sums->low + lane;
    memcpy(before, power, sizeof before);
    if (first)
        for (int k = 0; k < STRIP; k++)
            peak[k] = -(REAL)INFINITY;
    NAME(raise_peaks)(tile + lane, classes, peak);
    for (int k = 0; k < STRIP; k++)
        power[k] = NAME(base_of)(peak[k], temper);
    if (!first)
        for (int k = 0; k < STRIP; k++) {
            const double by = power_between((double)before[k], (double)power[k]);
            sum[k] *= by;
            low[k] *= by;
        }
    NAME(add_classes)(tile + lane, classes, first, ahead, power, sum, low, 0, temper);
}

#if SINGLE
#define LEAST_POWER -1000.0 /* of the odds, below which float64 computes rows */
static UNKNOWN double NAME(most_power) = DOUBLE_ROUNDING + 900.0; /* above it what is left is added as a logarithm */

/* -x / T of the element left out, and that in powers of two, rounded, plus DOUBLE_ROUNDING. */
INLINE double NAME(negated)(float x, double *powers, const Temper temper)
{
    const double negated = -(double)x * (TEMPERED ? temper.rate : 1.0);
    *powers = negated * DOUBLE_INV_LN2 + DOUBLE_ROUNDING;
    return negated;
}

/* Whether `losses_of_strip` reaches a row: x is left out, the largest of the others is `peak`, and exp(-x / T) times their sum is about
2^k, t = k + DOUBLE_ROUNDING. */
INLINE _Bool NAME(is_reached)(float x, float peak, double t, const Temper temper)
{
    return (t >= DOUBLE_ROUNDING + LEAST_POWER) & !NAME(is_far)(x, temper) & !NAME(is_far)(peak, temper);
}

/* What rows lose, as `nll`, but to the accuracy of float; whether there are some for which that is not enough.

With x the element left out and s 2^power the others' sum, log1p(s 2^power exp(-x / T)) is lost.  Most of that sum comes from near
2^power: so much has `term` shortened its elements. */
static int NAME(losses_of_strip)(NAME(Sums) *RESTRICT sums, int lane, double *RESTRICT losses, const Temper temper)
{
    const float *RESTRICT own = sums->own + lane, *RESTRICT power = sums->power + lane, *RESTRICT peak = sums->peak + lane;
    const double *RESTRICT s = sums->sum + lane;
    double *RESTRICT odds = sums->odds + lane;
    int suspect = 0;
    for (int i = 0; i < STRIP; i++) {
        double powers, r = NAME(negated)(own[i], &powers, temper);
        const double t = powers + (double)power[i], reach = t < NAME(most_power) ? t : NAME(most_power);
        r -= (powers - DOUBLE_ROUNDING) * DOUBLE_LN2;
#if SHORT
        r -= ((double)power[i] + (double)HEADROOM) * (SHORTENED * DOUBLE_LN2);
#endif
        odds[i] = s[i] * NAME(short_power_of_parts)(reach, r);
        losses[i] = NAME(short_log1p_finite)(odds[i]) + (t - reach) * DOUBLE_LN2;
        suspect |= !NAME(is_reached)(own[i], peak[i], t, temper);
    }
    return suspect;
}

/* Whether that is one of them. */
static _Bool NAME(is_suspect)(const NAME(Sums) *sums, int lane, const Temper temper)
{
    double powers;
    (void)NAME(negated)(sums->own[lane], &powers, temper);
    return !NAME(is_reached)(sums->own[lane], sums->peak[lane], powers + (double)sums->power[lane], temper);
}
#endif

/* Each row's loss, and its s, g, x and top unless only losses are wanted; the class in `labels` is left out of the sum. */
INLINE void NAME(scan_lanes)(
    const Columns *x, Py_ssize_t n_classes, int width, Rows *rows, _Bool only_losses, const int lanes,
        const Temper temper)
{
    REAL tile[(GROUP + 1) * LANES];
    NAME(Sums) sums;
    const int used = lanes < LANES ? lanes : (width + STRIP - 1) / STRIP * STRIP; /* in strips with a row */
    const _Bool whole = n_classes <= GROUP, few = SINGLE && SHUFFLES && n_classes <= FEW;
    for (int lane = 0; lane < lanes && !whole; lane++)
        tile[GROUP * LANES + lane] = 0; /* what lanes without a label leave out */
    for (Py_ssize_t start = 0; start < n_classes && GOES_ON(start, 14); start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        NAME(load_tile)(x, start, classes, width, lanes, tile);
        const int others = classes - whole;
        if (!whole)
            NAME(take_out)(rows, start, GROUP, tile, sums.own, lanes);
        else if (!few)
            NAME(exchange_labels)(rows->labels, classes, tile, sums.own, lanes);
        for (int lane = 0; lane < used; lane += STRIP) {
#if SINGLE && SHUFFLES
            if (few)
                exchange_few(tile + lane, classes, rows->labels + lane, sums.own + lane);
#endif
            const NAME(Ahead) ahead = NAME(ahead_of)(x, n_classes, start, lane);
            NAME(fill_up)(tile + lane, others);
            NAME(take_up_classes)(tile, others, start == 0, ahead, lane, &sums, temper);
            NAME(ask_for)(ahead, classes - 1); /* which may be left out */
        }
    }
    int suspect = 0;
    rows->single = SINGLE;
#if SINGLE
    for (int lane = 0; lane < used; lane += STRIP)
        suspect |= NAME(losses_of_strip)(&sums, lane, rows->loss + lane, temper);
    if (only_losses && !suspect)
        return;
#else
    (void)only_losses;
#endif
    for (int lane = used; lane < lanes; lane++) {
        rows->s[lane] = 1.0;
        rows->g[lane] = rows->x[lane] = rows->top[lane] = 0.0;
    }
    for (int lane = 0; lane < used; lane++) {
        double s = sums.sum[lane] += sums.low[lane];
#if SINGLE
        const double g = NAME(log_of_reference)(s, sums.power[lane], temper);
#else
        const double g = based_sum(sums.power[lane], &s);
        suspect |= (s < TINY) | !(ABS(sums.peak[lane]) <= LIMIT);
#endif
        rows->s[lane] = s;
        rows->g[lane] = g;
        rows->x[lane] = (double)sums.own[lane];
        rows->top[lane] = (double)(sums.own[lane] > sums.peak[lane] ? sums.own[lane] : sums.peak[lane]);
    }
#if !SINGLE
    NAME(likelihoods)(rows->s, rows->g, rows->x, rows->loss, used, temper.rate);
#endif
    if (!suspect)
        return;
    for (int lane = 0; lane < width; lane++) { /* one row at a time, so that its result does not depend on the rows beside it */
        const double most = fabs((double)sums.peak[lane]);
        const _Bool exact = sums.sum[lane] < TINY || (most > (double)LIMIT && most < INFINITY);
#if SINGLE
        const _Bool wide = NAME(is_suspect)(&sums, lane, temper);
#else
        const _Bool wide = exact;
#endif
        if (rows->labels[lane] < 0 || !(exact || wide))
            continue;
        const char *row = x->data + lane * x->lane_step;
        if (exact)
            rows->s[lane] = exact_sum(row, x->class_step, x->kind, n_classes, rows->labels[lane], rows->g + lane,
                temper.rate);
        NAME(likelihoods)(rows->s + lane, rows->g + lane, rows->x + lane, rows->loss + lane, 1, temper.rate);
    }
}

#if SINGLE
#if TEMPERED
/* a b - product, which is a b rounded. */
INLINE float lost_in_product(float a, float b, float product)
{
#if FUSED
    return MULTIPLY_ADD(a, b, -product);
#else /* in halves, whose products are exact (Dekker 1971) */
    const float p = float_of(bits_of_float(a) & 0xfffff000u), q = a - p, r = float_of(bits_of_float(b) & 0xfffff000u), s = b - r;
    return ((p * r - product) + (p * s + q * r)) + q * s;
#endif
}

/* (x + below) / T as a sum, of which the smaller part is `low`. */
INLINE float divided_tempered(float x, float below, float *low, const Temper temper)
{
    const float quotient = MULTIPLY_ADD(x, temper.inverse, 0.0f); /* as in `rest_of` */
    *low = lost_in_product(x, temper.inverse, quotient) + (x * temper.inverse_rest + below * temper.inverse);
    return quotient;
}
#endif

/* What rows of two classes lose: softplus of the other's logit less the label's, with what that difference is rounded by.  NaN where
float32 does not reach far enough, and whether there is such a row. */
APART int NAME(losses_of_pairs)(
    const float *RESTRICT tile, const int64_t *RESTRICT labels, int lanes, double *RESTRICT losses, const Temper temper)
{
    uint32_t unsure[STRIP] = {0}, second[STRIP], some = 0;
    for (int lane = 0; lane < lanes; lane += STRIP) {
        IN_LANES
        for (int k = 0; k < STRIP; k++)
            second[k] = (uint32_t)labels[lane + k];
        IN_LANES
        for (int k = 0; k < STRIP; k++) {
            const float a = tile[lane + k], b = tile[LANES + lane + k];
            const float x = second[k] == 0 ? a : b, y = NAME(other_than)(x, a, b);
            const float gap = y - x, back = gap - y, below = (y - (gap - back)) - (x + back);
#if TEMPERED
            float low;
            const float d = NAME(divided)(gap, below, &low, temper);
#else
            const float d = gap, low = below;
#endif
            const float above = d > 0.0f ? -low : 0.0f, linear = d > 0.0f ? d : 0.0f;
            const uint32_t turned = d > 0.0f ? 0 : 0x80000000u; /* the sign of d */
            const float near = d < 100.0f ? low : 0.0f; /* where the exponential is not too small for it */
            float rest;
            const float loss = NAME(softplus_of_parts)(
                ABS(d), float_of(bits_of_float(near) ^ turned), linear, above, &rest);
            const uint32_t doubt = (d > -86.0f) & (d < 1e30f) ? 0 : ~(uint32_t)0; /* as a float, NaN */
            losses[lane + k] = (double)float_of(bits_of_float(loss) | doubt) + (double)rest;
            unsure[k] |= doubt;
        }
    }
    for (int k = 0; k < STRIP; k++)
        some |= unsure[k];
    return some != 0;
}

/* The smaller logit less the larger over T; `low` is what that is rounded by.  NaN where float32 does not reach far enough. */
INLINE float NAME(gap_of_pair)(float a, float b, float *low, const Temper temper)
{
    const float x = a < b ? b : a, y = a < b ? a : b;
    const float gap = y - x, back = gap - y, below = (y - (gap - back)) - (x + back);
#if TEMPERED
    const float d = NAME(divided)(gap, below, low, temper);
#else
    const float d = gap;
    *low = below;
#endif
    return (d > -86.0f) & !NAME(is_far)(x, temper) ? d : NAN;
}

/* Probabilities of rows of two classes: 1 / (1 + e) and e / (1 + e), with e the exponential of their logits' difference.  NaN where
float32 does not reach far enough, and whether there is such a row: all are, without fused operations. */
INLINE int NAME(shares_of_pairs)(const float *RESTRICT tile, const int lanes, float *RESTRICT shares, const Temper temper)
{
    uint32_t unsure[STRIP] = {0}, some = 0;
    for (int lane = 0; lane < lanes; lane += STRIP) {
        IN_LANES
        for (int k = 0; k < STRIP; k++) {
            const float a = tile[lane + k], b = tile[LANES + lane + k];
            float low;
            const float d = NAME(gap_of_pair)(a, b, &low, temper);
            const float t = NAME(in_powers)(d), tail = NAME(exp_tail)(NAME(reduced)(d, t - ROUNDING) + low);
            const float power = FLOAT_OF((BITS_OF(t) << MANTISSA) + ((UINT)(BIAS + 64) << MANTISSA)) * 5.42101086242752217e-20f;
            /* e is power * (one + rounded), and what it adds to 1 is total + lost */
            const float one = tail + 1.0f, rounded = power * (tail - (one - 1.0f)), e = power * one;
            const float total = 1.0f + e, lost = (e - (total - 1.0f)) + rounded;
            const float by = 1.0f / total, rest = by * MULTIPLY_ADD(-by, total, MULTIPLY_ADD(-by, lost, 1.0f));
            const float larger = by + rest, smaller = MULTIPLY_ADD(e, by, MULTIPLY_ADD(e, rest, rounded * by));
            const _Bool known = FUSED && d == d;
            shares[lane + k] = !known ? NAN : a < b ? smaller : larger;
            shares[LANES + lane + k] = !known ? NAN : a < b ? larger : smaller;
            unsure[k] |= !known;
        }
    }
    for (int k = 0; k < STRIP; k++)
        some |= unsure[k];
    return some != 0;
}

INLINE void NAME(scan_pairs)(
    const Columns *x, int width, Rows *rows, _Bool only_losses, const int lanes, const Temper temper)
{
    float tile[2 * LANES];
    double losses[LANES];
    NAME(load_tile)(x, 0, 2, width, lanes, tile);
    if (NAME(losses_of_pairs)(tile, rows->labels, lanes, losses, temper) || !only_losses)
        NAME(scan_lanes)(x, 2, width, rows, only_losses, lanes, temper);
    else
        for (int lane = 0; lane < lanes; lane += STRIP)
            for (int c = 0; c < 2; c++)
                NAME(ask_for)(NAME(ahead_of)(x, 2, 0, lane), c);
    for (int lane = 0; lane < lanes; lane++)
        rows->loss[lane] = losses[lane] == losses[lane] ? losses[lane] : rows->loss[lane];
}
#endif

static void NAME(scan_rows)(
    const Columns *x, Py_ssize_t n_classes, int width, Rows *rows, _Bool only_losses, const Temper temper)
{
#if SINGLE
    if (n_classes == 2) {
        if (width <= NARROW)
            NAME(scan_pairs)(x, width, rows, only_losses, NARROW, temper);
        else
            NAME(scan_pairs)(x, width, rows, only_losses, LANES, temper);
        return;
    }
#endif
    if (width <= NARROW)
        NAME(scan_lanes)(x, n_classes, width, rows, only_losses, NARROW, temper);
    else
        NAME(scan_lanes)(x, n_classes, width, rows, only_losses, LANES, temper);
}

static void NAME(scan_columns)(const Columns *x, Py_ssize_t n_classes, int width, Rows *rows, const Temper temper)
{
    NAME(scan_rows)(x, n_classes, width, rows, 0, temper);
}

/* The same where nothing but losses is wanted. */
static void NAME(find_losses)(const Columns *x, Py_ssize_t n_classes, int width, Rows *rows, const Temper temper)
{
    NAME(scan_rows)(x, n_classes, width, rows, 1, temper);
}

#if !SINGLE
/* Adds so many rows' losses to sums in lanes. */
static void add_losses(const Rows *rows, int width, double *RESTRICT sums)
{
    int lane = 0;
    for (; lane + STRIP <= width; lane += STRIP)
        for (int k = 0; k < STRIP; k++)
            sums[k] += rows->loss[lane + k];
    for (; lane < width; lane++)
        sums[lane % STRIP] += rows->loss[lane];
}

static void find_totals(Rows *rows, int width, double rate)
{
    for (int lane = 0; lane < width; lane++)
        rows->total[lane] = row_total(rows->s[lane], rows->g[lane], rows->x[lane], rows->top[lane], rate);
}

/* The same where the ones left out are the maxima. */
static void find_totals_of_peaks(Rows *rows, int width, double rate)
{
    for (int lane = 0; lane < width; lane++) {
        const double top = rows->top[lane], total = exp_of_difference(rows->s[lane], rows->g[lane], top, rate) + 1.0;
        rows->total[lane] = top - top == 0.0 ? total : NAN;
    }
}
#endif

#if SINGLE && !TEMPERED
/* From losses that are no pairs of floats: much of them may cancel. */
static void find_tails(Rows *rows, int width, double rate)
{
    double losses[LANES];
    if (rows->single)
        likelihoods_float(rows->s, rows->g, rows->x, losses, width, rate);
    else
        memcpy(losses, rows->loss, width * sizeof(double));
    for (int lane = 0; lane < width; lane++)
        rows->tail[lane] = tail_above(rows->s[lane], rows->g[lane], rows->x[lane], losses[lane], rows->top[lane], rate);
}
#endif

#if SINGLE
/* Sums of x[label] - x of each row, of as many as there are lanes; of lanes without a label nothing that means anything. */
INLINE void NAME(gaps_of_lanes)(
    const Columns *x, Py_ssize_t n_classes, int width, const int64_t *labels, double *gaps, const int lanes)
{
    REAL tile[GROUP * LANES];
    double own[LANES];
    for (int lane = 0; lane < lanes; lane++) {
        const int64_t label = lane < width && labels[lane] > 0 ? labels[lane] : 0;
        own[lane] = lane < width ? element(x->data + lane * x->lane_step + label * x->class_step, x->kind) : 0.0;
        gaps[lane] = 0.0;
    }
    for (Py_ssize_t start = 0; start < n_classes && GOES_ON(start, 14); start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        NAME(load_tile)(x, start, classes, width, lanes, tile);
        for (int lane = 0; lane < lanes; lane += STRIP) {
            double sums[STRIP] = {0.0}, from[STRIP];
            memcpy(from, own + lane, sizeof from);
            for (int c = 0; c < classes; c++)
                for (int k = 0; k < STRIP; k++)
                    sums[k] += from[k] - (double)tile[c * LANES + lane + k];
            for (int k = 0; k < STRIP; k++)
                gaps[lane + k] += sums[k];
        }
    }
}

static void NAME(gaps_of_columns)(const Columns *x, Py_ssize_t n_classes, int width, const int64_t *labels, double *gaps)
{
    if (width <= NARROW)
        NAME(gaps_of_lanes)(x, n_classes, width, labels, gaps, NARROW);
    else
        NAME(gaps_of_lanes)(x, n_classes, width, labels, gaps, LANES);
}
#endif

/* Sums of q (top - x), and of q, of up to 8 classes of STRIP rows; `first` is the number of the first of them, and y may be absent. */
INLINE void NAME(mix_some)(
    const REAL *RESTRICT x, const REAL *RESTRICT y, const int has_y, int classes, Py_ssize_t first, const double *w, double keep,
    double spread, double unit, const double *RESTRICT tops, double *RESTRICT sums, double *RESTRICT masses)
{
    double share[STRIP] = {0.0}, mass[STRIP] = {0.0};
    for (int c = 0; c < classes; c++) {
        const REAL *RESTRICT v = x + c * LANES, *RESTRICT t = has_y ? y + c * LANES : v;
        const double weight = w ? w[first + c] : 1.0;
        IN_LANES
        for (int k = 0; k < STRIP; k++) {
            const double q = weighed((has_y ? keep * (double)t[k] : 0.0) + spread, weight);
            share[k] += weighed(q, unit * tops[k] - unit * (double)v[k]);
            mass[k] += q;
        }
    }
    memcpy(sums, share, sizeof share);
    memcpy(masses, mass, sizeof mass);
}

/* Each row's smooth, and its mass where there is a y, from q = w (keep y + spread): sums of q nll and of q. */
INLINE void NAME(mix_lanes)(
    const Columns *x, const Columns *y, Py_ssize_t n_classes, int width, const double *w, double keep, double spread,
    Rows *rows, const int lanes, const Temper temper)
{
    REAL tile[GROUP * LANES], other[GROUP * LANES];
    double lows[LANES], mass_lows[LANES], sums[LANES], masses[LANES];
    const double unit = SINGLE ? 1.0 : 0.5; /* as in `mix` */
    for (int lane = 0; lane < lanes; lane++) {
        rows->smooth[lane] = lows[lane] = mass_lows[lane] = 0.0;
        if (y)
            rows->mass[lane] = 0.0;
    }
    for (Py_ssize_t start = 0; start < n_classes && GOES_ON(start, 14); start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        NAME(load_tile)(x, start, classes, width, lanes, tile);
        if (y)
            NAME(load_tile)(y, start, classes, width, lanes, other);
        for (int c = 0; c < classes; c += 8) {
            const int some = classes - c < 8 ? classes - c : 8;
            for (int lane = 0; lane < lanes; lane += STRIP)
                if (y)
                    NAME(mix_some)(
                        tile + c * LANES + lane, other + c * LANES + lane, 1, some, start + c, w, keep, spread, unit,
                        rows->top + lane, sums + lane, masses + lane);
                else
                    NAME(mix_some)(
                        tile + c * LANES + lane, NULL, 0, some, start + c, w, keep, spread, unit, rows->top + lane, sums + lane,
                        masses + lane);
            for (int lane = 0; lane < lanes; lane++)
                accumulate(&rows->smooth[lane], &lows[lane], sums[lane]);
            if (y)
                for (int lane = 0; lane < lanes; lane++)
                    accumulate(&rows->mass[lane], &mass_lows[lane], masses[lane]);
        }
    }
    for (int lane = 0; lane < lanes; lane++) {
        rows->mass[lane] += mass_lows[lane];
        const double gaps = (rows->smooth[lane] + lows[lane]) * temper.rate / unit;
        rows->smooth[lane] = mixed_loss__double(gaps, rows->mass[lane], rows->tail[lane]);
    }
}

static void NAME(mix_columns)(
    const Columns *x, const Columns *y, Py_ssize_t n_classes, int width, const double *w, double keep, double spread,
    Rows *rows, const Temper temper)
{
    if (width <= NARROW)
        NAME(mix_lanes)(x, y, n_classes, width, w, keep, spread, rows, NARROW, temper);
    else
        NAME(mix_lanes)(x, y, n_classes, width, w, keep, spread, rows, LANES, temper);
}

/* out = factor * softmax - scale * w (keep y + spread), the second part if `mixed`; with `at_labels` each row's slope at its
label, and 0 in rows without.  The largest probability is rounded once. */
INLINE void NAME(fill_lanes)(
    const Columns *x, const Columns *y, Py_ssize_t n_classes, int width, const double *w, int mixed, double keep,
    double spread, double scale, int at_labels, const Rows *rows, char *out, Py_ssize_t class_step,
    Py_ssize_t lane_step, const int lanes, const Temper temper)
{
    REAL tile[GROUP * LANES], other[GROUP * LANES], lowest[LANES], multiplier[LANES], largest[LANES], peak[LANES];
    UINT labels[LANES], biases[LANES];
    int unusual = 0, negative = 0;
    for (int lane = 0; lane < lanes; lane++) {
        const REAL top = (REAL)rows->top[lane];
        const double positive = fabs(rows->factor[lane]) / rows->total[lane];
        unusual |= !(ABS(top) <= LIMIT && (REAL)positive < (REAL)INFINITY);
        negative |= rows->factor[lane] < 0.0;
        largest[lane] = top;
        const REAL base = NAME(base_of)(top, temper);
        lowest[lane] = NAME(lowest)(base, temper);
        biases[lane] = NAME(bias)(base);
        multiplier[lane] =
            (REAL)(positive * exp_double(log_of_power((double)NAME(power_of)(top, temper),
                rows->top[lane] * temper.rate)) * BELOW_HEADROOM);
        peak[lane] = (REAL)positive;
    }
    for (Py_ssize_t start = 0; start < n_classes && GOES_ON(start, 14); start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        NAME(load_tile)(x, start, classes, width, lanes, tile);
        if (y)
            NAME(load_tile)(y, start, classes, width, lanes, other);
        for (int c = 0; c < classes; c++) {
            REAL *RESTRICT v = tile + c * LANES;
            NAME(ask_for_result)(out + start * class_step, c, classes, width, class_step, lane_step);
            for (int lane = 0; lane < lanes; lane++) {
                const REAL p = NAME(share_of_term)(v[lane], lowest[lane], biases[lane], multiplier[lane], temper);
                v[lane] = v[lane] == largest[lane] ? peak[lane] : p > peak[lane] ? peak[lane] : p;
            }
            if (negative)
                for (int lane = 0; lane < lanes; lane++)
                    v[lane] = rows->factor[lane] < 0.0 ? -v[lane] : v[lane];
            if (mixed) {
                const REAL *RESTRICT t = other + c * LANES;
                const REAL same = (REAL)(scale * coefficient(0.0, w, start + c, keep, spread));
                if (y)
                    for (int lane = 0; lane < lanes; lane++)
                        v[lane] -= (REAL)(scale * coefficient((double)t[lane], w, start + c, keep, spread));
                else
                    for (int lane = 0; lane < lanes; lane++)
                        v[lane] -= same;
            }
            if (unusual) /* logits or a factor so large that float64 is needed, or infinite, which gives NaN */
                for (int lane = 0; lane < width; lane++) {
                    const double top = rows->top[lane];
                    if (fabs(top) <= (double)LIMIT && peak[lane] < (REAL)INFINITY)
                        continue;
                    const double own = element(x->data + (start + c) * x->class_step + lane * x->lane_step, x->kind);
                    const double share = rows->factor[lane] * (exp_double((own - top) * temper.rate) / rows->total[lane]);
                    const double label = y ? (double)other[c * LANES + lane] : 0.0;
                    v[lane] = (REAL)(share - (mixed ? scale * coefficient(label, w, start + c, keep, spread) : 0.0));
                }
        }
        if (at_labels) {
            NAME(labels_from)(rows, start, labels, lanes);
            for (int lane = 0; lane < width; lane++)
                if (rows->labels[lane] < 0)
                    for (int c = 0; c < classes; c++)
                        tile[c * LANES + lane] = 0;
                else if (labels[lane] < (UINT)classes)
                    tile[labels[lane] * LANES + lane] = (REAL)rows->slope[lane];
        }
        NAME(store_tile)(tile, classes, width, out + start * class_step, class_step, lane_step);
    }
}

static void NAME(fill_columns)(
    const Columns *x, const Columns *y, Py_ssize_t n_classes, int width, const double *w, int mixed, double keep,
    double spread, double scale, int at_labels, const Rows *rows, char *out, Py_ssize_t class_step,
    Py_ssize_t lane_step, const Temper temper)
{
    if (width <= NARROW)
        NAME(fill_lanes)(x, y, n_classes, width, w, mixed, keep, spread, scale, at_labels, rows, out, class_step,
            lane_step, NARROW, temper);
    else
        NAME(fill_lanes)(x, y, n_classes, width, w, mixed, keep, spread, scale, at_labels, rows, out, class_step,
            lane_step, LANES, temper);
}

/* One row's logarithms of probabilities in float64, where the difference may overflow but not what it is divided to. */
static void NAME(log_exactly)(
    const Columns *x, Py_ssize_t start, int classes, int lane, double top, double tail, REAL *tile, const Temper temper)
{
    for (int c = 0; c < classes; c++) {
        const double v = element(x->data + lane * x->lane_step + (start + c) * x->class_step, x->kind);
        tile[c * LANES + lane] = (REAL)(2.0 * ((0.5 * v - 0.5 * top) * temper.rate) - tail);
    }
}

/* out = (x - top) / T - tail. */
INLINE void NAME(log_lanes)(
    const Columns *x, Py_ssize_t n_classes, int width, const Rows *rows, char *out, Py_ssize_t class_step,
    Py_ssize_t lane_step, const int lanes, const Temper temper)
{
    REAL tile[GROUP * LANES], top[LANES], tail[LANES];
    for (int lane = 0; lane < lanes; lane++) {
        top[lane] = (REAL)rows->top[lane];
        tail[lane] = (REAL)rows->tail[lane];
    }
    for (Py_ssize_t start = 0; start < n_classes && GOES_ON(start, 14); start += GROUP) {
        const int classes = NAME(group)(n_classes, start);
        NAME(load_tile)(x, start, classes, width, lanes, tile);
        for (int c = 0; c < classes; c++) {
            NAME(ask_for_result)(out + start * class_step, c, classes, width, class_step, lane_step);
            REAL *RESTRICT v = tile + c * LANES; /* indexed by `lane` alone, as compilers do not vectorise the sum of two ints */
            for (int lane = 0; lane < lanes; lane++)
                v[lane] = NAME(gap)(v[lane], top[lane], temper) - tail[lane];
        }
        if (TEMPERED)
            for (int lane = 0; lane < width; lane++)
                if (ABS(top[lane]) > (REAL)1e37)
                    NAME(log_exactly)(x, start, classes, lane, rows->top[lane], rows->tail[lane], tile, temper);
        NAME(store_tile)(tile, classes, width, out + start * class_step, class_step, lane_step);
    }
}

static void NAME(log_columns)(
    const Columns *x, Py_ssize_t n_classes, int width, const Rows *rows, char *out, Py_ssize_t class_step,
    Py_ssize_t lane_step, const Temper temper)
{
    if (width <= NARROW)
        NAME(log_lanes)(x, n_classes, width, rows, out, class_step, lane_step, NARROW, temper);
    else
        NAME(log_lanes)(x, n_classes, width, rows, out, class_step, lane_step, LANES, temper);
}

#if SINGLE
/* --- losses and their slopes, each exponential taken once: for indices, without class weights if they are smoothed ------- */

/* A row that float32 does not reach, by the kernels above: its slopes go to a tile; gives its loss. */
static double NAME(slopes_of_row)(
    const Columns *x, Py_ssize_t n_classes, int lane, const Rows *rows, double same, double at_label, float *tile,
    const Temper temper)
{
    const Columns row = {x->data + lane * x->lane_step, x->class_step, x->lane_step, x->kind};
    Rows one;
    for (int k = 0; k < LANES; k++) {
        one.labels[k] = -1;
        one.factor[k] = one.slope[k] = 0.0;
    }
    one.labels[0] = rows->labels[lane];
    NAME(scan_columns)(&row, n_classes, 1, &one, temper);
    find_totals(&one, 1, temper.rate);
    one.factor[0] = rows->factor[lane];
    one.slope[0] = at_label + one.factor[0] * slope_at_target(one.s[0], one.g[0], one.x[0], one.top[0], one.total[0], 1.0,
        0.0, 0.0, temper.rate);
    for (int k = 1; k < LANES; k++) /* numbers for lanes without a row */
        one.top[k] = one.total[k] = 1.0;
    NAME(fill_columns)(
        &row, NULL, n_classes, 1, NULL, same != 0.0, 0.0, same, 1.0, 1, &one, (char *)(tile + lane), LANES * sizeof(float),
        sizeof(float), temper);
    return one.loss[0];
}

/* What a row's terms are multiplied by, and the slope at its label, of which `at_label` is the same for all: with the odds r against
that, the others' share is r / (1 + r).  Infinite where float32 lacks the digits, since the terms are relative to a large power of two. */
static void NAME(multipliers_of_strip)(
    const NAME(Sums) *RESTRICT sums, int lane, const double *RESTRICT factor, double at_label, float *RESTRICT by,
    float *RESTRICT own)
{
    const double *RESTRICT odds = sums->odds + lane, *RESTRICT s = sums->sum + lane;
    for (int i = 0; i < STRIP; i++) {
        const double share = factor[i] * odds[i] / (s[i] + s[i] * odds[i]);
        const double few = share != 0.0 && fabs(share) < FLT_MIN ? INFINITY : share;
        by[i] = (float)(s[i] == 0.0 ? 0.0 : few);
        own[i] = (float)((s[i] == 0.0 ? 0.0 : -share * s[i]) + at_label);
    }
}

/* Terms of STRIP rows become slopes, where they are; memory is asked for where they go. */
INLINE void NAME(multiply_strip)(
    float *RESTRICT tile, int classes, const float *RESTRICT by, float same, NAME(Ahead) written)
{
    for (int c = 0; c < classes; c++) {
        float *RESTRICT v = tile + c * LANES;
        NAME(ask_for)(written, c);
        IN_LANES
        for (int k = 0; k < STRIP; k++)
            v[k] = MULTIPLY_ADD(v[k], by[k], -same);
    }
}

/* Slopes of rows of two classes, in a tile: the other's share times the row's factor, and less that at the label; 0 in rows without one.
NaN where float32 does not reach far enough, and whether there is such a row. */
INLINE int NAME(slopes_of_pairs)(
    const float *RESTRICT tile, const int64_t *RESTRICT labels, const double *RESTRICT factor, const int lanes,
    float *RESTRICT slopes, const Temper temper)
{
    const uint32_t sign = 0x80000000u, least = 0x00800000u, reach = 0x7f800000u - least; /* normal numbers */
    uint32_t unsure[STRIP] = {0}, label[STRIP], some = 0;
    float by[STRIP];
    const int lacking = NAME(shares_of_pairs)(tile, lanes, slopes, temper);
    for (int lane = 0; lane < lanes; lane += STRIP) {
        float *RESTRICT first = slopes + lane, *RESTRICT second = slopes + LANES + lane;
        IN_LANES
        for (int k = 0; k < STRIP; k++) {
            label[k] = (uint32_t)labels[lane + k];
            by[k] = (float)factor[lane + k];
        }
        IN_LANES
        for (int k = 0; k < STRIP; k++) { /* by masks, as gcc makes branches of several conditions on the same number */
            const uint32_t a = bits_of_float(first[k]), b = bits_of_float(second[k]), counts = (label[k] >> 31) - 1;
            const uint32_t is_first = 0 - (uint32_t)(label[k] == 0), turned = is_first & sign;
            const uint32_t slope = bits_of_float(by[k] * float_of(a ^ ((a ^ b) & is_first))), size = slope & ~sign;
            const uint32_t outside = 0 - (uint32_t)(size - least >= reach);
            const uint32_t scaled = 0 - (uint32_t)((bits_of_float(by[k]) & ~sign) != 0);
            const uint32_t missed = outside & scaled & counts; /* as a float, NaN */
            first[k] = float_of(((slope ^ turned) & counts) | missed) + 0.0f;
            second[k] = float_of(((slope ^ turned ^ sign) & counts) | missed) + 0.0f;
            unsure[k] |= missed;
        }
    }
    for (int k = 0; k < STRIP; k++)
        some |= unsure[k];
    return lacking | (some != 0);
}

/* Each row's loss, the same as `find_losses` gives, and its slopes times the row's factor, with `same` less, but `at_label` more at the
label; 0 in rows without a label. */
INLINE void NAME(slope_lanes)(
    const Columns *x, Py_ssize_t n_classes, int width, Rows *rows, double same, double at_label, char *out,
    Py_ssize_t class_step, Py_ssize_t lane_step, const int lanes, const Temper temper)
{
    float tile[(KEPT + 1) * LANES], by[LANES], own[LANES], pair_slopes[2 * LANES];
    double pairs[LANES];
    NAME(Sums) sums;
    const Columns slopes = {out, class_step, lane_step, NATIVE};
    const _Bool whole = n_classes <= GROUP, few = SHUFFLES && n_classes <= FEW; /* as in `scan_lanes` */
    const int classes = (int)n_classes, others = classes - whole;
    const _Bool paired = FUSED && classes == 2 && same == 0.0 && at_label == 0.0;
    uint32_t steep[STRIP] = {0};
    int suspect = 0;
    for (int start = 0; start < classes; start += GROUP)
        NAME(load_tile)(x, start, NAME(group)(classes, start), width, lanes, tile + start * LANES);
    if (classes == 2) {
        const Columns *const asked[] = {x, &slopes};
        int some = NAME(losses_of_pairs)(tile, rows->labels, lanes, pairs, temper);
        if (paired)
            some |= NAME(slopes_of_pairs)(tile, rows->labels, rows->factor, lanes, pair_slopes, temper);
        if (paired && !some) {
            for (int lane = 0; lane < lanes; lane += STRIP)
                for (int k = 0; k < 4; k++)
                    NAME(ask_for)(NAME(ahead_of)(asked[k / 2], 2, 0, lane), k % 2);
            memcpy(rows->loss, pairs, lanes * sizeof *pairs);
            NAME(store_tile)(pair_slopes, 2, width, out, class_step, lane_step); /* the logits may lie there */
            return;
        }
    }
    for (int lane = 0; lane < lanes && !whole; lane++)
        tile[classes * LANES + lane] = 0.0f; /* what lanes without a label leave out */
    if (!whole)
        NAME(take_out)(rows, 0, classes, tile, sums.own, lanes);
    else if (!few)
        NAME(exchange_labels)(rows->labels, classes, tile, sums.own, lanes);
    for (int lane = 0; lane < lanes && lane < width; lane += STRIP) {
#if SHUFFLES
        if (few)
            exchange_few(tile + lane, classes, rows->labels + lane, sums.own + lane);
#endif
        NAME(fill_up)(tile + lane, others);
        for (int k = lane; k < lane + STRIP; k++)
            sums.peak[k] = -INFINITY;
        NAME(raise_peaks)(tile + lane, others, sums.peak + lane);
        for (int k = lane; k < lane + STRIP; k++)
            sums.power[k] = NAME(base_of)(sums.peak[k], temper);
        for (int start = 0; start < classes; start += GROUP)
            NAME(add_classes)(
                tile + start * LANES + lane, NAME(group)(others, start), start == 0, NAME(ahead_of)(x, n_classes, start, lane),
                sums.power + lane, sums.sum + lane, sums.low + lane, 1, temper);
        suspect |= NAME(losses_of_strip)(&sums, lane, rows->loss + lane, temper);
        NAME(multipliers_of_strip)(&sums, lane, rows->factor + lane, at_label, by + lane, own + lane);
        IN_LANES
        for (int k = 0; k < STRIP; k++) /* the sign's bit is set where a multiplier is not finite */
            steep[k] |= (bits_of_float(by[lane + k]) & 0x7fffffffu) + 0x00800000u;
        NAME(multiply_strip)(tile + lane, others, by + lane, (float)same, NAME(ahead_of)(&slopes, n_classes, 0, lane));
#if SHUFFLES
        if (few)
            exchange_few_back(tile + lane, classes, rows->labels + lane, own + lane);
#endif
    }
    for (int k = 0; k < STRIP; k++)
        suspect |= (int)(steep[k] >> 31);
    for (int lane = 0; lane < width && !few; lane++) {
        if (rows->labels[lane] >= 0) {
            float *const at = tile + rows->labels[lane] * LANES + lane;
            if (whole)
                tile[others * LANES + lane] = *at;
            *at = own[lane];
        } else
            for (int c = 0; c < classes; c++)
                tile[c * LANES + lane] = 0.0f;
    }
    if (suspect)
        for (int lane = 0; lane < width; lane++)
            if (rows->labels[lane] >= 0) {
                const _Bool again = NAME(is_suspect)(&sums, lane, temper);
                if (!again && fabsf(by[lane]) < INFINITY)
                    continue;
                const double loss = NAME(slopes_of_row)(x, n_classes, lane, rows, same, at_label, tile, temper);
                rows->loss[lane] = again ? loss : rows->loss[lane]; /* a multiplier that float32 can't hold is no reason for another loss */
            }
    for (int lane = 0; lane < width && paired; lane++) /* so that a row's slopes don't depend on the rows beside it */
        if (pair_slopes[lane] == pair_slopes[lane]) {
            tile[lane] = pair_slopes[lane];
            tile[LANES + lane] = pair_slopes[LANES + lane];
        }
    NAME(store_tile)(tile, classes, width, out, class_step, lane_step); /* the logits may lie there */
    if (classes == 2)
        for (int lane = 0; lane < lanes; lane++)
            rows->loss[lane] = pairs[lane] == pairs[lane] ? pairs[lane] : rows->loss[lane];
}

static void NAME(slope_columns)(
    const Columns *x, Py_ssize_t n_classes, int width, Rows *rows, double same, double at_label, char *out,
    Py_ssize_t class_step, Py_ssize_t lane_step, const Temper temper)
{
    if (width <= NARROW)
        NAME(slope_lanes)(x, n_classes, width, rows, same, at_label, out, class_step, lane_step, NARROW, temper);
    else
        NAME(slope_lanes)(x, n_classes, width, rows, same, at_label, out, class_step, lane_step, LANES, temper);
}
#endif
