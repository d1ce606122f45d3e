/* Everything that is compiled for a type, for both types and for tempered and capped float32, and a table of each. */
#ifndef FASTLOSS_INNER_H
#define FASTLOSS_INNER_H

#include "machine.h"

#define REAL double
#define UINT uint64_t
#define NAME(f) f##_double
#define SINGLE 0
#define TEMPERED 0
#include "elementary.h"
#include "powers.h"
#include "scalars.h"
#include "memory.h"
#include "softmax.h"
#include "columns.h"
#include "distances.h"
#include "normalise.h"
#include "divergence.h"
#include "details.h"
#undef REAL
#undef UINT
#undef NAME
#undef SINGLE

#define REAL float
#define UINT uint32_t
#define NAME(f) f##_float
#define SINGLE 1
#include "elementary.h"
#include "powers.h"
#include "scalars.h"
#include "memory.h"
#include "softmax.h"
#include "columns.h"
#include "distances.h"
#include "normalise.h"
#include "divergence.h"
#include "details.h"
#undef NAME
#undef TEMPERED

#define NAME(f) f##_tempered
#define TEMPERED 1
#include "elementary.h"
#include "memory.h"
#include "softmax.h"
#include "columns.h"
#include "normalise.h"
#include "divergence.h"

#include "capped.h"
#include "gather.h"
#include "pointwise.h"

/* T = 1 where there is none. */
static Temper temper_of(double temperature)
{
    const double power = temperature * DOUBLE_LN2;
    Temper temper = {.value = temperature, .rate = 1.0 / temperature};
    temper.inverse = (float)temper.rate;
    temper.inverse_rest = (float)(temper.rate - (double)temper.inverse);
    temper.per_power = (float)(1.0 / power);
    /* without fused multiply-add, so few bits that products with exponents are exact */
    temper.high = FUSED ? (float)power : float_of(bits_of_float((float)power) & 0xfffff000u);
    temper.low = (float)(power - (double)temper.high);
    temper.limit = (float)(temperature * REACH);
    return temper;
}

/* Of logits that have a soft cap, too. */
static Temper capping(double cap, double temperature, int slopes)
{
    Temper temper = UNTEMPERED;
    temper.cap = cap;
    temper.per_cap = 1.0 / cap;
    temper.rise = cap / temperature;
    temper.steepness = 1.0 / temperature;
    temper.slopes = slopes;
    return temper;
}

/* What kernels need of the type they compute in.  REAL arrays are void here. */
typedef struct {
    Py_ssize_t size;
    int kind;
    const Formula *formulas;
    void (*copied)(const char *, Py_ssize_t, int, Py_ssize_t, void *);
    const void *(*staged)(const char *, Py_ssize_t, int, Py_ssize_t, void *);
    int (*looped)(Loop, const void *, const void *, const void *, const void *, Py_ssize_t, void *);
    void (*summed)(const Formula *, const void *, const void *, const void *, const void *, Py_ssize_t, double *);
    void (*add_weighted)(void *, double *, Py_ssize_t, double *, double *);
    void (*add_each)(const void *, const double *, Py_ssize_t, double *, double *);
    void (*sum_rows)(const void *, Py_ssize_t, Py_ssize_t, double *);
    void (*add_rows)(const void *, Py_ssize_t, Py_ssize_t, double *);
    void (*weigh)(void *, const double *, Py_ssize_t);
    void (*likelihoods)(const double *, const double *, const double *, double *, int, double);
    double (*top_of)(const char *, int, Py_ssize_t);
    double (*peak_of)(const char *, int, Py_ssize_t, Py_ssize_t *);
    void (*scan)(const char *, int, Py_ssize_t, Py_ssize_t, double, double *, double *, double *, Temper);
    void (*mix)(
        const char *, int, Py_ssize_t, const char *, Py_ssize_t, int, const double *, double, double, double, double *,
        double *, Temper);
    void (*fill)(
        const char *, int, Py_ssize_t, double, double, double, int, const char *, Py_ssize_t, int, const double *, double,
        double, double, void *, Temper);
    void (*log_probabilities)(const char *, int, Py_ssize_t, double, double, void *, Temper);
    void (*add)(void *, const void *, Py_ssize_t);
    Py_ssize_t (*first_of_all)(const char *, Py_ssize_t, int, Py_ssize_t);
    Py_ssize_t (*count_before)(const char *, Py_ssize_t, int, Py_ssize_t, Py_ssize_t, double);
    void (*detail)(
        const char *, Py_ssize_t, int, Py_ssize_t, Py_ssize_t, Py_ssize_t, void *, int64_t *, double *);
    void (*detail_columns)(
        const Columns *, int, int, Py_ssize_t, char *, Py_ssize_t, char *, Py_ssize_t, char *, Py_ssize_t);
    void (*entropy_columns)(const Columns *, int, int, const int64_t *, double *);
    void (*turned)(const Columns *, Py_ssize_t, int, char *, Py_ssize_t);
    void (*turned_back)(const char *, Py_ssize_t, Py_ssize_t, int, char *, Py_ssize_t, Py_ssize_t);
    void (*find_peaks)(const Columns *, Py_ssize_t, int, Rows *);
    void (*scan_columns)(const Columns *, Py_ssize_t, int, Rows *, Temper);
    void (*find_losses)(const Columns *, Py_ssize_t, int, Rows *, Temper);
    void (*mix_columns)(
        const Columns *, const Columns *, Py_ssize_t, int, const double *, double, double, Rows *, Temper);
    void (*fill_columns)(
        const Columns *, const Columns *, Py_ssize_t, int, const double *, int, double, double, double, int, const Rows *,
        char *, Py_ssize_t, Py_ssize_t, Temper);
    void (*slope_columns)(
        const Columns *, Py_ssize_t, int, Rows *, double, double, char *, Py_ssize_t, Py_ssize_t, Temper); /* not in double */
    void (*log_columns)(const Columns *, Py_ssize_t, int, const Rows *, char *, Py_ssize_t, Py_ssize_t, Temper);
    void (*normalise_columns)(const Columns *, Py_ssize_t, int, const Normal *, Py_ssize_t, Py_ssize_t, Temper);
    void (*normalise_rows)(const char *const *, int, Py_ssize_t, int, double *, char *const *, char *const *, Rows *, Temper);
    double (*divergence)(const Side *, const Side *, Py_ssize_t, double *, Temper);
    int (*quick_divergence)(
        const Side *, const Side *, Py_ssize_t, Py_ssize_t, double *, double *, Py_ssize_t *, Py_ssize_t *, Others *, Temper);
    void (*diverge_columns)(
        const Columns *, const Columns *, Py_ssize_t, int, const Rows *, const Rows *, double *, double *, Temper);
    void (*gaps_of_columns)(const Columns *, Py_ssize_t, int, const int64_t *, double *); /* only of float32 as it is */
    double (*logit)(double, Temper);     /* what rows are computed from, of an element as it comes */
    double (*steepness)(double, Temper); /* the derivative of that, but for a temperature; NULL where it is 1 */
} Arithmetic;

/* `kernels` is the suffix of those that know of a temperature. */
#define ARITHMETIC(type, kernels, kind, slopes, columns, gaps, logits, rises)                                          \
    {                                                                                                                  \
        sizeof(type), kind, FORMULAS_##type, (void *)copied_##type, (void *)staged_##type, (void *)looped_##type,      \
            (void *)summed_##type, (void *)add_weighted_##type, (void *)add_each_##type, (void *)sum_rows_##type,      \
            (void *)add_rows_##type, (void *)weigh_##type,                                                             \
            likelihoods_##type, top_of_##type, peak_of_##type, scan_##kernels, mix_##kernels, fill_##kernels,          \
            log_probabilities_##kernels, (void *)add_##type, first_of_all_##type, count_before_##type,                 \
            (void *)detail_##type, detail_columns_##type, entropy_columns_##type,                                      \
            turned_##type, turned_back_##type,                                                                         \
            find_peaks_##type, scan_columns_##kernels, find_losses_##kernels,                                          \
            mix_columns_##kernels, fill_columns_##kernels, slopes, log_columns_##kernels,                              \
            columns, normalise_rows_##kernels, divergence_##kernels, quick_divergence_##kernels,                       \
            diverge_columns_##kernels, gaps, logits, rises                                                             \
    }

enum { TEMPERED_FLOATS = 2, CAPPED_FLOATS = 3 };

static const Arithmetic ARITHMETICS[4] = {
    ARITHMETIC(
        float, float, FLOAT32, slope_columns_float, normalise_columns_float, gaps_of_columns_float, same_logit, NULL),
    ARITHMETIC(double, double, FLOAT64, NULL, normalise_columns_double, NULL, same_logit, NULL),
    ARITHMETIC(float, tempered, FLOAT32, slope_columns_tempered, normalise_columns_tempered, NULL, same_logit, NULL),
    ARITHMETIC(float, capped, FLOAT32, NULL, NULL, NULL, capped_logit, capped_steepness)};

/* --- one element, whatever it is ---------------------------------------------------------------------------------------- */

static double exp_of(double x)
{
    return exp_double(x);
}

/* By how much a probability exp(-loss) is above another, exp(-base); d is loss - base to more digits, if it is known. */
INLINE double rise_of(double loss, double base, double d)
{
    return fabs(d) <= 0.5 ? exp_double(-base) * expm1_double(-d) : exp_double(-loss) - exp_double(-base);
}

/* The same of so many rows. */
static void rises_of(
    const double *RESTRICT losses, const double *RESTRICT bases, const double *RESTRICT ds, int n, double *RESTRICT rises)
{
    for (int i = 0; i < n; i++)
        rises[i] = rise_of(losses[i], bases[i], ds[i]);
}

/* value in a result of a size in bytes. */
static void put(char *out, Py_ssize_t size, double value)
{
    if (size == 8)
        *(double *)out = value;
    else
        *(float *)out = (float)value;
}

/* So many values in a result of a size in bytes. */
static void put_all(char *out, Py_ssize_t step, Py_ssize_t size, const double *RESTRICT values, int n)
{
    if (size == 4 && step == 4) {
        float *RESTRICT to = (float *)out;
        for (int i = 0; i < n; i++)
            to[i] = (float)values[i];
    }
    else
        for (int i = 0; i < n; i++)
            put(out + i * step, size, values[i]);
}

/* A label at its own width: kinds are the size in bytes, negative where signed.  -1 where it is no class, -2 where it is to be
ignored. */
INLINE int64_t label_at(const char *p, int kind, int64_t n_classes, int64_t ignore_index)
{
    int64_t label;
    switch (kind) {
    case -1: label = *(const int8_t *)p; break;
    case -2: label = *(const int16_t *)p; break;
    case -4: label = *(const int32_t *)p; break;
    case -8: label = *(const int64_t *)p; break;
    case 1: label = *(const uint8_t *)p; break;
    case 2: label = *(const uint16_t *)p; break;
    case 4: label = *(const uint32_t *)p; break;
    default: {
        const uint64_t large = *(const uint64_t *)p;
        if (large > INT64_MAX)
            return -1; /* as an int64 it would wrap round */
        label = (int64_t)large;
    }
    }
    return label == ignore_index ? -2 : label >= 0 && label < n_classes ? label : -1;
}

/* n labels; whether some are no classes or to be ignored. */
static int find_labels(
    const char *p, Py_ssize_t step, int kind, int64_t n_classes, int64_t ignore_index, Py_ssize_t n, int64_t *labels)
{
    int64_t all = 0;
#define LABELS(type)                                                                                                   \
    do {                                                                                                               \
        const type *RESTRICT from = (const type *)p;                                                                   \
        for (Py_ssize_t i = 0; i < n; i++) {                                                                           \
            const int64_t label = (int64_t)from[i], found = label < n_classes && label >= 0 ? label : -1;              \
            labels[i] = label == ignore_index ? -2 : found;                                                            \
            all |= labels[i];                                                                                          \
        }                                                                                                              \
    } while (0)
    if (kind == -8 && step == 8)
        LABELS(int64_t);
    else if (kind == -4 && step == 4)
        LABELS(int32_t);
    else if (kind == 1 && step == 1)
        LABELS(uint8_t);
    else
        for (Py_ssize_t i = 0; i < n; i++) {
            labels[i] = label_at(p + i * step, kind, n_classes, ignore_index);
            all |= labels[i];
        }
#undef LABELS
    return all < 0;
}

#endif
