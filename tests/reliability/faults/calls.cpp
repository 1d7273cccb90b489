// The calls that change files or make them durable, in front of libc's. What is let through goes to the kernel.
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <string>

#include "plan.h"
#include "room.h"

using faults::Call;
using faults::judge;
using faults::Quiet;
using faults::seen_path;
using faults::Verdict;

namespace {

template <typename... Arguments>
long kernel(long number, Arguments... arguments) {
  return ::syscall(number, arguments...);
}

int failed(int error) {
  errno = error;
  return -1;
}

bool writable(int descriptor) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY;
}

off_t place_of(int descriptor) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  return ::lseek(descriptor, 0, flags >= 0 && (flags & O_APPEND) != 0 ? SEEK_END : SEEK_CUR);
}

int open_at(int folder, const char* path, int flags, mode_t mode) {
  const auto go = [&] { return static_cast<int>(kernel(SYS_openat, folder, path, flags, mode)); };
  if (Quiet::now() || ((flags & O_ACCMODE) == O_RDONLY && (flags & (O_CREAT | O_TRUNC)) == 0)) {
    if (!Quiet::now()) {
      const Quiet quiet;
      seen_path(folder, path);  // the folder is in use
    }
    return go();
  }
  const Quiet quiet;
  const std::string seen = seen_path(folder, path);
  if (seen.empty()) {
    return go();
  }
  struct stat status {};
  const bool there = ::fstatat(folder, path, &status, 0) == 0;
  Call call{.name = "open", .path = seen};
  call.made = !there && (flags & O_CREAT) != 0;
  call.truncated = there && (flags & O_TRUNC) != 0;
  if (const Verdict verdict = judge(call); verdict.error != 0) {
    return failed(verdict.error);
  }
  if (call.made && !faults::has_page()) {
    return failed(ENOSPC);
  }
  if (call.truncated) {
    faults::give_room(seen);
  }
  return go();
}

// All writes: `go(size)` does the first `size` bytes.
template <typename Go>
ssize_t write_some(int descriptor, const void* data, size_t size, off_t offset, Go go) {
  if (Quiet::now()) {
    return go(size);
  }
  const Quiet quiet;
  const std::string seen = seen_path(descriptor);
  if (seen.empty()) {
    return go(size);
  }
  if (offset < 0) {
    offset = std::max<off_t>(place_of(descriptor), 0);
  }
  const Verdict verdict = judge({.name = "write", .path = seen, .offset = offset, .data = data, .size = size});
  if (verdict.error != 0) {
    return failed(verdict.error);
  }
  size_t some = verdict.half ? size / 2 : size;
  some = faults::take_room(descriptor, offset, some);
  if (some == 0 && size > 0) {
    return failed(ENOSPC);
  }
  const ssize_t written = go(some);
  if (verdict.death) {
    faults::die();
  }
  return written;
}

// A call on one path, or of one path to another.
template <typename Go>
int change(const char* name, const std::string& path, const std::string& to, Go go) {
  const std::string& seen = path.empty() ? to : path;
  if (seen.empty()) {
    return static_cast<int>(go());
  }
  if (const Verdict verdict = judge({.name = name, .path = path, .to = to}); verdict.error != 0) {
    return failed(verdict.error);
  }
  return static_cast<int>(go());
}

// Syncs and closes are done, whatever is said of them.
template <typename Go>
int finish(const char* name, int descriptor, bool counts, Go go) {
  if (Quiet::now() || !counts) {
    return static_cast<int>(go());
  }
  const Quiet quiet;
  const std::string seen = seen_path(descriptor);
  if (seen.empty()) {
    return static_cast<int>(go());
  }
  const Verdict verdict = judge({.name = name, .path = seen});
  const auto done = static_cast<int>(go());
  return verdict.error != 0 ? failed(verdict.error) : done;
}

int rename_at(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  const auto go = [&] { return kernel(SYS_renameat2, from_folder, from, to_folder, to, flags); };
  if (Quiet::now()) {
    return static_cast<int>(go());
  }
  const Quiet quiet;
  const std::string target = seen_path(to_folder, to);
  return change("rename", seen_path(from_folder, from), target, [&] {
    if (!target.empty()) {
      faults::give_room(target);
    }
    return go();
  });
}

int unlink_at(int folder, const char* path, int flags) {
  const auto go = [&] { return kernel(SYS_unlinkat, folder, path, flags); };
  if (Quiet::now()) {
    return static_cast<int>(go());
  }
  const Quiet quiet;
  const std::string seen = seen_path(folder, path);
  return change((flags & AT_REMOVEDIR) != 0 ? "rmdir" : "unlink", seen, "", [&] {
    if (!seen.empty()) {
      faults::give_room(seen);
    }
    return go();
  });
}

int mkdir_at(int folder, const char* path, mode_t mode) {
  const auto go = [&] { return kernel(SYS_mkdirat, folder, path, mode); };
  if (Quiet::now()) {
    return static_cast<int>(go());
  }
  const Quiet quiet;
  const std::string seen = seen_path(folder, path);
  return change("mkdir", seen, "", [&]() -> long {
    struct stat status {};
    if (!seen.empty() && ::fstatat(folder, path, &status, 0) != 0 && !faults::has_page()) {
      return failed(ENOSPC);
    }
    return go();
  });
}

mode_t mode_of(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? static_cast<mode_t>(va_arg(arguments, unsigned)) : 0;
}

}  // namespace

#define OPEN(name)                                                              \
  int name(const char* path, int flags, ...) {                                  \
    va_list arguments;                                                          \
    va_start(arguments, flags);                                                 \
    const int done = open_at(AT_FDCWD, path, flags, mode_of(flags, arguments)); \
    va_end(arguments);                                                          \
    return done;                                                                \
  }
#define OPENAT(name)                                                          \
  int name(int folder, const char* path, int flags, ...) {                    \
    va_list arguments;                                                        \
    va_start(arguments, flags);                                               \
    const int done = open_at(folder, path, flags, mode_of(flags, arguments)); \
    va_end(arguments);                                                        \
    return done;                                                              \
  }

extern "C" {

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int __open_2(const char* path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char* path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __openat_2(int folder, const char* path, int flags) { return open_at(folder, path, flags, 0); }
int __openat64_2(int folder, const char* path, int flags) { return open_at(folder, path, flags, 0); }
int creat(const char* path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char* path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

ssize_t write(int descriptor, const void* data, size_t size) {
  return write_some(descriptor, data, size, -1, [&](size_t some) { return kernel(SYS_write, descriptor, data, some); });
}
ssize_t pwrite(int descriptor, const void* data, size_t size, off_t offset) {
  return write_some(descriptor, data, size, offset,
                    [&](size_t some) { return kernel(SYS_pwrite64, descriptor, data, some, offset); });
}
ssize_t pwrite64(int descriptor, const void* data, size_t size, off_t offset) {
  return pwrite(descriptor, data, size, offset);
}
ssize_t writev(int descriptor, const struct iovec* parts, int count) {
  if (Quiet::now() || descriptor <= STDERR_FILENO) {
    return kernel(SYS_writev, descriptor, parts, count);
  }
  std::string all;
  {
    const Quiet quiet;
    if (seen_path(descriptor).empty()) {
      return kernel(SYS_writev, descriptor, parts, count);
    }
    for (int i = 0; i < count; ++i) {
      all.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
    }
  }
  return write(descriptor, all.data(), all.size());
}

int fsync(int descriptor) {
  return finish("fsync", descriptor, true, [&] { return kernel(SYS_fsync, descriptor); });
}
int fdatasync(int descriptor) {
  return finish("fsync", descriptor, true, [&] { return kernel(SYS_fdatasync, descriptor); });
}
int close(int descriptor) {
  const bool counts = !Quiet::now() && descriptor > STDERR_FILENO && writable(descriptor);
  return finish("close", descriptor, counts, [&] { return kernel(SYS_close, descriptor); });
}

int rename(const char* from, const char* to) { return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_folder, const char* from, int to_folder, const char* to) {
  return rename_at(from_folder, from, to_folder, to, 0);
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  return rename_at(from_folder, from, to_folder, to, flags);
}

int mkdir(const char* path, mode_t mode) { return mkdir_at(AT_FDCWD, path, mode); }
int mkdirat(int folder, const char* path, mode_t mode) { return mkdir_at(folder, path, mode); }
int unlink(const char* path) noexcept { return unlink_at(AT_FDCWD, path, 0); }
int unlinkat(int folder, const char* path, int flags) noexcept { return unlink_at(folder, path, flags); }
int rmdir(const char* path) noexcept { return unlink_at(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char* path) noexcept {
  struct stat status {};
  const bool folder = ::lstat(path, &status) == 0 && S_ISDIR(status.st_mode);
  return unlink_at(AT_FDCWD, path, folder ? AT_REMOVEDIR : 0);
}

int ftruncate(int descriptor, off_t size) noexcept {
  const auto go = [&] { return static_cast<int>(kernel(SYS_ftruncate, descriptor, size)); };
  if (Quiet::now()) {
    return go();
  }
  const Quiet quiet;
  const std::string seen = seen_path(descriptor);
  if (seen.empty()) {
    return go();
  }
  Call call{.name = "truncate", .path = seen};
  call.offset = size;
  if (const Verdict verdict = judge(call); verdict.error != 0) {
    return failed(verdict.error);
  }
  faults::give_room(descriptor, size);
  return go();
}
int ftruncate64(int descriptor, off_t size) noexcept { return ftruncate(descriptor, size); }
int truncate(const char* path, off_t size) noexcept {
  const auto go = [&] { return static_cast<int>(kernel(SYS_truncate, path, size)); };
  if (Quiet::now()) {
    return go();
  }
  const Quiet quiet;
  const std::string seen = seen_path(AT_FDCWD, path);
  if (seen.empty()) {
    return go();
  }
  Call call{.name = "truncate", .path = seen};
  call.offset = size;
  if (const Verdict verdict = judge(call); verdict.error != 0) {
    return failed(verdict.error);
  }
  faults::give_room(seen, size);
  return go();
}
int truncate64(const char* path, off_t size) noexcept { return truncate(path, size); }

int posix_fallocate(int descriptor, off_t offset, off_t size) {
  const int done = finish("allocate", descriptor, true, [&] {
    const auto wanted = static_cast<size_t>(size);
    if (faults::take_room(descriptor, offset, wanted) < wanted) {
      return static_cast<long>(failed(ENOSPC));
    }
    return kernel(SYS_fallocate, descriptor, 0, offset, size);
  });
  return done == 0 ? 0 : errno;
}

int link(const char* from, const char* to) noexcept {
  if (Quiet::now()) {
    return static_cast<int>(kernel(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0));
  }
  const Quiet quiet;
  return change("link", seen_path(AT_FDCWD, from), seen_path(AT_FDCWD, to),
                [&] { return kernel(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0); });
}
int symlink(const char* from, const char* to) noexcept {
  if (Quiet::now()) {
    return static_cast<int>(kernel(SYS_symlinkat, from, AT_FDCWD, to));
  }
  const Quiet quiet;
  return change("symlink", seen_path(AT_FDCWD, to), from, [&] { return kernel(SYS_symlinkat, from, AT_FDCWD, to); });
}

}  // extern "C"
