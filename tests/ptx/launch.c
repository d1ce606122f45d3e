/* Launches: each thread of a block is a fibre with a stack of its own, which runs until it waits for others or ends.

   Blocks run a few at a time, in turns.  DRIVER_ORDER=n, n > 0, shuffles blocks, warps and lanes, each n otherwise; what a kernel computes must
   not depend on it.  DRIVER_APPROXIMATE=n puts approximate instructions off by up to what their documentation allows. */
#define _GNU_SOURCE
#include "launch.h"
#include "counts.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { STACK = 256 << 10, GUARD = 4096, LIVE = 3 };
enum state { READY, WAITING, DONE };

struct fibre {
    struct thread thread;
    enum state state;
    void *stack_pointer;
    const char *at; /* where it waits, and for what */
    enum collective kind;
    u32 value, b, c, mask, result, number;
    pred found;
};

struct block {
    struct fibre *fibres;
    u32 number, phase, warp_phase[MOST_THREADS / WARP], n_done;
    u16 order[MOST_THREADS];
    struct region shared;
    bool live;
};

static struct block blocks[LIVE];
static const struct kernel *kernel;
static const char *parameters;
static struct fibre *current;
static struct block *current_block;
static u32 n_threads, launch_number, phase_number;
static void *scheduler;
static char *stacks;
static int error;
static char text[2000];
static u64 random_state;

const char *report(void) { return text; }

static u32 random_below(u32 n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (random_state >> 33) % n;
}

static u32 setting(const char *name) { const char *value = getenv(name); return value ? strtoul(value, NULL, 10) : 0; }

f32 approximate(f32 exact, f32 ulps)
{
    static u64 state;
    u32 seed = setting("DRIVER_APPROXIMATE");
    if (!seed || !isfinite(exact) || fabsf(exact) < 0x1p-100f) return exact;
    state = state * 6364136223846793005u + 1442695040888963407u + seed;
    return exact + ((state >> 40) * 0x1p-23f - 1) * ulps * (nextafterf(fabsf(exact), INFINITY) - fabsf(exact));
}

/* --- fibres --- */

void swap_stacks(void **from, void *to);
__asm__(".text\n.globl swap_stacks\n.hidden swap_stacks\nswap_stacks:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n");

static void give_way(void) { swap_stacks(&current->stack_pointer, scheduler); }

static void run_fibre(void)
{
    kernel->run(&current->thread, parameters);
    current->state = DONE;
    current_block->n_done++;
    give_way();
    abort();
}


_Noreturn void fail(struct thread *t, const char *at, int code, const char *format, ...)
{
    va_list values;
    char reason[400];
    va_start(values, format);
    vsnprintf(reason, sizeof reason, format, values);
    va_end(values);
    snprintf(text, sizeof text, "thread %u of block %u, %s: %s [kernel %s]", current->number, current_block->number, at, reason, kernel->name);
    error = code;
    give_way();
    abort();
}

/* --- what threads do together --- */

static u32 wait_for_others(struct thread *t, struct fibre given)
{
    struct fibre *me = current;
    me->at = given.at, me->kind = given.kind, me->value = given.value, me->b = given.b, me->c = given.c, me->mask = given.mask;
    me->state = WAITING;
    give_way();
    return me->result;
}

void barrier(struct thread *t, const char *at, u32 number)
{
    wait_for_others(t, (struct fibre){.at = at, .kind = BLOCK_BARRIER, .b = number});
}

static void check_mask(struct thread *t, const char *at, u32 mask)
{
    if (!(mask >> t->lane & 1)) fail(t, at, LAUNCH_FAILED, "its lane, %u, is not in the mask %#x", t->lane, mask);
}

void warp_barrier(struct thread *t, const char *at, u32 mask)
{
    check_mask(t, at, mask);
    wait_for_others(t, (struct fibre){.at = at, .kind = WARP_BARRIER, .mask = mask});
}

u32 shuffle(struct thread *t, const char *at, enum collective kind, u32 value, u32 b, u32 c, u32 mask, pred *found)
{
    check_mask(t, at, mask);
    u32 result = wait_for_others(t, (struct fibre){.at = at, .kind = kind, .value = value, .b = b, .c = c, .mask = mask});
    *found = current->found;
    return result;
}

u32 vote(struct thread *t, const char *at, enum collective kind, pred value, u32 mask)
{
    check_mask(t, at, mask);
    return wait_for_others(t, (struct fibre){.at = at, .kind = kind, .value = value, .mask = mask});
}

/* The lane that a shuffle reads, and whether it is within the segment (PTX ISA, shfl.sync). */
static u32 source_of(const struct fibre *f, pred *found)
{
    u32 lane = f->thread.lane, b = f->b & 31, clamp = f->c & 31, segment = f->c >> 8 & 31;
    u32 most = (lane & segment) | (clamp & ~segment), least = lane & segment;
    s32 j = f->kind == UP ? (s32)lane - (s32)b : f->kind == DOWN ? lane + b : f->kind == BFLY ? lane ^ b : least | (b & ~segment);
    *found = f->kind == UP ? j >= (s32)most : j <= (s32)most;
    return *found ? j : lane;
}

/* Lets the lanes of a mask go on, with what they asked for. */
static void finish(struct block *block, struct fibre *lanes, u32 mask)
{
    u32 ballot = 0, last = 0;
    for (u32 i = 0; i < WARP; i++) last = mask >> i & 1 ? later(last, lanes[i].thread.when) : last;
    for (u32 i = 0; i < WARP; i++) lanes[i].thread.when = mask >> i & 1 ? last : lanes[i].thread.when;
    for (u32 i = 0; i < WARP; i++) ballot |= mask >> i & 1 && lanes[i].value ? 1u << i : 0;
    for (u32 i = 0; i < WARP; i++) {
        if (!(mask >> i & 1)) continue;
        struct fibre *f = lanes + i;
        if (UP <= f->kind && f->kind <= IDX) {
            u32 source = source_of(f, &f->found);
            current = f, current_block = block;
            if (!(mask >> source & 1)) {
                snprintf(text, sizeof text, "thread %u of block %u, %s: it reads lane %u, which is not in the mask %#x [kernel %s]", f->number,
                         block->number, f->at, source, mask, kernel->name);
                error = LAUNCH_FAILED;
                return;
            }
            f->result = lanes[source].value;
        } else {
            f->result = f->kind == BALLOT ? ballot : f->kind == ANY ? ballot != 0 : f->kind == ALL ? ballot == mask : !ballot || ballot == mask;
        }
    }
    if (lanes[__builtin_ctz(mask)].kind == WARP_BARRIER && mask == (n_threads - lanes->number >= WARP ? ~0u : (1u << (n_threads - lanes->number)) - 1))
        block->warp_phase[lanes->number / WARP]++;
    for (u32 i = 0; i < WARP; i++)
        if (mask >> i & 1) lanes[i].state = READY;
}

/* Whether a waiting thread and all that it waits for are together; they are then let go. */
static bool together(struct block *block, struct fibre *f)
{
    if (f->kind == BLOCK_BARRIER) {
        for (u32 i = 0; i < n_threads; i++)
            if (block->fibres[i].state != WAITING || block->fibres[i].kind != BLOCK_BARRIER || block->fibres[i].b != f->b) return 0;
        u32 last = 0;
        for (u32 i = 0; i < n_threads; i++) last = later(last, block->fibres[i].thread.clock);
        for (u32 i = 0; i < n_threads; i++) block->fibres[i].state = READY, block->fibres[i].thread.clock = last + BARRIER;
        block->phase = ++phase_number;
        if (kernel->sites) count_barrier();
        return 1;
    }
    struct fibre *lanes = block->fibres + f->number / WARP * WARP;
    u32 there = n_threads - lanes->number;
    u32 mask = there >= WARP ? f->mask : f->mask & ((1u << there) - 1);
    for (u32 i = 0; i < WARP; i++)
        if (mask >> i & 1 && (lanes[i].state != WAITING || lanes[i].kind != f->kind || lanes[i].mask != f->mask)) return 0;
    finish(block, lanes, mask);
    return 1;
}

static void report_stuck(struct block *block)
{
    struct fibre *waits = NULL, *missing = NULL;
    for (u32 i = 0; i < n_threads && !waits; i++)
        if (block->fibres[i].state == WAITING) waits = block->fibres + i;
    for (u32 i = 0; i < n_threads && !missing; i++) {
        struct fibre *f = block->fibres + i;
        bool asked = waits->kind == BLOCK_BARRIER || (i / WARP == waits->number / WARP && waits->mask >> i % WARP & 1);
        if (asked && (f->state == DONE || f->kind != waits->kind || f->mask != waits->mask)) missing = f;
    }
    snprintf(text, sizeof text, "thread %u of block %u, %s: waits for thread %u, which %s%s [kernel %s]", waits->number, block->number, waits->at,
             missing ? missing->number : 0, !missing || missing->state == DONE ? "has ended" : "waits at ",
             !missing || missing->state == DONE ? "" : missing->at, kernel->name);
    error = LAUNCH_FAILED;
}

/* --- blocks --- */

static void start(struct block *block, u32 number, const unsigned *grid, const unsigned *size)
{
    if (kernel->sites) counts_start_block(block - blocks, number);
    block->number = number, block->phase = ++phase_number, block->n_done = 0, block->live = 1;
    memset(block->warp_phase, 0, sizeof block->warp_phase);
    memset((void *)block->shared.start, 0xFF, block->shared.size);
    memset(block->shared.cells, 0, block->shared.size * sizeof(struct cell)); /* nothing of the block that was here before */
    for (u32 i = 0; i < n_threads; i++) {
        struct fibre *f = block->fibres + i;
        *f = (struct fibre){.number = i, .state = READY};
        struct thread *t = &f->thread;
        t->tid[0] = i % size[0], t->tid[1] = i / size[0] % size[1], t->tid[2] = i / size[0] / size[1];
        t->ctaid[0] = number % grid[0], t->ctaid[1] = number / grid[0] % grid[1], t->ctaid[2] = number / grid[0] / grid[1];
        for (int k = 0; k < 3; k++) t->ntid[k] = size[k], t->nctaid[k] = grid[k];
        t->lane = i % WARP, t->warp = i / WARP, t->shared = block->shared.start;
        void **top = (void **)(stacks + ((block - blocks) * MOST_THREADS + i + 1) * (u64)STACK) - 2;
        top[0] = run_fibre, top[1] = NULL; /* where it returns to first, on a stack aligned as after a call */
        f->stack_pointer = top - 6;
        if (kernel->sites) counts_watch(block - blocks, i, t);
        memset(f->stack_pointer, 0, 6 * sizeof *top);
        block->order[i] = i;
    }
    if (!random_state) return;
    u32 n_warps = (n_threads + WARP - 1) / WARP, at = 0, warps[MOST_THREADS / WARP];
    for (u32 w = 0; w < n_warps; w++) {
        u32 other = random_below(w + 1);
        warps[w] = warps[other], warps[other] = w;
    }
    for (u32 w = 0; w < n_warps; w++) {
        u32 n = n_threads - warps[w] * WARP < WARP ? n_threads - warps[w] * WARP : WARP;
        for (u32 i = 0; i < n; i++) {
            u32 other = random_below(i + 1);
            block->order[at + i] = block->order[at + other], block->order[at + other] = warps[w] * WARP + i;
        }
        at += n;
    }
}

/* Lets each thread of a block that is ready run until it waits; whether any has come further. */
static bool advance(struct block *block)
{
    bool moved = 0;
    for (u32 i = 0; i < n_threads && !error; i++) {
        struct fibre *f = block->fibres + block->order[i];
        if (f->state == READY) {
            current = f, current_block = block;
            toucher.now = (struct touch){launch_number, block->phase, block->number, 0, f->number, block->warp_phase[f->thread.warp]};
            toucher.shared = &block->shared;
            toucher.stack = (u64)stacks + ((block - blocks) * MOST_THREADS + f->number) * (u64)STACK;
            toucher.stack_size = STACK;
            swap_stacks(&scheduler, f->stack_pointer);
            moved = 1;
        }
        if (f->state == WAITING && !error) moved |= together(block, f);
    }
    return moved;
}

static bool prepare(u32 shared)
{
    if (!stacks) {
        stacks = mmap(NULL, (u64)LIVE * MOST_THREADS * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED) return stacks = NULL, 0;
        for (int i = 0; i < LIVE * MOST_THREADS; i++) mprotect(stacks + i * (u64)STACK, GUARD, PROT_NONE);
        for (int i = 0; i < LIVE; i++) blocks[i].fibres = calloc(MOST_THREADS, sizeof(struct fibre));
    }
    for (int i = 0; i < LIVE; i++) {
        struct region *region = &blocks[i].shared;
        if (!region->start) { /* low addresses, as some code keeps those of shared memory in 32 bits */
            region->start = (u64)mmap(NULL, 256 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
            region->cells = cells_new(256 << 10);
        }
        region->size = shared;
        blocks[i].live = 0;
    }
    return 1;
}

int launch(const struct kernel *which, const unsigned *grid, const unsigned *size, u32 shared, void **arguments)
{
    static char bytes[4096];
    kernel = which, n_threads = size[0] * size[1] * size[2], launch_number++, error = 0;
    if (!n_threads || n_threads > MOST_THREADS || kernel->shared + shared > 227 << 10 || !prepare(kernel->shared + shared)) {
        snprintf(text, sizeof text, "%u threads and %u bytes of shared memory can't be launched [kernel %s]", n_threads, kernel->shared + shared, kernel->name);
        return 1;
    }
    for (unsigned i = 0; i < kernel->n_parameters; i++) memcpy(bytes + kernel->offsets[i], arguments[i], kernel->sizes[i]);
    parameters = bytes;
    u32 n_blocks = grid[0] * grid[1] * grid[2], next = 0, done = 0, *order = malloc(n_blocks * sizeof *order);
    u32 n_run = sampled_blocks() && sampled_blocks() < n_blocks ? sampled_blocks() : n_blocks;
    if (!fences_new(n_blocks)) return 2;
    random_state = setting("DRIVER_ORDER") * 0x9E3779B97F4A7C15u;
    for (u32 i = 0; i < n_blocks; i++) {
        u32 other = random_state ? random_below(i + 1) : i;
        order[i] = order[other], order[other] = i;
    }
    for (u32 i = 0; n_run < n_blocks && i < n_run; i++) order[i] = (2 * i + 1) * (u64)n_blocks / (2 * n_run);
    toucher.trusted = sampled_blocks();
    if (kernel->sites) counts_begin(kernel, n_threads, LIVE);
    while (done < n_run && !error) {
        bool moved = 0;
        for (int i = 0; i < LIVE && !error; i++) {
            struct block *block = blocks + i;
            if (!block->live && next < n_run) start(block, order[next++], grid, size);
            if (!block->live) continue;
            bool further = advance(block);
            if (!error && block->n_done == n_threads) {
                block->live = 0, done++;
                u32 last = 0;
                for (u32 k = 0; k < n_threads; k++) last = later(last, later(block->fibres[k].thread.clock, block->fibres[k].thread.stalled));
                if (kernel->sites) counts_finish_block(i, last);
            }
            else if (!error && !further) report_stuck(block);
            moved |= further;
        }
    }
    if (kernel->sites && !error) counts_end(n_blocks, n_run, shared);
    free(order);
    return error;
}
