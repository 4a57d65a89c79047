// Does to files what its arguments say, so that the tests of the shim can tell stories:
//   write F TEXT | append F TEXT | at F OFFSET TEXT | dsync F TEXT   (a write each)
//   log F TEXT   (append and fdatasync through one descriptor that cannot read)
//   truncate F SIZE | reserve F SIZE | sync F | datasync F | syncdir D
//   rename A B | remove F | mkdir D | kill
// A call that fails is named on stderr and ends the story with status 1.

#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char **words;

static const char *word(void) {
  if (!*words) exit(2);
  return *words++;
}

static void check(long result, const char *what) {
  if (result < 0) {
    perror(what);
    exit(1);
  }
}

static int open_file(int flags) {
  int fd = open(word(), flags, 0644);
  check(fd, "open");
  return fd;
}

static int write_text(int flags) {
  int fd = open_file(O_WRONLY | O_CREAT | flags);
  const char *text = word();
  check((size_t)write(fd, text, strlen(text)) == strlen(text) ? 0 : -1, "write");
  return fd;
}

int main(int count, char **arguments) {
  (void)count;
  words = arguments + 1;
  while (*words) {
    const char *verb = word();
    int fd = -1;
    if (!strcmp(verb, "write")) {
      fd = write_text(O_TRUNC);
    } else if (!strcmp(verb, "append")) {
      fd = write_text(O_APPEND);
    } else if (!strcmp(verb, "dsync")) {
      fd = write_text(O_DSYNC);
    } else if (!strcmp(verb, "log")) {
      fd = write_text(O_APPEND);
      check(fdatasync(fd), "fdatasync");
    } else if (!strcmp(verb, "at")) {
      fd = open_file(O_WRONLY | O_CREAT);
      long offset = atol(word());
      const char *text = word();
      check(pwrite(fd, text, strlen(text), offset), "pwrite");
    } else if (!strcmp(verb, "truncate")) {
      fd = open_file(O_WRONLY);
      check(ftruncate(fd, atol(word())), "ftruncate");
    } else if (!strcmp(verb, "reserve")) {
      fd = open_file(O_WRONLY | O_CREAT);
      check(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, atol(word())), "fallocate");
    } else if (!strcmp(verb, "sync")) {
      fd = open_file(O_RDONLY);
      check(fsync(fd), "fsync");
    } else if (!strcmp(verb, "datasync")) {
      fd = open_file(O_RDONLY);
      check(fdatasync(fd), "fdatasync");
    } else if (!strcmp(verb, "syncdir")) {
      fd = open_file(O_RDONLY | O_DIRECTORY);
      check(fsync(fd), "fsync");
    } else if (!strcmp(verb, "rename")) {
      const char *from = word();
      check(rename(from, word()), "rename");
    } else if (!strcmp(verb, "remove")) {
      check(unlink(word()), "unlink");
    } else if (!strcmp(verb, "mkdir")) {
      check(mkdir(word(), 0755), "mkdir");
    } else if (!strcmp(verb, "kill")) {
      raise(SIGKILL);
    } else {
      return 2;
    }
    if (fd >= 0) close(fd);
  }
  return 0;
}
