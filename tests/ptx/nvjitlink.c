/* A linker for the driver without a GPU: what it makes of PTX is that PTX, so that this is what reaches the driver.  It stands in for
   libnvJitLink.so.13, which would assemble it for a GPU. */
#include <stdlib.h>
#include <string.h>

struct link { char *text; size_t size; };

int nvJitLinkCreate(struct link **handle, unsigned n_options, const char **options) { return !(*handle = calloc(1, sizeof **handle)); }
int nvJitLinkDestroy(struct link **handle) { free((*handle)->text); free(*handle); return *handle = NULL, 0; }

int nvJitLinkAddData(struct link *link, int kind, const char *data, size_t size, const char *name)
{
    enum { PTX = 2 };
    if (kind != PTX || link->text) return 1; /* one text, and nothing else */
    link->text = calloc(size + 1, 1);
    memcpy(link->text, data, size);
    link->size = size + 1;
    return 0;
}

int nvJitLinkAddFile(struct link *link, int kind, const char *name) { return 1; }
int nvJitLinkComplete(struct link *link) { return !link->text; }
int nvJitLinkGetLinkedCubinSize(struct link *link, size_t *size) { *size = link->size; return 0; }
int nvJitLinkGetLinkedCubin(struct link *link, char *cubin) { memcpy(cubin, link->text, link->size); return 0; }
int nvJitLinkGetErrorLogSize(struct link *link, size_t *size) { *size = 1; return 0; }
int nvJitLinkGetErrorLog(struct link *link, char *log) { *log = 0; return 0; }
int nvJitLinkGetInfoLogSize(struct link *link, size_t *size) { *size = 1; return 0; }
int nvJitLinkGetInfoLog(struct link *link, char *log) { *log = 0; return 0; }
int nvJitLinkVersion(unsigned *major, unsigned *minor) { *major = 12, *minor = 2; return 0; }
