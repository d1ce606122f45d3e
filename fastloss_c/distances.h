/* How far probabilities are from what came true.  Included once for each type, as elementary.h. */

#include "probabilities.h"

/* n probabilities as REAL, and whether some may be none; prefetches what lies so many bytes ahead. */
static int NAME(put_probabilities)(
    const char *p, Py_ssize_t step, int kind, Py_ssize_t n, Py_ssize_t ahead, REAL *RESTRICT out)
{
    int found = 0;
    for (Py_ssize_t start = 0; start < n; start += SPAN / 4) {
        const Py_ssize_t some = n - start < SPAN / 4 ? n - start : SPAN / 4;
        ask_for_all(p + start * step + ahead, some * SIZE_OF(kind));
        NAME(copied)(p + start * step, step, kind, some, out + start);
        found |= beyond(p + start * step, step, kind, some);
    }
    return found;
}

/* The squares of n values, room for BLOCK more after them, in 16 sums. */
static void NAME(add_squares)(REAL *RESTRICT v, Py_ssize_t n, double *RESTRICT sums)
{
    for (Py_ssize_t i = n; i % BLOCK; i++)
        v[i] = 0;
    for (Py_ssize_t i = 0; i < n; i += BLOCK)
        for (int k = 0; k < 16; k++) {
            const double a = (double)v[i + k], b = (double)v[i + 16 + k];
            const double c = (double)v[i + 32 + k], d = (double)v[i + 48 + k];
            sums[k] += (a * a + b * b) + (c * c + d * d);
        }
}

/* The sum of the squared distances between the predictions of these rows and what came true; rows whose labels are negative have no
part in it.

labels : classes; or, where there is but one, and it is an event's probability, whether the event came true.
found : set where some are no probabilities. */
static double NAME(distance_of)(
    const Columns *x, Py_ssize_t n_classes, int n_rows, const int64_t *labels, int missing, int event, int *found)
{
    const int across = lies_across(x), together = x->class_step == SIZE_OF(x->kind) && x->lane_step == n_classes * x->class_step;
    const Py_ssize_t most = n_rows == 1 ? PROBABLE : PROBABLE / n_rows;
    REAL v[PROBABLE + BLOCK];
    double sums[16] = {0}, apart[2 * PREDICTED + BLOCK], own_sum = 0.0;
    for (Py_ssize_t start = 0; start < n_classes && GOES_ON(start / most, 9); start += most) {
        const Py_ssize_t classes = n_classes - start < most ? n_classes - start : most, n = classes * n_rows;
        const Py_ssize_t class_step = across ? n_rows : 1, row_step = across ? 1 : classes;
        const char *from = x->data + start * x->class_step;
        if (together && classes == n_classes)
            *found |= NAME(put_probabilities)(from, x->class_step, x->kind, n, AHEAD, v);
        else if (across)
            for (Py_ssize_t c = 0; c < classes; c++)
                *found |= NAME(put_probabilities)(
                    from + c * x->class_step, x->lane_step, x->kind, n_rows, n_rows * x->lane_step, v + c * class_step);
        else
            for (int row = 0; row < n_rows; row++)
                *found |= NAME(put_probabilities)(
                    from + row * x->lane_step, x->class_step, x->kind, classes, AHEAD, v + row * row_step);
        if (missing)
            for (int row = 0; row < n_rows; row++)
                for (Py_ssize_t c = 0; labels[row] < 0 && c < classes; c++)
                    v[row * row_step + c * class_step] = 0;
        if (event) { /* labels below 0 make no difference to 0: their truth is 0, too */
            for (int row = 0; row < n_rows; row++)
                apart[row] = (double)v[row] - truth_of(labels[row] > 0);
            add_squares_double(apart, n, sums);
        }
        else if (n_classes == 2 && !missing && across) { /* without waiting for what has just been written */
            for (int row = 0; row < n_rows; row++)
                apart[row] = (double)v[row] - (1.0 - truth_of(labels[row]));
            for (int row = 0; row < n_rows; row++)
                apart[n_rows + row] = (double)v[n_rows + row] - truth_of(labels[row]);
            add_squares_double(apart, n, sums);
        }
        else if (n_classes == 2 && !missing) {
            for (int row = 0; row < n_rows; row++) {
                apart[2 * row] = (double)v[2 * row] - (1.0 - truth_of(labels[row]));
                apart[2 * row + 1] = (double)v[2 * row + 1] - truth_of(labels[row]);
            }
            add_squares_double(apart, n, sums);
        }
        else {
            for (int row = 0; row < n_rows; row++) {
                const uint64_t own = (uint64_t)labels[row] - (uint64_t)start;
                if (own < (uint64_t)classes) {
                    REAL *const at_label = v + row * row_step + (Py_ssize_t)own * class_step;
                    const double gap = (double)*at_label - 1.0;
                    own_sum += gap * gap;
                    *at_label = 0;
                }
            }
            NAME(add_squares)(v, n, sums);
        }
    }
    return folded_double(sums) + own_sum;
}
