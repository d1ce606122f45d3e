/* A CUDA driver without a GPU: memory is the host's, copies happen at once, and kernels are PTX, which is translated, compiled and run
   by `launch.c`, each access checked.  What needs a current context fails without one, as in a real driver.

   With DRIVER_IDLE kernels do nothing.  With DRIVER_LOG calls show up on stderr, a line each of those that `test_driver.py` looks at; launches
   are appended to the file DRIVER_LAUNCHES. */
#define _GNU_SOURCE
#include "counts.h"
#include "launch.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_CONTEXT 0x1000
#define MANY ((size_t)1 << 36)

enum { INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_PTX = 218, NOT_FOUND = 500 };

static __thread long contexts[64];
static __thread int n_contexts;
static pthread_mutex_t memory = PTHREAD_MUTEX_INITIALIZER; /* taken by whoever touches memory or runs a kernel */
static char message[2400] = "of a driver without a GPU";

static int n_devices(void) { const char *n = getenv("DRIVER_DEVICES"); return n ? atoi(n) : 1; }
static long device(void) { return contexts[n_contexts - 1] - FIRST_CONTEXT; }
static bool idle(void) { return getenv("DRIVER_IDLE") != NULL; }

#define IN_CONTEXT do { if (!n_contexts) { fprintf(stderr, "%s without a context\n", __func__); return 201; } } while (0)
#define LOG(...) do { if (getenv("DRIVER_LOG")) fprintf(stderr, __VA_ARGS__); } while (0)

/* The result of a call: 0 where nothing is wrong. */
static int refused(int error, const char *what)
{
    if (!what) return 0;
    snprintf(message, sizeof message, "%s", what);
    fprintf(stderr, "%s\n", message);
    return error;
}

int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *n) { *n = n_devices(); return 0; }
int cuDeviceGet(int *found, int i) { *found = i; return i < n_devices() ? 0 : 101; }
int cuDeviceGetName(char *name, int n, int i) { snprintf(name, n, "none"); return 0; }
int cuDeviceGetUuid(char *uuid, int i) { memset(uuid, i, 16); return 0; }
int cuDeviceGetUuid_v2(char *uuid, int i) { memset(uuid, i, 16); return 0; }
/* Compute capabilities are 9.0, or x.0 for the digits of DRIVER_CAPABILITIES. */
static int major(int i) { const char *given = getenv("DRIVER_CAPABILITIES"); return given && i < (int)strlen(given) ? given[i] - '0' : 9; }
int cuDeviceGetAttribute(int *value, int which, int i) { *value = which == 75 ? major(i) : which == 76 ? 0 : 1; return 0; }
int cuDevicePrimaryCtxRetain(long *context, int i) { *context = FIRST_CONTEXT + i; return 0; }
int cuCtxGetCurrent(long *context) { *context = n_contexts ? contexts[n_contexts - 1] : 0; return 0; }
int cuCtxSetCurrent(long context) { if (!n_contexts) n_contexts = 1; contexts[n_contexts - 1] = context; return 0; }
int cuCtxPushCurrent(long context) { contexts[n_contexts++] = context; return 0; }
int cuCtxPopCurrent(long *context) { IN_CONTEXT; *context = contexts[--n_contexts]; return 0; }
int cuCtxGetDevice(int *i) { IN_CONTEXT; *i = device(); return 0; }
int cuCtxSynchronize(void) { return 0; }

/* --- memory --- */

int cuMemAlloc(uintptr_t *p, size_t n)
{
    IN_CONTEXT;
    pthread_mutex_lock(&memory);
    *p = region_new(n);
    pthread_mutex_unlock(&memory);
    LOG("allocate %zu on %ld\n", n, device());
    return *p ? 0 : OUT_OF_MEMORY;
}

int cuMemFree(uintptr_t p)
{
    pthread_mutex_lock(&memory);
    bool freed = region_free(p);
    pthread_mutex_unlock(&memory);
    return refused(INVALID_VALUE, freed ? NULL : "memory is freed that was not allocated");
}

int cuMemHostAlloc(void **p, size_t n, unsigned flags) { IN_CONTEXT; *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096); return 0; }
int cuMemFreeHost(void *p) { free(p); return 0; }
int cuMemGetInfo(size_t *left, size_t *all) { *left = *all = MANY; return 0; }

static int sent(uintptr_t to, const void *from, size_t n)
{
    pthread_mutex_lock(&memory);
    int error = refused(INVALID_VALUE, host_writes(to, n));
    if (!error) memcpy((void *)to, from, n);
    pthread_mutex_unlock(&memory);
    return error;
}

static int fetched(void *to, uintptr_t from, size_t n)
{
    pthread_mutex_lock(&memory);
    int error = idle() ? 0 : refused(INVALID_VALUE, host_reads(from, n));
    if (!error) memcpy(to, (void *)from, n);
    if ((idle() || sampled_blocks()) && n == 32) ((double *)to)[3] = INFINITY; /* of the sums that no kernel has made: no bad label */
    pthread_mutex_unlock(&memory);
    return error;
}

int cuMemcpyHtoD(uintptr_t to, const void *from, size_t n) { IN_CONTEXT; return sent(to, from, n); }
int cuMemcpyDtoH(void *to, uintptr_t from, size_t n) { IN_CONTEXT; LOG("fetch %zu at once\n", n); return fetched(to, from, n); }
int cuMemcpyHtoDAsync(uintptr_t to, const void *from, size_t n, long stream)
{
    IN_CONTEXT;
    LOG("send %zu on %ld stream %#lx\n", n, device(), stream);
    return sent(to, from, n);
}
int cuMemcpyDtoHAsync(void *to, uintptr_t from, size_t n, long stream)
{
    IN_CONTEXT;
    LOG("fetch %zu on %ld stream %#lx\n", n, device(), stream);
    return fetched(to, from, n);
}
int cuMemcpyDtoD(uintptr_t to, uintptr_t from, size_t n)
{
    IN_CONTEXT;
    pthread_mutex_lock(&memory);
    int error = refused(INVALID_VALUE, device_copies(to, from, n));
    if (!error) memmove((void *)to, (void *)from, n);
    pthread_mutex_unlock(&memory);
    return error;
}
int cuMemcpyDtoDAsync(uintptr_t to, uintptr_t from, size_t n, long stream) { return cuMemcpyDtoD(to, from, n); }

/* --- streams and events: everything has happened already --- */

int cuStreamSynchronize(long stream) { LOG("wait for stream %#lx\n", stream); return 0; }
int cuStreamWaitEvent(long stream, long event, unsigned flags) { LOG("stream %#lx waits for stream %#lx\n", stream, *(long *)event); return 0; }
int cuEventCreate(long **event, unsigned flags) { IN_CONTEXT; *event = calloc(1, sizeof(long)); return 0; }
int cuEventRecord(long *event, long stream) { IN_CONTEXT; *event = stream; return 0; }
int cuEventSynchronize(long event) { return 0; }
int cuEventDestroy(void *event) { return 0; }

/* --- kernels --- */

static u64 hash(const char *text, u64 seed)
{
    for (; *text; text++) seed = (seed ^ (u8)*text) * 0x100000001B3u; /* Fowler-Noll-Vo */
    return seed;
}

/* Translates and compiles PTX, unless that was done before; the path of the library, and where its PTX lies beside it. */
static int made(const char *ptx, char *library, size_t room)
{
    const char *cache = getenv("DRIVER_CACHE");
    char source[1000], command[4000], unique[1000], output[1200] = "";
    u64 key = hash(ptx, hash(counting() ? VERSION "counting" : VERSION, 0xCBF29CE484222325u));
    snprintf(library, room, "%s/%016lx.so", cache ? cache : ".", key);
    snprintf(source, sizeof source, "%s/%016lx.ptx", cache ? cache : ".", key);
    if (!access(library, R_OK)) return utimensat(AT_FDCWD, library, NULL, 0), 0; /* the least recently used ones are deleted some day */
    snprintf(unique, sizeof unique, "%s.%d", source, getpid());
    FILE *file = fopen(unique, "w");
    if (!file || fputs(ptx, file) < 0 || fclose(file) || rename(unique, source)) return refused(INVALID_PTX, "no PTX can be written to DRIVER_CACHE");
    snprintf(command, sizeof command, "LD_PRELOAD= %s %s %s %s %s 2>&1", TRANSLATE, source, library, OWN, counting() ? "counting" : "");
    FILE *pipe = popen(command, "r");
    size_t n = pipe ? fread(output, 1, sizeof output - 1, pipe) : 0;
    output[n] = 0;
    return pipe && pclose(pipe) ? refused(INVALID_PTX, output) : 0;
}

int cuLibraryLoadData(void **library, const void *code, void *a, void *b, unsigned c, void *d, void *e, unsigned f)
{
    char path[1000];
    if (idle()) return *library = malloc(8), 0;
    if (memcmp(code, "//", 2) && memcmp(code, ".version", 8)) return refused(INVALID_PTX, "not PTX");
    int error = made(code, path, sizeof path);
    if (error) return error;
    void *loaded = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!loaded) return refused(INVALID_PTX, dlerror());
    *(void **)(*library = malloc(sizeof(void *))) = loaded; /* a handle of its own each time: its finalisers are kept by it */
    return 0;
}

int cuLibraryUnload(void *library) { return 0; }

int cuLibraryGetKernel(const struct kernel **found, void **library, const char *name)
{
    if (idle()) return *found = calloc(1, sizeof **found), 0;
    for (*found = dlsym(*library, "kernels"); *found && (*found)->name; ++*found)
        if (!strcmp((*found)->name, name)) return 0;
    return NOT_FOUND;
}

/* numba-cuda-mlir loads modules, each for a context; here they are the same. */
int cuModuleLoadData(void **module, const void *code) { IN_CONTEXT; return cuLibraryLoadData(module, code, NULL, NULL, 0, NULL, NULL, 0); }
int cuModuleGetFunction(const struct kernel **found, void **module, const char *name) { return cuLibraryGetKernel(found, module, name); }

int cuKernelGetAttribute(int *value, int which, void *kernel, int i) { *value = 64; return 0; }

static void note(const struct kernel *kernel, unsigned blocks, unsigned threads)
{
    const char *path = getenv("DRIVER_LAUNCHES");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) fprintf(file, "%u %u %s\n", blocks, threads, kernel->name), fclose(file);
}

u8 *kept_ways(u8 *own, u32 n)
{
    char path[4096];
    Dl_info library;
    const char *folder = getenv("DRIVER_BRANCHES");
    if (!folder || !n) return own;
    if (!dladdr(own, &library)) abort();
    snprintf(path, sizeof path, "%s/%s", folder, strrchr(library.dli_fname, '/') + 1);
    int file = open(path, O_RDWR | O_CREAT, 0666);
    if (file < 0 || ftruncate(file, n)) abort();
    u8 *shared = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (shared == MAP_FAILED) abort();
    close(file);
    return shared;
}

int cuLaunchKernel(const struct kernel *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   long stream, void **arguments, void **extra)
{
    IN_CONTEXT;
    const char *n = getenv("DRIVER_ARGUMENTS");
    LOG("launch %u %u on %ld stream %#lx:", gx, bx, device(), stream);
    for (int i = 0; n && i < atoi(n); i++) LOG(" %ld", *(long *)arguments[i]);
    LOG("\n");
    if (idle()) return 0;
    pthread_mutex_lock(&memory);
    note(kernel, gx * gy * gz, bx * by * bz);
    int error = launch(kernel, (unsigned[]){gx, gy, gz}, (unsigned[]){bx, by, bz}, shared, arguments);
    if (error) refused(error, report());
    pthread_mutex_unlock(&memory);
    return error;
}

struct configuration { unsigned grid[3], block[3], shared; long stream; void *attributes; unsigned n_attributes; };

int cuLaunchKernelEx(const struct configuration *c, const struct kernel *kernel, void **arguments, void **extra)
{
    return cuLaunchKernel(kernel, c->grid[0], c->grid[1], c->grid[2], c->block[0], c->block[1], c->block[2], c->shared, c->stream, arguments, extra);
}

int cuGetErrorString(int error, const char **text) { *text = message; return 0; }
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
