/* What differs between compilers and instruction sets, and nothing else. */
#ifndef FASTLOSS_MACHINE_H
#define FASTLOSS_MACHINE_H

#include <Python.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "pool.h"

/* In loops over rows that may be of any length: whether to go on to element i, which is asked every 2^k elements, and how many
elements are read where they lie between two such questions. */
enum { MOST_AT_ONCE = 1 << 20 };
#define GOES_ON(i, k) (((i) & (((Py_ssize_t)1 << (k)) - 1)) || !(i) || !pool_over())

#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline)) /* where a compiler that sees the loops around would turn them inside out */
#define RESTRICT __restrict__
#define ASK_FOR(address) __builtin_prefetch((address), 0, 2) /* into the second-level cache; any address will do */
#elif defined(_MSC_VER)
#define INLINE static __forceinline
#define APART static __declspec(noinline)
#define RESTRICT __restrict
#define ASK_FOR(address) ((void)(address))
#else
#define INLINE static inline
#define APART static
#define RESTRICT restrict
#define ASK_FOR(address) ((void)(address))
#endif

/* Before loops over so few elements that gcc would write each out, and only then look for registers to put them in. */
#if defined(__GNUC__) && !defined(__clang__)
#define IN_LANES _Pragma("GCC unroll 1")
#else
#define IN_LANES
#endif

/* Of a static variable: that compilers can't know the number in it.  Where something is compared with that and one of the two chosen, gcc
takes a minimum or maximum, which are one instruction; with a constant it takes a comparison and a blend, up to four times as many. */
#if defined(__GNUC__)
#define UNKNOWN __attribute__((used))
#else
#define UNKNOWN
#endif

/* The same index, which compilers then can't know.  Loops that look up single elements are then left alone; gcc would compute their addresses
in vectors, and take these apart again. */
INLINE int64_t unknown_index(int64_t i)
{
#if defined(__GNUC__)
    __asm__("" : "+r"(i));
#endif
    return i;
}

/* Whether a product and a sum are rounded once: n ln 2 then needs no splitting into parts that multiply exactly. */
#if defined(__FMA__) || defined(__aarch64__)
#define FUSED 1
#else
#define FUSED 0
#endif

#if defined(__F16C__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLES 1
#endif
#endif
#ifndef SHUFFLES
#define SHUFFLES 0
#endif

#if SHUFFLES
/* Floats of one register, in pieces of four; and of two such, piece by piece, what unpacking and moving halves gives. */
typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
#define SHUFFLED __builtin_shufflevector
#if defined(__AVX512F__)
#define WIDE 16
#define LOW_OF(a, b) SHUFFLED(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define HIGH_OF(a, b) SHUFFLED(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define FIRST_HALVES(a, b) SHUFFLED(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define LAST_HALVES(a, b) SHUFFLED(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#elif defined(__AVX__)
#define WIDE 8
#define LOW_OF(a, b) SHUFFLED(a, b, 0, 8, 1, 9, 4, 12, 5, 13)
#define HIGH_OF(a, b) SHUFFLED(a, b, 2, 10, 3, 11, 6, 14, 7, 15)
#define FIRST_HALVES(a, b) SHUFFLED(a, b, 0, 1, 8, 9, 4, 5, 12, 13)
#define LAST_HALVES(a, b) SHUFFLED(a, b, 2, 3, 10, 11, 6, 7, 14, 15)
#else
#define WIDE 4
#define LOW_OF(a, b) SHUFFLED(a, b, 0, 4, 1, 5)
#define HIGH_OF(a, b) SHUFFLED(a, b, 2, 6, 3, 7)
#define FIRST_HALVES(a, b) SHUFFLED(a, b, 0, 1, 4, 5)
#define LAST_HALVES(a, b) SHUFFLED(a, b, 2, 3, 6, 7)
#endif
typedef float Wide __attribute__((vector_size(4 * WIDE), aligned(4), may_alias));
typedef uint32_t WideBits __attribute__((vector_size(4 * WIDE), aligned(4), may_alias));

/* Pieces that lie so many bytes apart, and back there. */
INLINE Wide pieces_at(const char *p, Py_ssize_t step)
{
    const Four a = *(const Four *)p;
#if WIDE == 4
    (void)step;
    return a;
#else
    const Four b = *(const Four *)(p + step);
#if WIDE == 8
    return SHUFFLED(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
#else /* as intrinsics, since compilers don't see that memory can be an operand */
    __m512 v = _mm512_castps128_ps512((__m128)a);
    v = _mm512_insertf32x4(v, (__m128)b, 1);
    v = _mm512_insertf32x4(v, _mm_loadu_ps((const float *)(p + 2 * step)), 2);
    return (Wide)_mm512_insertf32x4(v, _mm_loadu_ps((const float *)(p + 3 * step)), 3);
#endif
#endif
}

INLINE void put_pieces(Wide v, char *p, Py_ssize_t step)
{
    *(Four *)p = SHUFFLED(v, v, 0, 1, 2, 3);
#if WIDE >= 8
    *(Four *)(p + step) = SHUFFLED(v, v, 4, 5, 6, 7);
#endif
#if WIDE == 16
    *(Four *)(p + 2 * step) = SHUFFLED(v, v, 8, 9, 10, 11);
    *(Four *)(p + 3 * step) = SHUFFLED(v, v, 12, 13, 14, 15);
#endif
}
#endif

enum { LANES = 64 };            /* rows side by side, as in the package's `backends.LANES` */
enum { BLOCK = 64 };            /* elements of a row summed at a time */
enum { SPAN = 1024 };           /* elements that stay in the first-level cache between two steps */
enum { AHEAD = 16384 };         /* bytes before it is read that memory is asked for */
enum { LINE = 64 };             /* bytes of a line of the cache */

/* Prefetches so many bytes: memory is idle during exponentials and divisions otherwise. */
INLINE void ask_for_all(const void *x, Py_ssize_t bytes)
{
    for (Py_ssize_t line = 0; line < bytes; line += LINE)
        ASK_FOR((const char *)x + line);
}

/* The same, AHEAD of their use. */
INLINE void ask_ahead(const void *x, Py_ssize_t bytes)
{
    ask_for_all((const char *)x + AHEAD, bytes);
}

/* Kinds of elements; floats of 16 bits come as their bits. */
enum { ABSENT = 0, FLOAT16, BFLOAT16, FLOAT32, FLOAT64 };

/* out[i] = f(x[i], y[i], z[i]; p) for n_blocks * BLOCK contiguous elements of the type computed in; whether all are finite. */
typedef int (*Loop)(const void *x, const void *y, const void *z, const void *p, Py_ssize_t n_blocks, void *out);

/* 16 sums of f in float64. */
typedef void (*Adding)(const void *x, const void *y, const void *z, const void *p, Py_ssize_t n_blocks, double *sums);

/* A pointwise loss: loops over its value, its slope times the number after its parameters, and the sums of its value. */
typedef struct {
    const char *name;
    int operands;
    int parameters;
    Loop values;
    Loop slopes;
    Adding sums;
} Formula;

/* The place of the lowest bit that is set. */
INLINE int lowest_bit(uint64_t bits)
{
#if defined(__GNUC__) || defined(__clang__)
    return __builtin_ctzll(bits);
#else
    int k = 0;
    while (!(bits >> k & 1))
        k++;
    return k;
#endif
}

INLINE float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE uint32_t bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINE double double_of(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

INLINE uint64_t bits_of_double(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* weight * value, and 0 for a weight of 0, whatever the value is; in bits, as compilers make a branch of a condition. */
INLINE double weighed(double weight, double value)
{
    return double_of(bits_of_double(weight * value) & (0 - (uint64_t)(weight != 0.0)));
}

INLINE float from_bfloat(uint16_t bits)
{
    return float_of((uint32_t)bits << 16);
}

/* float16 to float32; subnormal numbers by a subtraction of normal ones, which no mode of the CPU flushes. */
INLINE float from_half(uint16_t bits)
{
    const uint32_t magnitude = (uint32_t)(bits & 0x7fff) << 13, sign = (uint32_t)(bits & 0x8000) << 16;
    const uint32_t normal = magnitude + (112u << 23), infinite = magnitude + (224u << 23);
    const uint32_t tiny = bits_of_float(float_of(magnitude + (113u << 23)) - 6.103515625e-05f);
    const uint32_t small = magnitude < (1u << 23) ? tiny : normal;
    return float_of((magnitude >= (31u << 23) ? infinite : small) | sign);
}

#endif
