/* A CUDA driver without a GPU, for test_driver.py: memory is the host's, copies happen at once, and kernels do nothing but show up in
   the log, a line on stderr for each call that the tests look at.  What needs a current context fails without one, as in a real driver. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_CONTEXT 0x1000
#define MANY ((size_t)1 << 36)

static __thread long contexts[64];
static __thread int n_contexts;

static int n_devices(void) { const char *n = getenv("DRIVER_DEVICES"); return n ? atoi(n) : 1; }
static long device(void) { return contexts[n_contexts - 1] - FIRST_CONTEXT; }

#define IN_CONTEXT do { if (!n_contexts) { fprintf(stderr, "%s without a context\n", __func__); return 201; } } while (0)
#define LOG(...) fprintf(stderr, __VA_ARGS__)

int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *n) { *n = n_devices(); return 0; }
int cuDeviceGet(int *found, int i) { *found = i; return i < n_devices() ? 0 : 101; }
int cuDeviceGetName(char *name, int n, int i) { snprintf(name, n, "none"); return 0; }
int cuDeviceGetUuid(char *uuid, int i) { memset(uuid, i, 16); return 0; }
int cuDeviceGetUuid_v2(char *uuid, int i) { memset(uuid, i, 16); return 0; }
int cuDeviceGetAttribute(int *value, int which, int i) { *value = which == 75 ? 9 : which == 76 ? 0 : 1; return 0; }
int cuDevicePrimaryCtxRetain(long *context, int i) { *context = FIRST_CONTEXT + i; return 0; }
int cuCtxGetCurrent(long *context) { *context = n_contexts ? contexts[n_contexts - 1] : 0; return 0; }
int cuCtxSetCurrent(long context) { if (!n_contexts) n_contexts = 1; contexts[n_contexts - 1] = context; return 0; }
int cuCtxPushCurrent(long context) { contexts[n_contexts++] = context; return 0; }
int cuCtxPopCurrent(long *context) { IN_CONTEXT; *context = contexts[--n_contexts]; return 0; }
int cuCtxGetDevice(int *i) { IN_CONTEXT; *i = device(); return 0; }
int cuMemAlloc(uintptr_t *p, size_t n)
{
    IN_CONTEXT;
    *p = (uintptr_t)aligned_alloc(512, (n + 511) / 512 * 512);
    LOG("allocate %zu on %ld\n", n, device());
    return 0;
}
int cuMemFree(uintptr_t p) { free((void *)p); return 0; }
int cuMemHostAlloc(void **p, size_t n, unsigned flags) { IN_CONTEXT; *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096); return 0; }
int cuMemFreeHost(void *p) { free(p); return 0; }
int cuMemGetInfo(size_t *left, size_t *all) { *left = *all = MANY; return 0; }
int cuMemcpyHtoD(uintptr_t to, const void *from, size_t n) { IN_CONTEXT; memcpy((void *)to, from, n); return 0; }
int cuMemcpyDtoH(void *to, uintptr_t from, size_t n) { IN_CONTEXT; memcpy(to, (void *)from, n); LOG("fetch %zu at once\n", n); return 0; }
int cuMemcpyHtoDAsync(uintptr_t to, const void *from, size_t n, long stream)
{
    IN_CONTEXT;
    memcpy((void *)to, from, n);
    LOG("send %zu on %ld stream %#lx\n", n, device(), stream);
    return 0;
}
int cuMemcpyDtoHAsync(void *to, uintptr_t from, size_t n, long stream)
{
    IN_CONTEXT;
    memcpy(to, (void *)from, n);
    if (n == 32) ((double *)to)[3] = INFINITY; /* of the sums that no kernel has made: no bad label */
    LOG("fetch %zu on %ld stream %#lx\n", n, device(), stream);
    return 0;
}
int cuStreamSynchronize(long stream) { LOG("wait for stream %#lx\n", stream); return 0; }
int cuStreamWaitEvent(long stream, long event, unsigned flags) { LOG("stream %#lx waits for stream %#lx\n", stream, *(long *)event); return 0; }
int cuEventCreate(long **event, unsigned flags) { IN_CONTEXT; *event = calloc(1, sizeof(long)); return 0; }
int cuEventRecord(long *event, long stream) { IN_CONTEXT; *event = stream; return 0; }
int cuEventSynchronize(long event) { return 0; }
int cuEventDestroy(void *event) { return 0; }
int cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned c, void *d, void *e, unsigned f)
{
    *library = malloc(8);
    return 0;
}
int cuLibraryUnload(void *library) { return 0; }
int cuLibraryGetKernel(char **kernel, void *library, const char *name) { *kernel = strdup(name); return 0; }
int cuKernelGetAttribute(int *value, int which, void *kernel, int i) { *value = 64; return 0; }
int cuLaunchKernel(const char *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   long stream, void **arguments, void **extra)
{
    IN_CONTEXT;
    const char *n = getenv("DRIVER_ARGUMENTS");
    LOG("launch %u %u on %ld stream %#lx:", gx, bx, device(), stream);
    for (int i = 0; n && i < atoi(n); i++) LOG(" %ld", *(long *)arguments[i]);
    LOG("\n");
    return 0;
}
int cuGetErrorString(int error, const char **text) { *text = "of a driver that does nothing"; return 0; }
int cuGetErrorName(int error, const char **text) { *text = "CUDA_ERROR"; return 0; }

static int unknown(void) { return 801; }

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status)
{
    Dl_info own;
    dladdr((void *)cuInit, &own);
    void *found = dlsym(dlopen(own.dli_fname, RTLD_NOW), strcmp(name, "cuGetProcAddress") ? name : "cuGetProcAddress_v2");
    *function = found ? found : (void *)unknown;
    if (status) *status = 0;
    return 0;
}
