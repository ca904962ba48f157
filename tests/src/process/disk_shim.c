/* Preloaded into a daemon under test: records in order what the process does to the files of one directory, and lets
 * writes to them fail.
 *
 *   DISK_SHIM_HOME   the directory, as an absolute path without links
 *   DISK_SHIM_LOG    file to which operations are recorded (optional)
 *   DISK_SHIM_FAULT  file of 16 bytes, shared with the test (optional): byte 0 is the fault, byte 1 its probability in
 *                    units of 1/256. Faults: 0 none, 1 no space, 2 writes fail, 3 flushes fail after they were done.
 *
 * A record is a `struct record` in the order of this machine, followed by both paths and the data. Records are appended
 * with one call each, so that the test may add its own between them. A flush is recorded when it begins and when it has
 * ended; what was written before it began is safe when it has ended. The shared memory of SQLite (-shm) is left out: it is
 * made anew after a loss of power. */
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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum operation { OPEN = 1, WRITE, TRUNCATE, FLUSH_BEGINS, FLUSH_ENDS, RENAME, UNLINK };
enum opened { CREATED = 1, TRUNCATED = 2, DIRECTORY = 4 };
enum fault { NO_FAULT = 0, NO_SPACE, WRITES_FAIL, FLUSHES_FAIL };

struct record {
    uint32_t magic;
    uint32_t operation;
    uint64_t inode;
    /* Offset of a write, length after a truncation, thread of a flush, how a file was opened. */
    uint64_t number;
    uint32_t path_bytes;
    uint32_t other_bytes;
    uint64_t data_bytes;
};

#define MAGIC 0x4b534944u
#define FDS 65536

static char home[PATH_MAX];
static size_t home_bytes;
static int log_fd = -1;
static volatile unsigned char *fault;
static uint64_t inodes[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_rename)(const char *, const char *);
static int (*real_unlink)(const char *);
static int (*real_unlinkat)(int, const char *, int);

static void resolve(void) {
    real_open = dlsym(RTLD_NEXT, "open");
    real_openat = dlsym(RTLD_NEXT, "openat");
    real_close = dlsym(RTLD_NEXT, "close");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_unlinkat = dlsym(RTLD_NEXT, "unlinkat");
}

__attribute__((constructor)) static void begin(void) {
    resolve();
    const char *directory = getenv("DISK_SHIM_HOME"), *to = getenv("DISK_SHIM_LOG"), *shared = getenv("DISK_SHIM_FAULT");
    if (!directory || strlen(directory) >= sizeof home) return;
    strcpy(home, directory);
    home_bytes = strlen(home);
    if (to) {
        int fd = real_open(to, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) abort();
        /* Out of the way of descriptors that programs expect to be small. */
        log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 1000);
        if (log_fd < 0) log_fd = fd; else real_close(fd);
    }
    if (shared) {
        int fd = real_open(shared, O_RDWR | O_CLOEXEC);
        if (fd < 0) abort();
        void *page = mmap(NULL, 16, PROT_READ, MAP_SHARED, fd, 0);
        if (page == MAP_FAILED) abort();
        fault = page;
        real_close(fd);
    }
}

/* Whether a path is watched. */
static int watched(const char *path) {
    if (!home_bytes || strncmp(path, home, home_bytes) != 0) return 0;
    if (path[home_bytes] != '/' && path[home_bytes] != 0) return 0;
    size_t bytes = strlen(path);
    return bytes < 4 || strcmp(path + bytes - 4, "-shm") != 0;
}

static uint64_t inode(int fd) { return fd >= 0 && fd < FDS ? inodes[fd] : 0; }

static void record(uint32_t operation, uint64_t ino, uint64_t number, const char *path, const char *other,
                   const void *data, size_t bytes) {
    if (log_fd < 0) return;
    size_t path_bytes = path ? strlen(path) : 0, other_bytes = other ? strlen(other) : 0;
    struct record head = {MAGIC, operation, ino, number, path_bytes, other_bytes, bytes};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)path, path_bytes}, {(void *)other, other_bytes}, {(void *)data, bytes}};
    if (writev(log_fd, parts, 4) != (ssize_t)(sizeof head + path_bytes + other_bytes + bytes)) abort();
}

static int strikes(void) {
    static uint64_t state = 0x9e3779b97f4a7c15u;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (state & 255) <= fault[1];
}

static off_t blocks(off_t bytes) { return (bytes + 4095) / 4096; }

/* The error that a write of these bytes fails with; 0 if it is done. A full disk has the rest of a file's last block. */
static int write_fails(int fd, off_t at, size_t bytes) {
    struct stat found;
    if (!fault || fault[0] == NO_FAULT) return 0;
    if (fault[0] == NO_SPACE)
        return fstat(fd, &found) == 0 && blocks(at + bytes) > blocks(found.st_size) && strikes() ? ENOSPC : 0;
    return fault[0] == WRITES_FAIL && strikes() ? EIO : 0;
}

static int opened(int fd, const char *path, int flags, int existed) {
    struct stat found;
    if (fd < 0 || fd >= FDS || fstat(fd, &found) != 0) return fd;
    inodes[fd] = found.st_ino;
    uint64_t how = S_ISDIR(found.st_mode) ? DIRECTORY : 0;
    if ((flags & O_CREAT) && !existed) how |= CREATED;
    if ((flags & O_TRUNC) && existed) how |= TRUNCATED;
    record(OPEN, found.st_ino, how, path, NULL, NULL, 0);
    return fd;
}

static int open_watched(const char *path, int flags, mode_t mode) {
    struct stat found;
    pthread_mutex_lock(&lock);
    int existed = stat(path, &found) == 0;
    int fd = opened(real_open(path, flags, mode), path, flags, existed);
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) {
    MODE(flags)
    if (!real_open) resolve();
    return watched(path) ? open_watched(path, flags, mode) : real_open(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags)
    if (!real_open) resolve();
    return watched(path) ? open_watched(path, flags | O_LARGEFILE, mode) : real_open(path, flags | O_LARGEFILE, mode);
}

int openat(int at, const char *path, int flags, ...) {
    MODE(flags)
    if (!real_openat) resolve();
    return watched(path) ? open_watched(path, flags, mode) : real_openat(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE(flags)
    if (!real_openat) resolve();
    return watched(path) ? open_watched(path, flags, mode) : real_openat(at, path, flags | O_LARGEFILE, mode);
}

int close(int fd) {
    if (!real_close) resolve();
    if (inode(fd)) inodes[fd] = 0;
    return real_close(fd);
}

/* `at` is -1 where the file's own offset is used. */
static ssize_t write_watched(int fd, const void *data, size_t bytes, off_t at) {
    pthread_mutex_lock(&lock);
    int appends = fcntl(fd, F_GETFL) & O_APPEND;
    off_t from = at >= 0 ? at : lseek(fd, 0, appends ? SEEK_END : SEEK_CUR);
    int error = write_fails(fd, from, bytes);
    ssize_t done = -1;
    if (!error) {
        done = at >= 0 ? real_pwrite(fd, data, bytes, at) : real_write(fd, data, bytes);
        error = errno;
        if (done > 0) record(WRITE, inodes[fd], from, NULL, NULL, data, done);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

ssize_t write(int fd, const void *data, size_t bytes) {
    if (!real_write) resolve();
    return inode(fd) ? write_watched(fd, data, bytes, -1) : real_write(fd, data, bytes);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) {
    if (!real_pwrite) resolve();
    return inode(fd) ? write_watched(fd, data, bytes, at) : real_pwrite(fd, data, bytes, at);
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t at) { return pwrite(fd, data, bytes, at); }

int ftruncate(int fd, off_t bytes) {
    if (!real_ftruncate) resolve();
    if (!inode(fd)) return real_ftruncate(fd, bytes);
    pthread_mutex_lock(&lock);
    int done = real_ftruncate(fd, bytes), error = errno;
    if (done == 0) record(TRUNCATE, inodes[fd], bytes, NULL, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int ftruncate64(int fd, off64_t bytes) { return ftruncate(fd, bytes); }

static int flush_watched(int fd, int (*flush)(int)) {
    uint64_t ino = inodes[fd], thread = syscall(SYS_gettid);
    pthread_mutex_lock(&lock);
    record(FLUSH_BEGINS, ino, thread, NULL, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    int done = flush(fd), error = errno;
    pthread_mutex_lock(&lock);
    if (done == 0) record(FLUSH_ENDS, ino, thread, NULL, NULL, NULL, 0);
    if (done == 0 && fault && fault[0] == FLUSHES_FAIL && strikes()) done = -1, error = EIO;
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int fsync(int fd) {
    if (!real_fsync) resolve();
    return inode(fd) ? flush_watched(fd, real_fsync) : real_fsync(fd);
}

int fdatasync(int fd) {
    if (!real_fdatasync) resolve();
    return inode(fd) ? flush_watched(fd, real_fdatasync) : real_fdatasync(fd);
}

int rename(const char *from, const char *to) {
    if (!real_rename) resolve();
    if (!watched(from) && !watched(to)) return real_rename(from, to);
    pthread_mutex_lock(&lock);
    int done = real_rename(from, to), error = errno;
    if (done == 0) record(RENAME, 0, 0, from, to, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

static int unlink_watched(int at, const char *path, int flags) {
    pthread_mutex_lock(&lock);
    int done = real_unlinkat(at, path, flags), error = errno;
    if (done == 0 && !(flags & AT_REMOVEDIR)) record(UNLINK, 0, 0, path, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int unlink(const char *path) {
    if (!real_unlink) resolve();
    return watched(path) ? unlink_watched(AT_FDCWD, path, 0) : real_unlink(path);
}

int unlinkat(int at, const char *path, int flags) {
    if (!real_unlinkat) resolve();
    return watched(path) ? unlink_watched(at, path, flags) : real_unlinkat(at, path, flags);
}
