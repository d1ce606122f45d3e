#define _GNU_SOURCE
#include "counts.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_WARPS = 32, MOST_LIVE = 3, SECTOR = 32, LINE = 128, BANKS = 32, DISTANCES = 48, TOUCHES = 1 << 20, L1 = 32 << 10 };

struct access { u64 address; u32 site, nth; u16 size; u8 lane, what, shared; };
struct trace { struct access *all; u64 n, room; };

static const struct kernel *kernel;
static u32 n_threads;
static u32 *issued[MOST_LIVE];                 /* per thread and site */
static struct trace traces[MOST_LIVE][MOST_WARPS]; /* of warps, in order */
static u64 *issues;                            /* of warps, per site */
static u32 starts[MOST_LIVE], n_starts;
static struct { u32 block, when; } last_touch[TOUCHES]; /* by a sector's address, and those that share its place */
static u32 n_touches;
static u64 clocks;
static u64 sectors[2], fresh[2], lines, wavefronts, barriers, again[DISTANCES];

bool counting(void) { return getenv("DRIVER_COSTS") != NULL; }

u32 sampled_blocks(void)
{
    const char *n = counting() ? getenv("DRIVER_BLOCKS") : NULL;
    return n ? strtoul(n, NULL, 10) : 0;
}

/* Addresses of so many bytes, behind which the same piece of memory lies again and again. */
u64 repeated_memory(u64 size)
{
    static int file = -1;
    if (file < 0 && ((file = memfd_create("repeated", 0)) < 0 || ftruncate(file, REPEATED))) return 0;
    u64 whole = (size / REPEATED + 1) * REPEATED;
    char *start = mmap(NULL, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (u64 at = 0; start != MAP_FAILED && at < whole; at += REPEATED)
        if (mmap(start + at, REPEATED, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) return 0;
    return start == MAP_FAILED ? 0 : (u64)start;
}

void counts_begin(const struct kernel *which, u32 threads, int n_live)
{
    kernel = which, n_threads = threads, lines = wavefronts = barriers = clocks = 0;
    memset(sectors, 0, sizeof sectors), memset(fresh, 0, sizeof fresh), memset(again, 0, sizeof again);
    free(issues);
    issues = calloc(kernel->n_sites, sizeof *issues);
    for (int i = 0; i < n_live; i++) {
        free(issued[i]);
        issued[i] = malloc((u64)n_threads * kernel->n_sites * sizeof(u32));
    }
}

void counts_start_block(int slot, u32 number)
{
    starts[slot] = ++n_starts;
    memset(issued[slot], 0, (u64)n_threads * kernel->n_sites * sizeof(u32));
    for (int w = 0; w < MOST_WARPS; w++) traces[slot][w].n = 0;
}

void counts_watch(int slot, u32 thread, struct thread *t)
{
    t->issued = issued[slot] + (u64)thread * kernel->n_sites;
    t->slot = slot;
}

/* How long it takes until a sector's bytes are there, by when the block has last touched it. */
static u32 clocks_of(struct thread *t, u64 address)
{
    u64 sector = address / SECTOR, place = sector * 0x9E3779B97F4A7C15u >> 44;
    u32 before = last_touch[place].when, same = last_touch[place].block == starts[t->slot];
    last_touch[place].block = starts[t->slot], last_touch[place].when = ++n_touches;
    return !same ? OF_MEMORY : (n_touches - before) * SECTOR < L1 ? OF_L1 : OF_L2;
}

void count_access(struct thread *t, bool shared, enum touched what, u64 address, u64 size)
{
    struct trace *trace = &traces[t->slot][t->warp];
    t->took = shared ? OF_SHARED : clocks_of(t, address);
    if (trace->n == trace->room) trace->all = realloc(trace->all, (trace->room = 2 * trace->room + 4096) * sizeof *trace->all);
    trace->all[trace->n++] = (struct access){address, t->site, t->issued[t->site], size, t->lane, what, shared};
}

void count_barrier(void) { barriers += (n_threads + WARP - 1) / WARP; }

/* --- a warp's instruction that touches memory --- */

static int by_number(const void *a, const void *b) { return (*(u64 *)a > *(u64 *)b) - (*(u64 *)a < *(u64 *)b); }

static u64 distinct(u64 *values, u64 n)
{
    u64 found = 0;
    qsort(values, n, sizeof *values, by_number);
    for (u64 i = 0; i < n; i++)
        if (!i || values[i] != values[i - 1]) values[found++] = values[i];
    return found;
}

/* How often the banks have to be asked: each gives one word of 4 bytes at a time, to all lanes that want it.  Wide accesses are made for a
   half or a quarter of the lanes at a time. */
static u64 turns(const struct access *lanes, u32 n)
{
    u64 total = 0, words[WARP * 4];
    u32 together = lanes->size <= 4 ? WARP : WARP * 4 / lanes->size;
    for (u32 first = 0; first < WARP; first += together) {
        u32 n_words = 0, most = 0, of_bank[BANKS] = {0};
        for (u32 i = 0; i < n; i++)
            for (u64 at = lanes[i].address / 4; lanes[i].lane - first < together && at * 4 < lanes[i].address + lanes[i].size; at++)
                words[n_words++] = at;
        u64 n_distinct = distinct(words, n_words);
        for (u32 i = 0; i < n_distinct; i++)
            if (++of_bank[words[i] % BANKS] > most) most = of_bank[words[i] % BANKS];
        total += most;
    }
    return total;
}

struct sector { u64 number, when; };
static struct sector *block_sectors;
static u64 n_sectors, sectors_room;

static void touch_sectors(const struct access *lanes, u32 n)
{
    u64 touched[WARP * 8], n_touched = 0;
    for (u32 i = 0; i < n; i++)
        for (u64 at = lanes[i].address / SECTOR; at * SECTOR < lanes[i].address + lanes[i].size; at++) touched[n_touched++] = at;
    n_touched = distinct(touched, n_touched);
    sectors[lanes->what] += n_touched;
    for (u64 i = 0; i < n_touched; i++) {
        if (!i || touched[i] / (LINE / SECTOR) != touched[i - 1] / (LINE / SECTOR)) lines++;
        if (n_sectors == sectors_room) block_sectors = realloc(block_sectors, (sectors_room = 2 * sectors_room + 4096) * sizeof *block_sectors);
        block_sectors[n_sectors] = (struct sector){touched[i] << 1 | lanes->what, n_sectors};
        n_sectors++;
    }
}

static int together_first(const void *a, const void *b)
{
    const struct access *x = a, *y = b;
    return x->nth != y->nth ? (x->nth > y->nth) - (x->nth < y->nth) : x->site != y->site ? (x->site > y->site) - (x->site < y->site) : x->lane - y->lane;
}

static int by_sector(const void *a, const void *b)
{
    const struct sector *x = a, *y = b;
    return x->number != y->number ? (x->number > y->number) - (x->number < y->number) : (x->when > y->when) - (x->when < y->when);
}

void counts_finish_block(int slot, u32 taken)
{
    clocks += taken;
    u32 n_warps = (n_threads + WARP - 1) / WARP, n = kernel->n_sites;
    n_sectors = 0;
    for (u32 w = 0; w < n_warps; w++) {
        for (u32 site = 0; site < n; site++) {
            u32 most = 0;
            for (u32 i = w * WARP; i < n_threads && i < (w + 1) * WARP; i++) {
                u32 own = issued[slot][(u64)i * n + site];
                if (own > most) most = own;
            }
            issues[site] += most;
        }
        struct trace *trace = &traces[slot][w];
        qsort(trace->all, trace->n, sizeof *trace->all, together_first);
        for (u64 i = 0, next; i < trace->n; i = next) {
            struct access *first = trace->all + i;
            for (next = i + 1; next < trace->n && first->nth == trace->all[next].nth && first->site == trace->all[next].site; next++) {}
            if (first->shared) wavefronts += turns(first, next - i);
            else touch_sectors(first, next - i);
        }
    }
    qsort(block_sectors, n_sectors, sizeof *block_sectors, by_sector);
    for (u64 i = 0; i < n_sectors; i++) {
        if (!i || block_sectors[i].number != block_sectors[i - 1].number) {
            fresh[block_sectors[i].number & 1]++;
            continue;
        }
        u64 bytes = (block_sectors[i].when - block_sectors[i - 1].when) * SECTOR;
        again[63 - __builtin_clzll(bytes)]++;
    }
}

void counts_end(u32 n_blocks, u32 n_run, u32 dynamic_shared)
{
    Dl_info library;
    const char *path = getenv("DRIVER_COSTS");
    FILE *file = fopen(path, "a");
    if (!file || !dladdr(kernel, &library)) abort();
    fprintf(file, "{\"kernel\": \"%s\", \"library\": \"%s\", \"blocks\": %u, \"run\": %u, \"threads\": %u, \"shared\": %u, ", kernel->name,
            library.dli_fname, n_blocks, n_run, n_threads, kernel->shared + dynamic_shared);
    fprintf(file, "\"read\": %lu, \"written\": %lu, \"first_read\": %lu, \"first_written\": %lu, \"lines\": %lu, \"wavefronts\": %lu, \"barriers\": %lu, \"clocks\": %lu, ",
            sectors[TAKEN], sectors[LEFT], fresh[TAKEN], fresh[LEFT], lines, wavefronts, barriers, clocks);
    fprintf(file, "\"again\": [");
    for (int i = 0; i < DISTANCES; i++) fprintf(file, "%s%lu", i ? ", " : "", again[i]);
    fprintf(file, "], \"issued\": [");
    for (u32 i = 0; i < kernel->n_sites; i++) fprintf(file, "%s[\"%s\", %lu]", i ? ", " : "", kernel->sites[i], issues[i]);
    fprintf(file, "]}\n");
    fclose(file);
}
