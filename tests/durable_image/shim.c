// A preloaded library that keeps a durable image of one directory: what a power cut would leave.
//
// SIGKILL does not test fsync, because the page cache outlives the process. With this library in
// LD_PRELOAD a process works on its data directory as ever, while a second directory, the image,
// receives only what has been synced. After the kill the test puts the image in place of the data.
//
// The model is the strictest that POSIX permits, and the one RocksDB is written for:
//   - The bytes and the size of a file reach the image at fsync or fdatasync of that file (or at a
//     write through O_DSYNC), never by syncing another file; sync_file_range, sync and syncfs
//     promise nothing here.
//   - Names, that is creations, renames and removals, reach the image in one of two ways, both of
//     which a file system may choose, chosen by DURABLE_IMAGE_NAMES:
//       late    only at fsync of the directory. Whoever forgets that loses the file.
//       early   at once, whatever the file contains. Whoever renames a file before its contents
//               are synced, or removes an old one too soon, loses those.
//   - All names of one directory change together, as in a journal.
// Writes through mmap are not seen: RocksDB is configured without them. Files written through
// stdio (RocksDB's LOG) have a name in the image but no contents.
//
// DURABLE_IMAGE_CONTROL names a file of three native 64-bit numbers, which the test may change
// while the process runs. The first two, limit and used bytes, make the directory a disk of that
// size: what does not fit is refused with ENOSPC, a limit of 0 is no limit. The third, if not 0,
// makes every sync succeed without effect on the image: as if the process never called it.
//
// Every call goes to the kernel by syscall(2): no dlsym, hence no allocation at awkward times.

#define _GNU_SOURCE
#include <stdarg.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include "image.h"

static ssize_t write_at(int fd, const struct iovec *parts, int count, off_t offset, int moves) {
  struct stat status;
  struct file *file = 0;
  if (data_length) {
    pthread_mutex_lock(&lock);
    file = ours(fd, &status);
    if (!file) pthread_mutex_unlock(&lock);
  }
  if (!file) {
    if (moves) return syscall(SYS_writev, fd, parts, count);
    return syscall(SYS_pwritev, fd, parts, count, offset, 0);
  }
  int flags = fcntl(fd, F_GETFL);
  if (moves) offset = flags & O_APPEND ? status.st_size : lseek(fd, 0, SEEK_CUR);
  ssize_t total = 0, done = 0;
  for (int i = 0; i < count; i++) total += parts[i].iov_len;
  ssize_t fits = reserve(file, offset + total) - offset;
  // Past the page cache the kernel writes whole blocks, also where there is no room for all of them.
  if (flags & O_DIRECT && fits < total) fits -= fits % 4096;
  int error = fits <= 0 && total > 0 ? ENOSPC : 0;
  for (int i = 0; i < count && done < fits && !error; i++) {
    size_t length = MIN(parts[i].iov_len, (size_t)(fits - done));
    ssize_t written = moves ? syscall(SYS_write, fd, parts[i].iov_base, length)
                            : syscall(SYS_pwrite64, fd, parts[i].iov_base, length, offset + done);
    if (written < 0) error = errno;
    else done += written;
    if (written < (ssize_t)length) break;
  }
  touch(file, offset, offset + done);
  if (done && flags & O_DSYNC && syncs_count()) capture_file(fd, file);
  pthread_mutex_unlock(&lock);
  if (done == 0 && error) {
    errno = error;
    return -1;
  }
  return done;
}

ssize_t write(int fd, const void *bytes, size_t length) {
  struct iovec part = {(void *)bytes, length};
  return write_at(fd, &part, 1, 0, 1);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
  return write_at(fd, parts, count, 0, 1);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) {
  struct iovec part = {(void *)bytes, length};
  return write_at(fd, &part, 1, offset, 0);
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
  return pwrite64(fd, bytes, length, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) {
  return write_at(fd, parts, count, offset, 0);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
  return write_at(fd, parts, count, offset, 0);
}

// Whoever copies inside the kernel falls back to write.
ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t length, unsigned f) {
  struct stat status;
  pthread_mutex_lock(&lock);
  int refuse = data_length && ours(out, &status);
  pthread_mutex_unlock(&lock);
  if (!refuse) return syscall(SYS_copy_file_range, in, in_at, out, out_at, length, f);
  errno = ENOSYS;
  return -1;
}
ssize_t sendfile64(int out, int in, off_t *offset, size_t count) {
  struct stat status;
  pthread_mutex_lock(&lock);
  int refuse = data_length && ours(out, &status);
  pthread_mutex_unlock(&lock);
  if (!refuse) return syscall(SYS_sendfile, out, in, offset, count);
  errno = ENOSYS;
  return -1;
}
ssize_t sendfile(int out, int in, off_t *offset, size_t count) {
  return sendfile64(out, in, offset, count);
}

int ftruncate64(int fd, off_t size) {
  if (!data_length) return syscall(SYS_ftruncate, fd, size);
  struct stat status;
  pthread_mutex_lock(&lock);
  int result = syscall(SYS_ftruncate, fd, size);
  struct file *file = result ? 0 : ours(fd, &status);
  if (file) shrink(file, size);
  pthread_mutex_unlock(&lock);
  return result;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int fallocate64(int fd, int mode, off_t offset, off_t length) {
  if (data_length && control) {
    struct stat status;
    pthread_mutex_lock(&lock);
    struct file *file = ours(fd, &status);
    uint64_t before = file ? file->allocated : 0;
    int fits = !file || reserve(file, offset + length) == offset + length;
    if (!fits) {  // all or nothing
      __atomic_fetch_sub(&control->used, file->allocated - before, __ATOMIC_RELAXED);
      file->allocated = before;
    }
    pthread_mutex_unlock(&lock);
    if (!fits) {
      errno = ENOSPC;
      return -1;
    }
  }
  return syscall(SYS_fallocate, fd, mode, offset, length);
}
int fallocate(int fd, int mode, off_t offset, off_t length) {
  return fallocate64(fd, mode, offset, length);
}
int posix_fallocate64(int fd, off_t offset, off_t length) {
  return fallocate64(fd, 0, offset, length) ? errno : 0;
}
int posix_fallocate(int fd, off_t offset, off_t length) {
  return posix_fallocate64(fd, offset, length);
}

static void sync_fd(int fd) {
  struct stat status;
  char link[64], path[PATH_MAX];
  pthread_mutex_lock(&lock);
  struct file *file = ours(fd, &status);
  if (file) {
    capture_file(fd, file);
  } else if (S_ISDIR(status.st_mode) && status.st_dev == data_device) {
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[MAX(length, 0)] = 0;
    char buffer[PATH_MAX];
    const char *directory = below(AT_FDCWD, path, buffer);
    if (directory) capture_names(directory);
  }
  pthread_mutex_unlock(&lock);
}
int fsync(int fd) {
  if (data_length && syncs_count()) sync_fd(fd);
  return syscall(SYS_fsync, fd);
}
int fdatasync(int fd) {
  if (data_length && syncs_count()) sync_fd(fd);
  return syscall(SYS_fdatasync, fd);
}

static int open_at(int directory, const char *path, int flags, mode_t mode) {
  char buffer[PATH_MAX];
  const char *name = flags & (O_CREAT | O_TRUNC) ? below(directory, path, buffer) : 0;
  if (!name) return syscall(SYS_openat, directory, path, flags, mode);
  struct stat status;
  pthread_mutex_lock(&lock);
  int is_new = fstatat(directory, path, &status, 0) != 0;
  int fd = syscall(SYS_openat, directory, path, flags, mode);
  if (fd >= 0 && !fstat(fd, &status) && S_ISREG(status.st_mode)) {
    struct file *file = adopt(&status);
    if (flags & O_TRUNC) shrink(file, 0);
    if (is_new) names_changed(name);
  }
  pthread_mutex_unlock(&lock);
  return fd;
}

#define OPEN_MODE                             \
  mode_t mode = 0;                            \
  if (flags & (O_CREAT | __O_TMPFILE)) {      \
    va_list arguments;                        \
    va_start(arguments, flags);               \
    mode = (mode_t)va_arg(arguments, unsigned); \
    va_end(arguments);                        \
  }
int open(const char *path, int flags, ...) {
  OPEN_MODE return open_at(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
  OPEN_MODE return open_at(AT_FDCWD, path, flags, mode);
}
int openat(int directory, const char *path, int flags, ...) {
  OPEN_MODE return open_at(directory, path, flags, mode);
}
int openat64(int directory, const char *path, int flags, ...) {
  OPEN_MODE return open_at(directory, path, flags, mode);
}
int creat(const char *path, mode_t mode) {
  return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
  char from_buffer[PATH_MAX], to_buffer[PATH_MAX];
  const char *source = below(from_dir, from, from_buffer);
  const char *target = below(to_dir, to, to_buffer);
  if (!source && !target) return syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
  struct stat status, moved;
  pthread_mutex_lock(&lock);
  int replaces = target && !fstatat(to_dir, to, &status, AT_SYMLINK_NOFOLLOW);
  int same = replaces && !fstatat(from_dir, from, &moved, AT_SYMLINK_NOFOLLOW) &&
             moved.st_ino == status.st_ino;
  int result = syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
  if (!result) {
    if (replaces && !same && S_ISREG(status.st_mode) && status.st_nlink == 1)
      forget(status.st_ino);
    if (source) names_changed(source);
    if (target) names_changed(target);
  }
  pthread_mutex_unlock(&lock);
  return result;
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
  return renameat2(from_dir, from, to_dir, to, 0);
}

int unlinkat(int directory, const char *path, int flags) {
  char buffer[PATH_MAX];
  const char *name = below(directory, path, buffer);
  if (!name) return syscall(SYS_unlinkat, directory, path, flags);
  struct stat status;
  pthread_mutex_lock(&lock);
  int known = !fstatat(directory, path, &status, AT_SYMLINK_NOFOLLOW);
  int result = syscall(SYS_unlinkat, directory, path, flags);
  if (!result) {
    if (known && S_ISREG(status.st_mode) && status.st_nlink == 1) forget(status.st_ino);
    names_changed(name);
  }
  pthread_mutex_unlock(&lock);
  return result;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int directory, const char *path, mode_t mode) {
  char buffer[PATH_MAX];
  const char *name = below(directory, path, buffer);
  pthread_mutex_lock(&lock);
  int result = syscall(SYS_mkdirat, directory, path, mode);
  if (!result && name) names_changed(name);
  pthread_mutex_unlock(&lock);
  return result;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
  char buffer[PATH_MAX];
  const char *name = below(to_dir, to, buffer);
  pthread_mutex_lock(&lock);
  int result = syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
  if (!result && name) names_changed(name);
  pthread_mutex_unlock(&lock);
  return result;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

// The free space of the data directory is that of the pretended disk.
static uint64_t free_bytes(void) {
  uint64_t limit = __atomic_load_n(&control->limit, __ATOMIC_RELAXED);
  uint64_t used = __atomic_load_n(&control->used, __ATOMIC_RELAXED);
  return limit > used ? limit - used : 0;
}
int statfs64(const char *path, struct statfs64 *out) {
  char buffer[PATH_MAX];
  int result = syscall(SYS_statfs, path, out);
  if (!result && control && control->limit && below(AT_FDCWD, path, buffer)) {
    out->f_blocks = control->limit / out->f_bsize;
    out->f_bfree = out->f_bavail = free_bytes() / out->f_bsize;
  }
  return result;
}
int statfs(const char *path, struct statfs *out) {
  return statfs64(path, (struct statfs64 *)out);
}
int statvfs64(const char *path, struct statvfs64 *out) {
  struct statfs64 status;
  if (statfs64(path, &status)) return -1;
  memset(out, 0, sizeof *out);
  out->f_bsize = status.f_bsize;
  out->f_frsize = status.f_frsize ? status.f_frsize : status.f_bsize;
  out->f_blocks = status.f_blocks;
  out->f_bfree = status.f_bfree;
  out->f_bavail = status.f_bavail;
  out->f_files = status.f_files;
  out->f_ffree = out->f_favail = status.f_ffree;
  out->f_namemax = status.f_namelen;
  return 0;
}
int statvfs(const char *path, struct statvfs *out) {
  return statvfs64(path, (struct statvfs64 *)out);
}
