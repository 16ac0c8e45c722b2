/* A disk that fails on request, put between a process and its C library with LD_PRELOAD.
 *
 * DISK_DIR    only files in this directory are looked at (not SQLite's shared memory), and itself, which is called ".".
 * DISK_LOG    every write, truncation, sync, creation and removal is appended here, in order, whether it succeeds or not.
 * DISK_FAIL   "write", "sync" or "truncate": what is to fail, ...
 * DISK_FILE   ... on files whose names end like this ("notes", the test's own, never fails), ...
 * DISK_FROM   ... from the nth such call on (1 is the first), ...
 * DISK_TIMES  ... so many times, ...
 * DISK_ERROR  ... with this errno; 0 makes a write short instead: half is written, and said so.
 *
 * A record of the log is: kind (1 byte: W T S F C U), length of name (1), offset (8), length of data (8), name, data.
 * S is a sync that succeeded, F one that failed; T has the new size as its offset; C creates, U removes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 4096
static char names[FILES][64];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static long calls;

#define REAL(name, type, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static ssize_t real_write(int fd, const void *data, size_t length) {
    REAL("write", ssize_t, int, const void *, size_t);
    return real(fd, data, length);
}

static const char *setting(const char *name) {
    const char *value = getenv(name);
    return value ? value : "";
}

/* The name of a file in the directory, or NULL. */
static const char *watched(const char *path) {
    const char *dir = setting("DISK_DIR");
    size_t length = strlen(dir);
    if (!length || strncmp(path, dir, length)) return NULL;
    if (!path[length]) return ".";
    if (path[length] != '/') return NULL;
    const char *name = path + length + 1;
    size_t size = strlen(name);
    if (!size || size > 63 || strchr(name, '/')) return NULL;
    if (size > 4 && !strcmp(name + size - 4, "-shm")) return NULL;
    return name;
}

static void record(char kind, const char *name, uint64_t offset, const void *data, uint64_t length) {
    const char *path = setting("DISK_LOG");
    if (!*path) return;
    if (log_fd < 0) {
        REAL("open", int, const char *, int, ...);
        log_fd = real(path, O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
        if (log_fd < 0) abort();
    }
    unsigned char size = (unsigned char)strlen(name);
    char *all = malloc(18 + size + length), *at = all;
    *at++ = kind;
    *at++ = (char)size;
    memcpy(at, &offset, 8);
    memcpy(at + 8, &length, 8);
    memcpy(at + 16, name, size);
    if (length) memcpy(at + 16 + size, data, length);
    if (real_write(log_fd, all, 18 + size + length) != (ssize_t)(18 + size + length)) abort();
    free(all);
}

/* Whether this call is one that is to fail. With the mutex held. */
static int fails(const char *what, const char *name) {
    if (strcmp(setting("DISK_FAIL"), what) || !strcmp(name, "notes")) return 0;
    const char *end = setting("DISK_FILE");
    size_t size = strlen(name), length = strlen(end);
    if (size < length || strcmp(name + size - length, end)) return 0;
    long from = atol(setting("DISK_FROM")), times = atol(setting("DISK_TIMES"));
    long call = ++calls;
    return call >= from && call < from + times;
}

static const char *of(int fd) { return fd >= 0 && fd < FILES && names[fd][0] ? names[fd] : NULL; }

static void opened(int fd, const char *path, int created) {
    const char *name = watched(path);
    if (fd < 0 || fd >= FILES) return;
    names[fd][0] = 0;
    if (!name) return;
    strcpy(names[fd], name);
    if (created) {
        pthread_mutex_lock(&mutex);
        record('C', name, 0, NULL, 0);
        pthread_mutex_unlock(&mutex);
    }
}

#define OPEN(function) \
    int function(const char *path, int flags, ...) { \
        REAL(#function, int, const char *, int, ...); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { \
            va_list rest; \
            va_start(rest, flags); \
            mode = va_arg(rest, mode_t); \
            va_end(rest); \
        } \
        int created = (flags & O_CREAT) && access(path, F_OK); \
        int fd = real(path, flags, mode); \
        opened(fd, path, created); \
        return fd; \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    REAL("close", int, int);
    if (fd >= 0 && fd < FILES) names[fd][0] = 0;
    return real(fd);
}

int unlink(const char *path) {
    REAL("unlink", int, const char *);
    const char *name = watched(path);
    pthread_mutex_lock(&mutex);
    int result = real(path);
    if (name && !result) record('U', name, 0, NULL, 0);
    pthread_mutex_unlock(&mutex);
    return result;
}

/* What a write at an offset does: all of it, half of it, or nothing. */
static ssize_t put(const char *name, int fd, const void *data, size_t length, off_t offset) {
    REAL("pwrite", ssize_t, int, const void *, size_t, off_t);
    ssize_t result;
    pthread_mutex_lock(&mutex);
    if (length && fails("write", name)) {
        int error = atoi(setting("DISK_ERROR"));
        if (error) {
            pthread_mutex_unlock(&mutex);
            errno = error;
            return -1;
        }
        length = (length + 1) / 2;
    }
    result = real(fd, data, length, offset);
    int error = errno;
    if (result > 0) record('W', name, (uint64_t)offset, data, (uint64_t)result);
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}

ssize_t write(int fd, const void *data, size_t length) {
    const char *name = of(fd);
    if (!name) return real_write(fd, data, length);
    off_t offset = (fcntl(fd, F_GETFL) & O_APPEND) ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    ssize_t result = put(name, fd, data, length, offset);
    int error = errno;
    if (result > 0) lseek(fd, offset + result, SEEK_SET);
    errno = error;
    return result;
}

#define PWRITE(function) \
    ssize_t function(int fd, const void *data, size_t length, off_t offset) { \
        REAL(#function, ssize_t, int, const void *, size_t, off_t); \
        const char *name = of(fd); \
        return name ? put(name, fd, data, length, offset) : real(fd, data, length, offset); \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define SYNC(function) \
    int function(int fd) { \
        REAL(#function, int, int); \
        const char *name = of(fd); \
        if (!name) return real(fd); \
        pthread_mutex_lock(&mutex); \
        int fail = fails("sync", name); \
        /* Nothing is lost by a sync that does not reach the disk: the log says what a disk would have had. */ \
        record(fail ? 'F' : 'S', name, 0, NULL, 0); \
        pthread_mutex_unlock(&mutex); \
        if (!fail) return 0; \
        errno = atoi(setting("DISK_ERROR")); \
        return -1; \
    }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(function) \
    int function(int fd, off_t size) { \
        REAL(#function, int, int, off_t); \
        const char *name = of(fd); \
        if (!name) return real(fd, size); \
        pthread_mutex_lock(&mutex); \
        if (fails("truncate", name)) { \
            pthread_mutex_unlock(&mutex); \
            errno = atoi(setting("DISK_ERROR")); \
            return -1; \
        } \
        int result = real(fd, size); \
        if (!result) record('T', name, (uint64_t)size, NULL, 0); \
        pthread_mutex_unlock(&mutex); \
        return result; \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)
