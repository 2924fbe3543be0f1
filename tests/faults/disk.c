/* A file layer for whatever a process writes with, Python or not: loaded before the C library (LD_PRELOAD).

   `disk_arm(root, at, way)`: from now on operations on files below `root` are counted, from 0; the one numbered `at`
   fails with the error `way`, takes half of what it is given (0) or ends the process (-1). An `at` of -1 fails none.
   `disk_done()`: how many there were. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char root[4096];
static long count, fails_at = -1;
static int way_of_failure;

void disk_arm(const char *path, long at, int way) {
    strncpy(root, path, sizeof root - 1);
    count = 0, fails_at = at, way_of_failure = way;
}
long disk_done(void) { return count; }

static int below(int directory, const char *path) {
    char whole[8192];
    if (!root[0]) return 0;
    if (path && path[0] == '/') return !strncmp(path, root, strlen(root));
    if (directory == AT_FDCWD) return 0; /* every name that is tried is absolute */
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t size = readlink(link, whole, sizeof whole - 1);
    if (size < 0) return 0;
    whole[size] = 0;
    return !strncmp(whole, root, strlen(root));
}

/* 0: go on; 1: fail, errno is set; 2: take half */
static int due(int is_write) {
    if (count++ != fails_at) return 0;
    if (way_of_failure < 0) kill(getpid(), SIGKILL);
    if (way_of_failure == 0 && is_write) return 2;
    errno = way_of_failure ? way_of_failure : EIO;
    return 1;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define ASKED(directory, path, failed) if (below(directory, path) && due(0)) return failed

#define OPENS(name)                                                            \
    int name(const char *path, int flags, ...) {                               \
        REAL(name);                                                            \
        va_list more; va_start(more, flags);                                   \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                          \
        ASKED(AT_FDCWD, path, -1);                                             \
        return real(path, flags, mode);                                        \
    }
OPENS(open)
OPENS(open64)
#define OPENS_AT(name)                                                         \
    int name(int directory, const char *path, int flags, ...) {                \
        REAL(name);                                                            \
        va_list more; va_start(more, flags);                                   \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                          \
        ASKED(directory, path, -1);                                            \
        return real(directory, path, flags, mode);                             \
    }
OPENS_AT(openat)
OPENS_AT(openat64)
#define OPENS_FILE(name)                                                       \
    FILE *name(const char *path, const char *mode) {                           \
        REAL(name);                                                            \
        ASKED(AT_FDCWD, path, NULL);                                           \
        return real(path, mode);                                               \
    }
OPENS_FILE(fopen)
OPENS_FILE(fopen64)

ssize_t write(int file, const void *content, size_t size) {
    REAL(write);
    int what = below(file, NULL) ? due(1) : 0;
    return what == 1 ? -1 : real(file, content, what == 2 && size > 1 ? size / 2 : size);
}
ssize_t writev(int file, const struct iovec *pieces, int number) {
    REAL(writev);
    int what = below(file, NULL) ? due(1) : 0;
    return what == 1 ? -1 : real(file, pieces, what == 2 && number > 1 ? number / 2 : number);
}
int fsync(int file) { REAL(fsync); ASKED(file, NULL, -1); return real(file); }
int ftruncate(int file, off_t size) { REAL(ftruncate); ASKED(file, NULL, -1); return real(file, size); }
int ftruncate64(int file, off64_t size) { REAL(ftruncate64); ASKED(file, NULL, -1); return real(file, size); }
int rename(const char *from, const char *to) { REAL(rename); ASKED(AT_FDCWD, to, -1); return real(from, to); }
int unlink(const char *path) { REAL(unlink); ASKED(AT_FDCWD, path, -1); return real(path); }
int unlinkat(int at, const char *path, int flags) { REAL(unlinkat); ASKED(at, path, -1); return real(at, path, flags); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); ASKED(AT_FDCWD, path, -1); return real(path, mode); }
int rmdir(const char *path) { REAL(rmdir); ASKED(AT_FDCWD, path, -1); return real(path); }
