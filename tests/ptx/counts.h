/* What launches cost, counted where DRIVER_COSTS names a file: each launch appends a line of JSON to it.

   A warp issues an instruction as often as that of its lanes that executes it most often, and lanes that execute it for the nth time do so
   together.  With DRIVER_BLOCKS=n only n blocks of a launch run, evenly chosen; what they compute is not to be relied on then, nor are their
   accesses checked, beyond that they are within an allocation; large allocations consist of one piece of memory over and over.

   A block has clocks, too: how long it would take if it was alone and units had no limits, but for one instruction per warp and clock. */
#pragma once
#include "memory.h"

enum { REPEATED = 1 << 20 }; /* bytes of that piece */
enum touched { TAKEN, LEFT };

/* Clocks until a result is there (Luo and others 2024, arXiv:2402.13499, table of latencies of an A100 and an H100, rounded). */
enum latency { OF_SHARED = 29, OF_L1 = 40, OF_L2 = 262, OF_MEMORY = 475, BARRIER = 20 };

bool counting(void);
u32 sampled_blocks(void); /* 0 for all */
u64 repeated_memory(u64 size);

void counts_begin(const struct kernel *kernel, u32 n_threads, int n_live);
void counts_start_block(int slot, u32 number);
void counts_watch(int slot, u32 thread, struct thread *t);
void count_access(struct thread *t, bool shared, enum touched what, u64 address, u64 size);
void count_barrier(void);
void counts_finish_block(int slot, u32 taken);
void counts_end(u32 n_blocks, u32 n_run, u32 dynamic_shared);
