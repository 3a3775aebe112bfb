/* Faults and crashes of input and output, for LD_PRELOAD. Every wrapper asks `strike` first.

Only operations on paths under a watched root count; nothing happens in a process that does not
call faults_watch and faults_arm. The real work is done by system calls, so that no wrapper ever
calls another. Sizes stand for contents: what was overwritten in place is not brought back. What a child process writes (a compiler) counts
as synced. */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OFF = -1, COUNT, FAIL, FAIL_FROM_HERE, CRASH_KEEP, CRASH_TORN, CRASH_DROP_DATA, CRASH_DROP_SECTORS,
       CRASH_DROP_ALL, CRASH_DROP_NAMES };
enum { SECTOR = 512 };
bool memory_fails(size_t size); /* of memory.c */
/* What an operation does to the disk: nothing, takes room, or only frees it. */
enum { READS, GROWS, FREES };

typedef struct { dev_t dev; ino_t ino; int fd; off_t synced; } File;
/* A name that changed: kind is c(reate), r(ename), u(nlink), m(kdir), d (rmdir); dev and ino are of
   the folder to be synced. backup: what was at `path` before, "" if nothing. */
typedef struct { char kind; dev_t dev; ino_t ino; char *path, *old, *backup; bool durable; } Name;

static char root[PATH_MAX];
static int mode = OFF, code, trace_fd = -1;
static long at, operations;
static __thread bool tearing;
static File files[4096];
static Name names[65536];
static int file_count, name_count, backups;

/* Fill `status` of a path without following links; false if there is nothing. */
static bool look(const char *path, struct stat *status) {
    int before = errno;
    bool found = !syscall(SYS_newfstatat, AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
    errno = before;
    return found;
}

/* Put the path of an open file into `out`. */
static bool path_of(int fd, char *out) {
    char link[64];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long size = syscall(SYS_readlinkat, AT_FDCWD, link, out, PATH_MAX - 1);
    errno = before;
    out[size > 0 ? size : 0] = 0;
    return size > 0;
}

/* Return the absolute path in `out` if it is under the watched root, else NULL. */
static char *watched(int folder, const char *path, char *out) {
    char joined[2 * PATH_MAX + 2] = "";
    if (mode == OFF || !path) return NULL;
    if (path[0] != '/') {
        if (folder == AT_FDCWD ? syscall(SYS_getcwd, joined, PATH_MAX) <= 0
                               : !path_of(folder, joined)) return NULL;
        strcat(joined, "/");
    }
    strncat(joined, path, PATH_MAX);
    char *end = out, *rest = joined, *part;
    *out = 0;
    while ((part = strtok_r(rest, "/", &rest))) {
        if (!strcmp(part, "..")) { end = out + (strrchr(out, '/') ? strrchr(out, '/') - out : 0); *end = 0; }
        else if (strcmp(part, ".")) {
            if (end - out + strlen(part) + 2 > PATH_MAX) return NULL;
            end += sprintf(end, "/%s", part);
        }
    }
    size_t size = strlen(root);
    return !strncmp(out, root, size) && (!out[size] || out[size] == '/') ? out : NULL;
}

/* Return the path of an open file if it is under the watched root, else NULL. */
static char *watched_fd(int fd, char *out) {
    char path[PATH_MAX];
    return mode != OFF && fd >= 0 && path_of(fd, path) && path[0] == '/'
        ? watched(AT_FDCWD, path, out) : NULL;
}

/* Remove one file or empty folder, for nftw. */
static int removed(const char *path, const struct stat *s, int type, struct FTW *f) {
    return (void)s, (void)f, (int)syscall(SYS_unlinkat, AT_FDCWD, path, type == FTW_DP ? AT_REMOVEDIR : 0);
}

/* Take one change of a name back; what cannot be taken back any more is left. */
static void undo(Name *name) {
    if (name->kind == 'c') syscall(SYS_unlinkat, AT_FDCWD, name->path, 0);
    if (name->kind == 'm') nftw(name->path, removed, 16, FTW_DEPTH | FTW_PHYS);
    if (name->kind == 'd') syscall(SYS_mkdirat, AT_FDCWD, name->path, 0755);
    if (name->kind == 'r') syscall(SYS_renameat2, AT_FDCWD, name->path, AT_FDCWD, name->old, 0);
    if (name->backup[0]) syscall(SYS_linkat, AT_FDCWD, name->backup, AT_FDCWD, name->path, 0);
}

/* Put zeros in place of half of the sectors that were not synced, chosen at random from the seed `code`. */
static void lose_sectors(const File *file) {
    static const char zeros[SECTOR];
    struct stat status;
    unsigned long chance = code * 2654435761u + 1;
    if (syscall(SYS_newfstatat, file->fd, "", &status, AT_EMPTY_PATH)) return;
    for (off_t from = file->synced, next; from < status.st_size; from = next) {
        next = (from / SECTOR + 1) * SECTOR;
        if (next > status.st_size) next = status.st_size;
        chance = chance * 6364136223846793005u + 1442695040888963407u;
        if (chance >> 63 && syscall(SYS_pwrite64, file->fd, zeros, next - from, from)) {}
    }
}

/* End the process as a kill does, or as a loss of power that keeps only what was synced. */
static void crash(void) {
    int how = mode;
    mode = OFF;
    for (int i = 0; i < file_count; i++) {
        if (how == CRASH_DROP_SECTORS) lose_sectors(&files[i]);
        if (how != CRASH_DROP_DATA && how != CRASH_DROP_ALL) continue;
        if (syscall(SYS_ftruncate, files[i].fd, files[i].synced)) {}
    }
    if (how >= CRASH_DROP_ALL)
        for (int i = name_count; i--;)
            if (!names[i].durable) undo(&names[i]);
    _exit(137);
}

/* Count one operation. Return true, with errno set, if it fails. A crash does not return; a torn write
   returns once, to write its part. */
static bool strike(const char *what, const char *path, int does) {
    if (mode == OFF || !path) return false;
    long now = __atomic_add_fetch(&operations, 1, __ATOMIC_SEQ_CST);
    if (trace_fd >= 0) {
        char line[PATH_MAX + 64];
        int size = snprintf(line, sizeof line, "%c %s %s\n", "rwf"[does], what, path);
        syscall(SYS_write, trace_fd, line, size);
    }
    tearing = now == at && mode == CRASH_TORN && strstr(what, "write");
    if (now == at && mode >= CRASH_KEEP && !tearing) crash();
    if (mode == FAIL ? now != at : mode != FAIL_FROM_HERE || at < 1 || now < at || does != GROWS)
        return false;
    errno = code;
    return true;
}

/* Return what is known about an open file, from now on if `size` is given: what it has on disk. */
static File *known(int fd, off_t size) {
    struct stat status;
    char link[64];
    if (mode < CRASH_DROP_DATA || syscall(SYS_newfstatat, fd, "", &status, AT_EMPTY_PATH)) return NULL;
    for (int i = 0; i < file_count; i++)
        if (files[i].dev == status.st_dev && files[i].ino == status.st_ino) return &files[i];
    if (size < 0 || !S_ISREG(status.st_mode) || file_count == 4096) return NULL;
    /* An open file of our own: it leads to the content whatever name that has in the end. */
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int own = syscall(SYS_openat, AT_FDCWD, link, O_WRONLY | O_CLOEXEC);
    if (own < 0) return NULL;
    int high = fcntl(own, F_DUPFD_CLOEXEC, 300);
    syscall(SYS_close, own);
    files[file_count] = (File){status.st_dev, status.st_ino, high, size};
    return &files[file_count++];
}

/* Keep what is at `path` under another name, which is put into `out`; "" if no file is there. */
static void keep(const char *path, char *out) {
    struct stat status;
    out[0] = 0;
    if (mode < CRASH_DROP_ALL || !look(path, &status) || S_ISDIR(status.st_mode)) return;
    snprintf(out, PATH_MAX + 64, "%s.backups", root);
    syscall(SYS_mkdirat, AT_FDCWD, out, 0700);
    snprintf(out + strlen(out), 32, "/%d", backups++);
    if (syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, out, 0)) out[0] = 0;
}

/* Remember that a name changed. */
static void changed(char kind, const char *path, const char *old, const char *backup) {
    char folder[PATH_MAX];
    struct stat status;
    if (mode < CRASH_DROP_ALL || !path || name_count == 65536) return;
    strcpy(folder, path);
    *strrchr(folder, '/') = 0;
    if (!look(folder, &status)) return;
    names[name_count++] = (Name){kind, status.st_dev, status.st_ino, strdup(path), strdup(old),
                                 strdup(backup), false};
}

/* Make the i-th change durable; older changes inside a folder that it renamed are now elsewhere. */
static void settle(int i) {
    size_t size = strlen(names[i].old);
    names[i].durable = true;
    for (int j = 0; names[i].kind == 'r' && j < i; j++) {
        char moved[2 * PATH_MAX];
        if (names[j].durable || strncmp(names[j].path, names[i].old, size)) continue;
        if (!names[j].path[size]) names[j].durable = true; /* the same file or folder itself */
        else if (names[j].path[size] == '/') {
            snprintf(moved, sizeof moved, "%s%s", names[i].path, names[j].path + size);
            names[j].path = strdup(moved);
            if (!strncmp(names[j].old, names[i].old, size) && names[j].old[size] == '/') {
                snprintf(moved, sizeof moved, "%s%s", names[i].path, names[j].old + size);
                names[j].old = strdup(moved);
            }
        }
    }
}

/* Remember that an open file, or the names in a folder, are on the disk. */
static void synced(int fd) {
    struct stat status;
    if (mode < CRASH_DROP_DATA || syscall(SYS_newfstatat, fd, "", &status, AT_EMPTY_PATH)) return;
    File *file = known(fd, -1);
    if (file) file->synced = status.st_size;
    for (int i = 0; S_ISDIR(status.st_mode) && i < name_count; i++)
        if (!names[i].durable && names[i].dev == status.st_dev && names[i].ino == status.st_ino)
            settle(i);
}

/* ---- called by the tests ------------------------------------------------------------------- */

/* Choose the folder, an absolute path without links, and stop whatever is armed. */
void faults_watch(const char *path) { mode = OFF; snprintf(root, sizeof root, "%s", path); }

/* Count from here; do `how` at operation number `which` (from 1; 0: never), with `error`. */
void faults_arm(long which, int how, int error) {
    operations = 0, at = which, code = error, mode = how;
}

/* Write a line for every operation: what it does (r, w, f: frees room), its name, its path. */
void faults_trace(int fd) { trace_fd = fd; }

/* Return how many operations there were since faults_arm. */
long faults_count(void) { return operations; }

/* Let everything pass. */
void faults_off(void) { mode = OFF; }

/* ---- wrappers ------------------------------------------------------------------------------ */

#define REAL(...) syscall(__VA_ARGS__)
#define ALIAS(name) __attribute__((alias(#name)))

/* Open a file. */
static int opened(int folder, const char *path, int flags, mode_t bits) {
    char full[PATH_MAX];
    struct stat before;
    char *seen = watched(folder, path, full);
    bool there = seen && look(seen, &before);
    bool makes = flags & O_CREAT && !there;
    bool empties = there && flags & O_TRUNC;
    if (strike("open", seen, makes || empties ? GROWS : READS)) return -1;
    int fd = REAL(SYS_openat, folder, path, flags, bits);
    if (fd < 0 || !seen) return fd;
    if (makes) changed('c', seen, "", "");
    if ((flags & O_ACCMODE) != O_RDONLY) {
        File *file = known(fd, makes || empties ? 0 : before.st_size);
        if (file && empties) file->synced = 0;
    }
    return fd;
}

#define BITS(last) mode_t bits = 0; \
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) { \
        va_list more; va_start(more, last); bits = va_arg(more, mode_t); va_end(more); }
/* The four names of open, and creat. */
int open(const char *path, int flags, ...) { BITS(flags) return opened(AT_FDCWD, path, flags, bits); }
int open64(const char *path, int flags, ...) { BITS(flags) return opened(AT_FDCWD, path, flags, bits); }
int openat(int folder, const char *path, int flags, ...) { BITS(flags) return opened(folder, path, flags, bits); }
int openat64(int folder, const char *path, int flags, ...) { BITS(flags) return opened(folder, path, flags, bits); }
int creat(const char *path, mode_t bits) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, bits); }
int creat64(const char *path, mode_t bits) ALIAS(creat);

/* Open a folder for listing. */
DIR *opendir(const char *path) {
    char full[PATH_MAX];
    static DIR *(*real)(const char *);
    if (!real) real = (DIR * (*)(const char *)) dlsym(RTLD_NEXT, "opendir");
    return strike("opendir", watched(AT_FDCWD, path, full), READS) ? NULL : real(path);
}

/* Define a call on an open file. */
#define ON_FILE(type, name, does, number, parameters, ...) \
    type name parameters { \
        char full[PATH_MAX]; \
        return strike(#name, watched_fd(fd, full), does) ? -1 : REAL(number, fd, __VA_ARGS__); \
    }
ON_FILE(ssize_t, read, READS, SYS_read, (int fd, void *data, size_t size), data, size)
ON_FILE(ssize_t, pread, READS, SYS_pread64, (int fd, void *data, size_t size, off_t from), data, size, from)
/* Define a call that writes; torn, it writes the first `code` of every 256 bytes, and crashes. */
#define WRITES(name, number, size, parameters, ...) \
    ssize_t name parameters { \
        char full[PATH_MAX]; \
        if (strike(#name, watched_fd(fd, full), GROWS)) return -1; \
        if (tearing) size = size * code / 256; \
        ssize_t done = REAL(number, fd, __VA_ARGS__); \
        if (tearing) crash(); \
        return done; \
    }
WRITES(write, SYS_write, size, (int fd, const void *data, size_t size), data, size)
WRITES(pwrite, SYS_pwrite64, size, (int fd, const void *data, size_t size, off_t to), data, size, to)
/* A torn writev writes part of its first buffer. */
ssize_t writev(int fd, const struct iovec *data, int count) {
    char full[PATH_MAX];
    if (strike("writev", watched_fd(fd, full), GROWS)) return -1;
    if (!tearing) return REAL(SYS_writev, fd, data, count);
    if (count && REAL(SYS_write, fd, data->iov_base, data->iov_len * code / 256) < 0) {}
    crash();
    return -1;
}
ssize_t pread64(int fd, void *data, size_t size, off_t from) ALIAS(pread);
ssize_t pwrite64(int fd, const void *data, size_t size, off_t to) ALIAS(pwrite);

/* Change the size of an open file. */
int ftruncate(int fd, off_t size) {
    char full[PATH_MAX];
    if (strike("ftruncate", watched_fd(fd, full), GROWS)) return -1;
    File *file = known(fd, -1);
    if (file && size < file->synced) file->synced = size;
    return REAL(SYS_ftruncate, fd, size);
}
int ftruncate64(int fd, off_t size) ALIAS(ftruncate);

/* Change the size of a file. */
int truncate(const char *path, off_t size) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    int done = ftruncate(fd, size), why = errno;
    REAL(SYS_close, fd);
    errno = why;
    return done;
}
int truncate64(const char *path, off_t size) ALIAS(truncate);

/* Wait for the disk; not really for a watched file, because its loss of power is not real. */
static int sync_fd(const char *name, int number, int fd) {
    char full[PATH_MAX];
    char *seen = watched_fd(fd, full);
    if (strike(name, seen, GROWS)) return -1;
    if (!seen) return REAL(number, fd);
    synced(fd);
    return 0;
}
/* The two names of waiting. */
int fsync(int fd) { return sync_fd("fsync", SYS_fsync, fd); }
int fdatasync(int fd) { return sync_fd("fdatasync", SYS_fdatasync, fd); }

/* Map a file. */
void *mmap(void *place, size_t size, int prot, int flags, int fd, off_t from) {
    char full[PATH_MAX];
    if (fd < 0 && memory_fails(size)) return MAP_FAILED;
    if (strike("mmap", watched_fd(fd, full), READS)) return MAP_FAILED;
    return (void *)REAL(SYS_mmap, place, size, prot, flags, fd, from);
}
void *mmap64(void *place, size_t size, int prot, int flags, int fd, off_t from) ALIAS(mmap);

/* Rename; what was there before is kept until the folder is synced. */
int renameat2(int from, const char *old, int to, const char *path, unsigned flags) {
    char full_old[PATH_MAX], full[PATH_MAX], backup[PATH_MAX + 64] = "";
    struct stat status;
    char *was = watched(from, old, full_old), *seen = watched(to, path, full);
    if (strike("rename", seen ? seen : was, GROWS)) return -1;
    if (seen) keep(seen, backup);
    bool folder = seen && look(seen, &status) && S_ISDIR(status.st_mode);
    int done = REAL(SYS_renameat2, from, old, to, path, flags);
    if (done || !seen) return done;
    if (folder) changed('d', seen, "", ""); /* an empty one was replaced */
    if (was) changed('r', seen, was, backup);
    else changed('c', seen, "", backup);
    return 0;
}
/* The two older names of rename. */
int renameat(int from, const char *old, int to, const char *path) { return renameat2(from, old, to, path, 0); }
int rename(const char *old, const char *path) { return renameat2(AT_FDCWD, old, AT_FDCWD, path, 0); }

/* Remove a file or a folder. */
int unlinkat(int folder, const char *path, int flags) {
    char full[PATH_MAX], backup[PATH_MAX + 64] = "";
    struct stat status;
    bool dir = flags & AT_REMOVEDIR;
    char *seen = watched(folder, path, full);
    if (strike(dir ? "rmdir" : "unlink", seen, FREES)) return -1;
    bool there = seen && look(seen, &status);
    if (there && !dir) keep(seen, backup);
    int done = REAL(SYS_unlinkat, folder, path, flags);
    if (done || !there) return done;
    changed(dir ? 'd' : 'u', seen, "", backup);
    for (int i = 0; dir && i < name_count; i++) /* nobody can sync that folder any more */
        if (names[i].dev == status.st_dev && names[i].ino == status.st_ino) names[i].ino = 0;
    return 0;
}
/* The two older names of removing. */
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

/* Define a call that makes the name `path` in `folder`. */
#define MAKES(name, kind, parameters, ...) \
    int name parameters { \
        char full[PATH_MAX]; \
        char *seen = watched(folder, path, full); \
        if (strike(#name, seen, GROWS)) return -1; \
        int done = REAL(__VA_ARGS__); \
        if (!done) changed(kind, seen, "", ""); \
        return done; \
    }
MAKES(mkdirat, 'm', (int folder, const char *path, mode_t bits), SYS_mkdirat, folder, path, bits)
MAKES(symlinkat, 'c', (const char *to, int folder, const char *path), SYS_symlinkat, to, folder, path)
MAKES(linkat, 'c', (int from, const char *old, int folder, const char *path, int flags), SYS_linkat, from, old, folder, path, flags)
/* The older names of making. */
int mkdir(const char *path, mode_t bits) { return mkdirat(AT_FDCWD, path, bits); }
int symlink(const char *to, const char *path) { return symlinkat(to, AT_FDCWD, path); }
int link(const char *old, const char *path) { return linkat(AT_FDCWD, old, AT_FDCWD, path, 0); }

/* Ask about a path. */
int fstatat(int folder, const char *restrict path, struct stat *restrict status, int flags) {
    char full[PATH_MAX];
    return strike("stat", watched(folder, path, full), READS)
        ? -1 : (int)REAL(SYS_newfstatat, folder, path, status, flags);
}
int fstatat64(int folder, const char *restrict path, struct stat64 *restrict status, int flags) { return fstatat(folder, path, (struct stat *)status, flags); }
/* The four older names of asking. */
int stat(const char *restrict path, struct stat *restrict status) { return fstatat(AT_FDCWD, path, status, 0); }
int lstat(const char *restrict path, struct stat *restrict status) { return fstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW); }
int stat64(const char *restrict path, struct stat64 *restrict status) { return fstatat(AT_FDCWD, path, (struct stat *)status, 0); }
int lstat64(const char *restrict path, struct stat64 *restrict status) { return fstatat(AT_FDCWD, path, (struct stat *)status, AT_SYMLINK_NOFOLLOW); }

/* Change the permissions of a path. */
int fchmodat(int folder, const char *path, mode_t bits, int flags) {
    char full[PATH_MAX];
    (void)flags;
    return strike("chmod", watched(folder, path, full), FREES) ? -1 : (int)REAL(SYS_fchmodat, folder, path, bits);
}
/* The older name of it. */
int chmod(const char *path, mode_t bits) { return fchmodat(AT_FDCWD, path, bits, 0); }
