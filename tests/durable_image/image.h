// The model of the durable image: files, names, and the room they take. shim.c, which alone
// includes this, says what the model is; nothing here is seen outside (a preloaded library must
// not lend its names to the program). Every function wants the lock, but for `start`.

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BUCKETS 4096
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

// A file of the data directory, known by its inode as long as it has a name.
struct file {
  ino_t inode;
  uint64_t id;         // its contents in the image are IMAGE/objects/<id>
  off_t dirty_from;    // the hull of what was written since the last sync,
  off_t dirty_to;      // empty when dirty_from >= dirty_to
  off_t shrunk_to;     // the smallest size since the last sync
  uint64_t allocated;  // bytes of the disk that it occupies
  struct file *next;
};

// A name that is durable: a directory when id is 0.
struct entry {
  char *path;  // relative to the data directory
  uint64_t id;
};

// What the test controls; see shim.c.
struct control {
  uint64_t limit, used, ignore_syncs;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char data_dir[PATH_MAX / 2], image_dir[PATH_MAX / 2];
static size_t data_length;  // 0: the library does nothing
static dev_t data_device;
static int names_are_early;
static struct control *control;
static struct file *files[BUCKETS];
static struct entry *entries;
static size_t entry_count, entry_room;
static uint64_t last_id;

static void die(const char *what) {
  dprintf(2, "durable image: %s: %s\n", what, strerror(errno));
  _exit(97);
}

// ---- Files and their objects ----

static struct file *find(ino_t inode) {
  struct file *file = files[inode % BUCKETS];
  while (file && file->inode != inode) file = file->next;
  return file;
}

static int open_object(uint64_t id) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/objects/%llu", image_dir, (unsigned long long)id);
  int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) die(path);
  return fd;
}

// The file takes at least this many bytes of the disk.
static void occupy(struct file *file, uint64_t bytes) {
  if (bytes <= file->allocated) return;
  if (control) __atomic_fetch_add(&control->used, bytes - file->allocated, __ATOMIC_RELAXED);
  file->allocated = bytes;
}

static struct file *adopt(const struct stat *status) {
  struct file *file = find(status->st_ino);
  if (file) return file;
  file = calloc(1, sizeof *file);
  if (!file) die("memory");
  file->inode = status->st_ino;
  file->id = ++last_id;
  file->shrunk_to = status->st_size;
  occupy(file, MAX((uint64_t)status->st_size, (uint64_t)status->st_blocks * 512));
  file->next = files[file->inode % BUCKETS];
  files[file->inode % BUCKETS] = file;
  close(open_object(file->id));
  return file;
}

// The file has lost its last name; its inode number may be used again.
static void forget(ino_t inode) {
  struct file **link = &files[inode % BUCKETS];
  while (*link && (*link)->inode != inode) link = &(*link)->next;
  struct file *file = *link;
  if (!file) return;
  *link = file->next;
  if (control) __atomic_fetch_sub(&control->used, file->allocated, __ATOMIC_RELAXED);
  free(file);
}

static void touch(struct file *file, off_t from, off_t to) {
  if (from >= to) return;
  int clean = file->dirty_from >= file->dirty_to;
  file->dirty_from = clean ? from : MIN(file->dirty_from, from);
  file->dirty_to = clean ? to : MAX(file->dirty_to, to);
}

static void copy_range(int from, int to, off_t start, off_t end) {
  static char buffer[1 << 18];
  while (start < end) {
    size_t wanted = MIN((off_t)sizeof buffer, end - start);
    ssize_t count = syscall(SYS_pread64, from, buffer, wanted, start);
    if (count < 0) die("read what is to be durable");
    if (count == 0) return;  // shorter than it was: a truncation is on its way
    if (syscall(SYS_pwrite64, to, buffer, count, start) != count) die("write to the image");
    start += count;
  }
}

// Makes the contents of a file durable.
static void capture_file(int fd, struct file *file) {
  struct stat status;
  if (fstat(fd, &status)) return;
  // The descriptor may be for writing only.
  char self[64];
  snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
  int source = syscall(SYS_openat, AT_FDCWD, self, O_RDONLY | O_CLOEXEC);
  if (source < 0) die(self);
  int object = open_object(file->id);
  if (syscall(SYS_ftruncate, object, MIN(file->shrunk_to, status.st_size))) die("shrink");
  if (syscall(SYS_ftruncate, object, status.st_size)) die("resize");
  copy_range(source, object, file->dirty_from, MIN(file->dirty_to, status.st_size));
  close(object);
  close(source);
  occupy(file, (uint64_t)status.st_blocks * 512);  // what was reserved unseen
  file->dirty_from = file->dirty_to = 0;
  file->shrunk_to = status.st_size;
}

// The file behind a descriptor, if it is one of ours. The lock is held.
static struct file *ours(int fd, struct stat *status) {
  if (fstat(fd, status) || !S_ISREG(status->st_mode) || status->st_dev != data_device) return 0;
  return find(status->st_ino);
}

// ---- Names ----

static void add_entry(const char *path, uint64_t id) {
  if (entry_count == entry_room) {
    entry_room = entry_room ? entry_room * 2 : 256;
    entries = realloc(entries, entry_room * sizeof *entries);
    if (!entries) die("memory");
  }
  entries[entry_count].path = strdup(path);
  entries[entry_count++].id = id;
}

// Replaces the list of durable names in one step.
static void write_entries(void) {
  char path[PATH_MAX], fresh[PATH_MAX];
  snprintf(path, sizeof path, "%s/entries", image_dir);
  snprintf(fresh, sizeof fresh, "%s/entries.new", image_dir);
  size_t size = 1;
  for (size_t i = 0; i < entry_count; i++) size += strlen(entries[i].path) + 24;
  char *text = malloc(size), *end = text;
  if (!text) die("memory");
  for (size_t i = 0; i < entry_count; i++)
    end += sprintf(end, "%llu %s\n", (unsigned long long)entries[i].id, entries[i].path);
  int fd = syscall(SYS_openat, AT_FDCWD, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0 || syscall(SYS_write, fd, text, end - text) != end - text) die(fresh);
  close(fd);
  free(text);
  if (syscall(SYS_rename, fresh, path)) die(path);
}

// The directory part of a relative path is that of `directory` ("" is the data directory itself).
static int is_child(const char *path, const char *directory) {
  size_t length = strlen(directory);
  const char *name = length ? path + length + 1 : path;
  if (length && (strncmp(path, directory, length) || path[length] != '/')) return 0;
  return !strchr(name, '/');
}

static void drop_object(uint64_t id) {
  for (size_t i = 0; i < entry_count; i++)
    if (entries[i].id == id) return;
  for (size_t i = 0; i < BUCKETS; i++)
    for (struct file *file = files[i]; file; file = file->next)
      if (file->id == id) return;
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/objects/%llu", image_dir, (unsigned long long)id);
  syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

// Makes the names in a directory durable: they become what they are now.
static void capture_names(const char *directory) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/%s", data_dir, directory);
  DIR *stream = opendir(path);
  if (!stream) return;
  uint64_t *gone = malloc((entry_count + 1) * sizeof *gone);
  size_t gone_count = 0, kept = 0;
  for (size_t i = 0; i < entry_count; i++) {
    if (is_child(entries[i].path, directory)) {
      gone[gone_count++] = entries[i].id;
      free(entries[i].path);
    } else {
      entries[kept++] = entries[i];
    }
  }
  entry_count = kept;
  for (struct dirent *item; (item = readdir(stream));) {
    struct stat status;
    if (!strcmp(item->d_name, ".") || !strcmp(item->d_name, "..")) continue;
    if (fstatat(dirfd(stream), item->d_name, &status, AT_SYMLINK_NOFOLLOW)) continue;
    snprintf(path, sizeof path, "%s%s%s", directory, *directory ? "/" : "", item->d_name);
    if (S_ISDIR(status.st_mode)) add_entry(path, 0);
    if (S_ISREG(status.st_mode)) add_entry(path, adopt(&status)->id);
  }
  closedir(stream);
  write_entries();
  while (gone_count) drop_object(gone[--gone_count]);
  free(gone);
}

// The absolute path that a call names, if it lies in the data directory; the part below it.
static const char *below(int directory, const char *path, char out[PATH_MAX]) {
  if (!data_length || !path) return 0;
  if (path[0] == '/') {
    snprintf(out, PATH_MAX, "%s", path);
  } else {
    char link[64], base[PATH_MAX / 2];
    if (directory == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t length = readlink(link, base, sizeof base - 1);
    if (length < 0) return 0;
    base[length] = 0;
    if (snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return 0;
  }
  if (strncmp(out, data_dir, data_length)) return 0;
  if (out[data_length] == 0) return out + data_length;
  return out[data_length] == '/' ? out + data_length + 1 : 0;
}

// Names in the directory that contains `path` have changed.
static void names_changed(const char *path) {
  if (!names_are_early) return;
  char directory[PATH_MAX];
  snprintf(directory, sizeof directory, "%s", path);
  char *slash = strrchr(directory, '/');
  *(slash ? slash : directory) = 0;
  capture_names(directory);
}

// ---- Start: all that is there is durable ----

static void capture_tree(const char *directory) {
  char path[PATH_MAX];
  snprintf(path, sizeof path, "%s/%s", data_dir, directory);
  DIR *stream = opendir(path);
  if (!stream) return;
  for (struct dirent *item; (item = readdir(stream));) {
    struct stat status;
    if (!strcmp(item->d_name, ".") || !strcmp(item->d_name, "..")) continue;
    if (fstatat(dirfd(stream), item->d_name, &status, AT_SYMLINK_NOFOLLOW)) continue;
    snprintf(path, sizeof path, "%s%s%s", directory, *directory ? "/" : "", item->d_name);
    if (S_ISDIR(status.st_mode)) {
      add_entry(path, 0);
      capture_tree(path);
    } else if (S_ISREG(status.st_mode)) {
      struct file *file = adopt(&status);
      add_entry(path, file->id);
      int fd = syscall(SYS_openat, dirfd(stream), item->d_name, O_RDONLY | O_CLOEXEC);
      if (fd < 0) die(path);
      // Holes and reserved blocks are skipped, or a large reserve file would be copied.
      for (off_t from = 0, to; (from = lseek(fd, from, SEEK_DATA)) >= 0; from = to) {
        to = lseek(fd, from, SEEK_HOLE);
        touch(file, from, to);
        capture_file(fd, file);
      }
      capture_file(fd, file);
      close(fd);
    }
  }
  closedir(stream);
}

__attribute__((constructor)) static void start(void) {
  const char *data = getenv("DURABLE_IMAGE_DATA"), *image = getenv("DURABLE_IMAGE_DIR");
  if (!data || !image) return;
  struct stat status;
  if (stat(data, &status)) die(data);
  data_device = status.st_dev;
  snprintf(data_dir, sizeof data_dir, "%s", data);
  snprintf(image_dir, sizeof image_dir, "%s", image);
  const char *names = getenv("DURABLE_IMAGE_NAMES");
  names_are_early = names && !strcmp(names, "early");
  const char *path = getenv("DURABLE_IMAGE_CONTROL");
  if (path) {
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    control = mmap(0, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || control == MAP_FAILED) die(path);
    control->used = 0;
    close(fd);
  }
  char objects[PATH_MAX];
  snprintf(objects, sizeof objects, "%s/objects", image_dir);
  if (syscall(SYS_mkdirat, AT_FDCWD, objects, 0755)) die(objects);
  capture_tree("");
  write_entries();
  data_length = strlen(data_dir);
}

// ---- The disk's size ----

// Takes room for a file that reaches to `end`; says up to where it may reach.
static off_t reserve(struct file *file, off_t end) {
  if (!control || (uint64_t)end <= file->allocated) return end;
  uint64_t growth = end - file->allocated;
  uint64_t limit = __atomic_load_n(&control->limit, __ATOMIC_RELAXED);
  uint64_t used = __atomic_load_n(&control->used, __ATOMIC_RELAXED);
  if (limit) growth = MIN(growth, limit > used ? limit - used : 0);
  __atomic_fetch_add(&control->used, growth, __ATOMIC_RELAXED);
  file->allocated += growth;
  return MIN(end, (off_t)file->allocated);
}

static void shrink(struct file *file, off_t size) {
  if ((uint64_t)size < file->allocated) {
    if (control) __atomic_fetch_sub(&control->used, file->allocated - size, __ATOMIC_RELAXED);
    file->allocated = size;
  }
  file->shrunk_to = MIN(file->shrunk_to, size);
  file->dirty_to = MIN(file->dirty_to, size);
}

static int syncs_count(void) {
  return !control || !__atomic_load_n(&control->ignore_syncs, __ATOMIC_RELAXED);
}
