// Listing folders and asking for a disk's room, in front of libc's.
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <string>

#include "plan.h"
#include "room.h"

using faults::judge;
using faults::Quiet;
using faults::seen_path;

namespace {

template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

bool refused(const char* name, const std::string& seen) {
  if (seen.empty()) {
    return false;
  }
  const int error = judge({.name = name, .path = seen}).error;
  errno = error != 0 ? error : errno;
  return error != 0;
}

template <typename Entry>
Entry* read_entry(const char* name, DIR* folder) {
  static auto* const real = next<Entry*(DIR*)>(name);
  if (!Quiet::now()) {
    const Quiet quiet;
    if (refused("readdir", seen_path(::dirfd(folder)))) {
      return nullptr;
    }
  }
  return real(folder);
}

template <typename Status>
int ask(const char* name, const char* path, Status* status) {
  static auto* const real = next<int(const char*, Status*)>(name);
  const Quiet quiet;
  const std::string seen = seen_path(AT_FDCWD, path);
  if (refused("statvfs", seen)) {
    return -1;
  }
  const int done = real(path, status);
  if (done == 0 && !seen.empty() && faults::room_is_limited()) {
    status->f_bsize = status->f_frsize = 4096;
    status->f_blocks = static_cast<decltype(status->f_blocks)>(faults::whole_room() / 4096);
    status->f_bfree = status->f_bavail = static_cast<decltype(status->f_bavail)>(faults::said_room() / 4096);
  }
  return done;
}

}  // namespace

extern "C" {

DIR* opendir(const char* path) {
  static auto* const real = next<DIR*(const char*)>("opendir");
  if (!Quiet::now()) {
    const Quiet quiet;
    if (refused("opendir", seen_path(AT_FDCWD, path))) {
      return nullptr;
    }
  }
  return real(path);
}
DIR* fdopendir(int descriptor) {
  static auto* const real = next<DIR*(int)>("fdopendir");
  if (!Quiet::now()) {
    const Quiet quiet;
    if (refused("opendir", seen_path(descriptor))) {
      return nullptr;
    }
  }
  return real(descriptor);
}
struct dirent* readdir(DIR* folder) {
  return read_entry<struct dirent>("readdir", folder);
}
struct dirent64* readdir64(DIR* folder) {
  return read_entry<struct dirent64>("readdir64", folder);
}
int statvfs(const char* path, struct statvfs* status) noexcept { return ask("statvfs", path, status); }
int statvfs64(const char* path, struct statvfs64* status) noexcept { return ask("statvfs64", path, status); }

}  // extern "C"
