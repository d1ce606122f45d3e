/* What code translated from PTX is made of.  A kernel becomes a C function of a thread and the bytes of its parameters.  Registers hold
   bits, unsigned integers of their width; instructions take them as values of their own types and put bits back.  `at` is always the line
   and the text of an instruction, for reports. */
#pragma once
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef bool pred;
typedef uint8_t b8, u8;
typedef uint16_t b16, u16;
typedef uint32_t b32, u32;
typedef uint64_t b64, u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef _Float16 f16;
typedef float f32;
typedef double f64;

struct thread {
    u32 tid[3], ntid[3], ctaid[3], nctaid[3];
    u32 lane, warp;
    u64 shared; /* where the block's shared memory starts */
    /* where costs are counted: how often it has executed each instruction, and which one it is at; its clock, which goes on by what is issued,
       when the instruction that waited longest for its operands could start, when this one can, and what it takes if that is memory */
    u32 *issued, site, slot, clock, stalled, when, took;
};

struct kernel {
    const char *name;
    void (*run)(struct thread *t, const char *parameters);
    unsigned shared, local, n_parameters;
    const unsigned *sizes, *offsets; /* of parameters, in bytes */
    const char *const *sites; /* the names of its instructions, if they are counted */
    unsigned n_sites;
};

/* --- the machine: in memory.c and launch.c --- */

enum space { GENERIC, GLOBAL, SHARED, LOCAL, VOLATILE = 8 };
enum collective { BLOCK_BARRIER, WARP_BARRIER, UP, DOWN, BFLY, IDX, ALL, ANY, UNI, BALLOT };

u64 load(struct thread *t, const char *at, int space, u64 address, int size);
void store(struct thread *t, const char *at, int space, u64 address, int size, u64 value);
void load_vector(struct thread *t, const char *at, int space, u64 address, int size, int n, u64 *values);
void store_vector(struct thread *t, const char *at, int space, u64 address, int size, int n, const u64 *values);
void *atomic(struct thread *t, const char *at, int space, u64 address, int size);
void fence(void);
void barrier(struct thread *t, const char *at, u32 number);
void warp_barrier(struct thread *t, const char *at, u32 mask);
u32 shuffle(struct thread *t, const char *at, enum collective kind, u32 value, u32 b, u32 c, u32 mask, pred *found);
u32 vote(struct thread *t, const char *at, enum collective kind, pred value, u32 mask);
static inline u32 later(u32 a, u32 b) { return a > b ? a : b; }
/* An instruction can start when its operands are `ready`.  The assembler orders what lies between two branches so that waiting hurts least: all of it
   has started by the branch. */
#define COUNT(n, instructions, ready) \
    (t->site = n, t->issued[n]++, t->when = later(t->clock, ready), t->stalled = later(t->stalled, t->when), t->clock += instructions)
#define CATCH_UP (t->clock = t->stalled = later(t->clock, t->stalled))
/* Which ways the threads have gone at each conditional branch of a library: bit 0 straight on, bit 1 to its label.  They are kept in a file where
   DRIVER_BRANCHES names a folder. */
#define BRANCHES(n) \
    static u8 own_ways[n + 1], *ways = own_ways; \
    static __attribute__((constructor)) void keep_ways(void) { ways = kept_ways(own_ways, n); }
#define WENT(branch, condition) ((condition) ? (ways[branch] |= 2, 1) : (ways[branch] |= 1, 0))
u8 *kept_ways(u8 *own, u32 n);
f32 approximate(f32 exact, f32 ulps); /* off by so much at most, if that mode is on */

/* --- bits and values --- */

#define CONVERSIONS(real, bits) \
    static inline real real##_of(bits x) { real y; memcpy(&y, &x, sizeof y); return y; } \
    static inline bits bits##_of_##real(real x) { bits y; memcpy(&y, &x, sizeof y); return y; }
CONVERSIONS(f16, b16)
CONVERSIONS(f32, b32)
CONVERSIONS(f64, b64)

/* --- arithmetic that C has not --- */

static inline f32 flushed(f32 x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }
static inline f64 flushed_f64(f64 x) { return fabs(x) < 0x1p-1022 ? copysign(0, x) : x; }
static inline f32 saturated(f32 x) { return x > 0 ? x < 1 ? x : 1 : 0; }

/* One NaN gives the other operand, and -0 is below 0. */
static inline f64 least(f64 a, f64 b) { return a != a ? b : b != b ? a : a == b ? signbit(a) ? a : b : a < b ? a : b; }
static inline f64 most(f64 a, f64 b) { return a != a ? b : b != b ? a : a == b ? signbit(a) ? b : a : a > b ? a : b; }

/* Rounding as the bits of the processor's control register that ask for it. */
enum rounding { DOWNWARDS = 0x2000, UPWARDS = 0x4000, TO_ZERO = 0x6000 };

static inline f32 fma_towards(f32 a, f32 b, f32 c, enum rounding mode)
{
    u32 normal, changed;
    __asm__ volatile("stmxcsr %0" : "=m"(normal));
    changed = (normal & ~(u32)TO_ZERO) | mode;
    __asm__ volatile("ldmxcsr %0" ::"m"(changed) : "memory");
    volatile f32 x = a, y = b, z = c;
    volatile f32 result = __builtin_fmaf(x, y, z);
    __asm__ volatile("ldmxcsr %0" ::"m"(normal) : "memory");
    return result;
}

/* A float to the nearest integer that the type holds, 0 for NaN; `x` is whole already. */
#define WHOLE(type, low, high) \
    static inline type whole_##type(f64 x) { return x != x ? 0 : x <= (f64)(low) ? (low) : x >= (f64)(high) ? (high) : (type)x; }
WHOLE(s8, INT8_MIN, INT8_MAX)
WHOLE(u8, 0, UINT8_MAX)
WHOLE(s16, INT16_MIN, INT16_MAX)
WHOLE(u16, 0, UINT16_MAX)
WHOLE(s32, INT32_MIN, INT32_MAX)
WHOLE(u32, 0, UINT32_MAX)
WHOLE(s64, INT64_MIN, INT64_MAX)
WHOLE(u64, 0, UINT64_MAX)

/* The upper half of 1 / x, or of 1 / sqrt(x): nothing below it, and no subnormal numbers. */
static inline f64 upper_half(f64 x) { return f64_of(b64_of_f64(flushed_f64(x)) & 0xFFFFFFFF00000000u); }

static inline u64 inserted(u64 a, u64 b, u32 position, u32 length, u32 width)
{
    position &= 255, length &= 255;
    if (position >= width || !length) return b;
    u64 mask = (length >= 64 ? ~(u64)0 : ((u64)1 << length) - 1) << position;
    return (b & ~mask) | (a << position & mask);
}

static inline u64 extracted(u64 a, u32 position, u32 length, u32 width, bool with_sign)
{
    position &= 255, length &= 255;
    if (!length) return 0;
    u64 sign = with_sign ? a >> (position + length - 1 < width - 1 ? position + length - 1 : width - 1) & 1 : 0;
    u64 mask = length >= 64 ? ~(u64)0 : ((u64)1 << length) - 1;
    u64 value = position < width ? a >> position & mask : 0;
    u32 there = position < width ? width - position : 0;
    return sign && there < length ? value | (mask & ~(there ? ((u64)1 << there) - 1 : 0)) | (length < 64 ? ~mask : 0)
                                  : sign && length < 64 ? value | ~mask : value;
}

static inline u32 permuted(u32 a, u32 b, u32 selector)
{
    u64 both = (u64)b << 32 | a;
    u32 result = 0;
    for (int i = 0; i < 4; i++) {
        u32 s = selector >> 4 * i & 15;
        u8 byte = both >> 8 * (s & 7);
        if (s & 8) byte = byte & 0x80 ? 0xFF : 0;
        result |= (u32)byte << 8 * i;
    }
    return result;
}
