/* Memory of a device, each byte of which knows whether it has been written, and by whom it was last read and written. */
#pragma once
#include "machine.h"

enum { WARP = 32, MOST_THREADS = 1024 /* of a block */ };

struct touch { u32 launch, phase, block, n_fences; u16 thread, warp_phase; };
struct cell { struct touch written, read; bool filled; };
struct region { u64 start, size; struct cell *cells; bool repeated; };

u64 region_new(u64 size);
bool region_free(u64 address);
u64 region_total(void);
struct region *region_of(u64 address);
struct cell *cells_new(u64 size);

/* What copies and fills of the host do to memory: NULL, or what is wrong. */
const char *host_writes(u64 to, u64 size);
const char *host_reads(u64 from, u64 size);
const char *device_copies(u64 to, u64 from, u64 size);

/* Before a launch of so many blocks: room for the fences of their threads. */
bool fences_new(u64 n_blocks);

/* Who touches memory: set by `launch.c` for the thread that runs. */
struct toucher {
    struct touch now;
    struct region *shared;
    u64 stack, stack_size;
    bool trusted; /* that it races with none and reads what has been written */
};
extern struct toucher toucher;
_Noreturn void fail(struct thread *t, const char *at, int error, const char *format, ...) __attribute__((format(printf, 4, 5)));

enum { ILLEGAL_ADDRESS = 700, MISALIGNED = 716, LAUNCH_FAILED = 719 };
