/* Allocations, and the checks of each access: within one that lives, aligned for its width, written before it is read, and in no race.

   Two threads of a block race where both touch a byte between two barriers of the block, one of them writing; for threads of one warp a
   barrier of the warp orders, too.  Shuffles order nothing.  Blocks of a launch race where plain accesses of two of them meet; a volatile
   read may see what another block has written, as that is how a block takes over what the others have left, if the thread that has written
   it and then the one that reads it have passed a fence. */
#include "memory.h"
#include "counts.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

struct toucher toucher;

static struct region *regions; /* by address */
static int n_regions, room;

static u32 n_fences; /* that threads have passed, in all launches */

/* A thread's last one: its number, from 1 on, and whether the thread has changed nothing atomically since. */
static struct fence { u32 number; bool behind; } *last_fences;

bool fences_new(u64 n_blocks)
{
    static u64 there;
    if (n_blocks <= there) return 1; /* what former launches have left is older than all accesses to come */
    free(last_fences);
    last_fences = calloc((there = n_blocks) * MOST_THREADS, sizeof *last_fences);
    return last_fences != NULL;
}

static struct fence *last_fence(u32 block, u32 thread) { return last_fences + (u64)block * MOST_THREADS + thread; }

void fence(void) { *last_fence(toucher.now.block, toucher.now.thread) = (struct fence){++n_fences, 1}; }

/* In touch.thread: its number; of a write that it was atomic, of a read that it was volatile; of a read that other threads of the warp have
   read since the warp's last barrier, too, or threads of other warps since the block's. */
enum { NUMBER = 0x0FFF, STRONG = 0x1000, LANES = 0x2000, WARPS = 0x4000 };

struct cell *cells_new(u64 size)
{
    u64 bytes = size * sizeof(struct cell);
    void *cells = mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return cells == MAP_FAILED ? NULL : cells;
}

/* The last region that does not start behind the address. */
static int before(u64 address)
{
    int low = 0, high = n_regions;
    while (low < high) {
        int middle = (low + high) / 2;
        if (regions[middle].start <= address) low = middle + 1; else high = middle;
    }
    return low - 1;
}

u64 region_new(u64 size)
{
    bool repeated = sampled_blocks() && size > REPEATED;
    struct region new = {repeated ? repeated_memory(size) : (u64)aligned_alloc(512, (size + 1023) / 512 * 512), size, cells_new(size), repeated};
    if (!new.start || !new.cells) return 0;
    if (!repeated) memset((void *)new.start, 0xFF, (size + 1023) / 512 * 512);
    if (n_regions == room) regions = realloc(regions, (room = 2 * room + 64) * sizeof *regions);
    int at = before(new.start) + 1;
    memmove(regions + at + 1, regions + at, (n_regions++ - at) * sizeof *regions);
    regions[at] = new;
    return new.start;
}

bool region_free(u64 address)
{
    int at = before(address);
    if (at < 0 || regions[at].start != address) return 0;
    munmap(regions[at].cells, regions[at].size ? regions[at].size * sizeof(struct cell) : 1);
    if (regions[at].repeated) munmap((void *)address, (regions[at].size / REPEATED + 1) * REPEATED); else free((void *)address);
    memmove(regions + at, regions + at + 1, (--n_regions - at) * sizeof *regions);
    return 1;
}

u64 region_total(void)
{
    u64 total = 0;
    for (int i = 0; i < n_regions; i++) total += regions[i].size;
    return total;
}

struct region *region_of(u64 address)
{
    int at = before(address);
    return at < 0 || address - regions[at].start > regions[at].size ? NULL : regions + at;
}

static struct cell *cells_of(u64 address, u64 size)
{
    struct region *region = region_of(address);
    return region && address - region->start + size <= region->size ? region->cells + (address - region->start) : NULL;
}

const char *host_writes(u64 to, u64 size)
{
    struct cell *cells = cells_of(to, size);
    if (!cells && size) return "the host writes outside all allocations";
    for (u64 i = 0; i < size && !sampled_blocks(); i++) cells[i].filled = 1;
    return NULL;
}

const char *host_reads(u64 from, u64 size)
{
    static char report[100];
    struct cell *cells = cells_of(from, size);
    if (!cells && size) return "the host reads outside all allocations";
    for (u64 i = 0; i < size && !sampled_blocks(); i++)
        if (!cells[i].filled) {
            snprintf(report, sizeof report, "the host reads %lu bytes of which byte %lu was never written", size, i);
            return report;
        }
    return NULL;
}

const char *device_copies(u64 to, u64 from, u64 size)
{
    struct cell *there = cells_of(to, size), *here = cells_of(from, size);
    if ((!there || !here) && size) return "a copy outside all allocations";
    for (u64 i = 0; i < size && !sampled_blocks(); i++) there[i].filled = here[i].filled;
    return NULL;
}

/* --- accesses of threads --- */

enum access { READ, FRESH_READ, WRITE, CHANGE }; /* plain, volatile, plain, atomic */

static const char *const DID[] = {"reads", "reads", "writes", "changes"};

static bool of_this_phase(struct touch before)
{
    return before.launch == toucher.now.launch && before.block == toucher.now.block && before.phase == toucher.now.phase;
}

/* Whether no barrier lies between what was done before and now, by another thread. */
static bool races(struct touch before)
{
    struct touch now = toucher.now;
    if (!of_this_phase(before)) return 0;
    if (before.thread & WARPS || (before.thread & NUMBER) / WARP != now.thread / WARP) return 1;
    return before.warp_phase == now.warp_phase && (before.thread & LANES || (before.thread & NUMBER) != now.thread);
}

static bool blocks_race(struct touch before)
{
    return before.launch == toucher.now.launch && before.block != toucher.now.block && !(before.thread & STRONG);
}

/* Of what another block has written: whether there was a fence behind it, and one before it is read, behind a ticket if the thread has one. */
static bool fenced(struct touch before)
{
    struct fence left = *last_fence(before.block, before.thread & NUMBER), taken = *last_fence(toucher.now.block, toucher.now.thread);
    return left.number > before.n_fences && taken.number > before.n_fences && taken.behind;
}

/* A read, to be remembered beside what was read before. */
static struct touch joined(struct touch before)
{
    struct touch now = toucher.now;
    if (!of_this_phase(before)) return now;
    u32 thread = before.thread & NUMBER;
    if (before.thread & WARPS || thread / WARP != now.thread / WARP) now.thread |= WARPS;
    else if (before.warp_phase == now.warp_phase && (before.thread & LANES || thread != now.thread)) now.thread |= LANES;
    return now;
}

static void touch(struct thread *t, const char *at, enum access what, struct cell *cell, u64 address)
{
    struct touch written = cell->written, read = cell->read;
    if (what != WRITE && !cell->filled) fail(t, at, LAUNCH_FAILED, "%s what was never written, at %#lx", DID[what], address);
    if (races(written) && !(what == CHANGE && written.thread & STRONG))
        fail(t, at, LAUNCH_FAILED, "races: it %s %#lx, which thread %u has written since the last barrier", DID[what], address,
             written.thread & NUMBER);
    if (what >= WRITE && races(read))
        fail(t, at, LAUNCH_FAILED, "races: it %s %#lx, which thread %u has read since the last barrier", DID[what], address,
             read.thread & NUMBER);
    if (what != FRESH_READ && blocks_race(written))
        fail(t, at, LAUNCH_FAILED, "races: it %s %#lx, which block %u has written in this launch", DID[what], address, written.block);
    if (what == FRESH_READ && blocks_race(written) && !fenced(written))
        fail(t, at, LAUNCH_FAILED, "races: it %s %#lx, which block %u has written, without fences in between", DID[what], address, written.block);
    if (what >= WRITE && blocks_race(read))
        fail(t, at, LAUNCH_FAILED, "races: it %s %#lx, which block %u has read in this launch", DID[what], address, read.block);
    struct touch now = what >= WRITE ? toucher.now : joined(read);
    now.n_fences = n_fences;
    if (what == CHANGE) last_fence(now.block, now.thread & NUMBER)->behind = 0;
    if (what == FRESH_READ || what == CHANGE) now.thread |= STRONG;
    if (what >= WRITE) cell->written = now; else cell->read = now;
    cell->filled = 1;
}

static void check(struct thread *t, const char *at, int space, enum access what, u64 address, u64 size)
{
    int where = space & ~VOLATILE;
    struct region *region;
    if (address - toucher.stack < toucher.stack_size && address - toucher.stack + size <= toucher.stack_size) {
        if (where == GLOBAL || where == SHARED) fail(t, at, ILLEGAL_ADDRESS, "%s the thread's own memory as another space", DID[what]);
        return;
    }
    if (address - toucher.shared->start <= toucher.shared->size) {
        region = toucher.shared;
        if (where == GLOBAL || where == LOCAL) fail(t, at, ILLEGAL_ADDRESS, "%s shared memory as another space", DID[what]);
    } else {
        region = region_of(address);
        if (where == SHARED || where == LOCAL || !region)
            fail(t, at, ILLEGAL_ADDRESS, "%s %lu bytes at %#lx, in no memory of this space", DID[what], size, address);
    }
    u64 offset = address - region->start;
    if (offset + size > region->size)
        fail(t, at, ILLEGAL_ADDRESS, "%s %lu bytes from byte %lu on of %lu that are there", DID[what], size, offset, region->size);
    if (address % size) fail(t, at, MISALIGNED, "%s %lu bytes at %#lx, which is not a multiple of that", DID[what], size, address);
    if (t->issued) count_access(t, region == toucher.shared, what >= WRITE ? LEFT : TAKEN, address, size);
    for (u64 i = 0; i < size && !toucher.trusted; i++) touch(t, at, what, region->cells + offset + i, address + i);
}

static u64 value_at(u64 address, int size)
{
    u64 value = 0;
    memcpy(&value, (void *)address, size);
    return value;
}

u64 load(struct thread *t, const char *at, int space, u64 address, int size)
{
    check(t, at, space, space & VOLATILE ? FRESH_READ : READ, address, size);
    return value_at(address, size);
}

void store(struct thread *t, const char *at, int space, u64 address, int size, u64 value)
{
    check(t, at, space, WRITE, address, size);
    memcpy((void *)address, &value, size);
}

void load_vector(struct thread *t, const char *at, int space, u64 address, int size, int n, u64 *values)
{
    check(t, at, space, space & VOLATILE ? FRESH_READ : READ, address, size * n);
    for (int i = 0; i < n; i++) values[i] = value_at(address + i * size, size);
}

void store_vector(struct thread *t, const char *at, int space, u64 address, int size, int n, const u64 *values)
{
    check(t, at, space, WRITE, address, size * n);
    for (int i = 0; i < n; i++) memcpy((void *)(address + i * size), values + i, size);
}

void *atomic(struct thread *t, const char *at, int space, u64 address, int size)
{
    check(t, at, space, CHANGE, address, size);
    return (void *)address;
}
