/* Memory that runs out, for LD_PRELOAD, beside faults.c. One allocation fails: the n-th of at least
   `least` bytes that the process asks for after memory_arm. The others, and freeing, are the C
   library's own. */

#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *place, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static long which = -1, allocations;
static size_t least;

/* Fail at allocation number `at` (from 1; 0: never, but count) of at least `size` bytes. */
void memory_arm(long at, long size) { allocations = 0, least = size, which = at; }

/* Let all allocations be, and count none. */
void memory_off(void) { which = -1; }

/* Return the number of allocations of that size since memory_arm. */
long memory_count(void) { return allocations; }

/* Count an allocation. Return true, with errno set, if it fails. */
bool memory_fails(size_t size) {
    if (which < 0 || size < least) return false;
    if (__atomic_add_fetch(&allocations, 1, __ATOMIC_SEQ_CST) != which) return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size) { return memory_fails(size) ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) {
    return memory_fails(count * size) ? NULL : __libc_calloc(count, size);
}
void *realloc(void *place, size_t size) { return memory_fails(size) ? NULL : __libc_realloc(place, size); }
void *memalign(size_t alignment, size_t size) {
    return memory_fails(size) ? NULL : __libc_memalign(alignment, size);
}
void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void **place, size_t alignment, size_t size) {
    void *found = memalign(alignment, size);
    if (!found) return ENOMEM;
    *place = found;
    return 0;
}
