#pragma once
#include "memory.h"

/* Runs a kernel to its end: 0, or the driver's number of the error that `report` describes. */
int launch(const struct kernel *kernel, const unsigned *grid, const unsigned *block, u32 shared, void **arguments);
const char *report(void);
