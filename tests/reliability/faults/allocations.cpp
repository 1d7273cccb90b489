// Memory that runs out: the allocation number PHI3TUNE_FAULTS_ALLOCATE_AT of PHI3TUNE_FAULTS_ALLOCATE_FROM bytes or
// more fails (PHI3TUNE_FAULTS_PERSIST=1: and every later one), counted from the first call on a file below the folder,
// so that starting the program is left alone. PHI3TUNE_FAULTS_ALLOCATE_COUNT names a file that gets one byte a counted
// allocation.
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>

#include "plan.h"

extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* old, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
}

namespace {

int64_t number_of(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? 0 : std::atoll(text);
}

// Read on the first allocations of the process, before anything is constructed: nothing here may allocate.
struct Limits {
  int64_t at = 0;
  int64_t from = 0;
  bool persist = false;
  int count_file = -1;
};

std::atomic<int64_t> count{0};
std::atomic<bool> known{false};
constinit Limits limits;

bool refused(size_t size) {
  if (!known) {
    // environ is not set up before the first allocations of the loader.
    if (::environ == nullptr) {
      return false;
    }
    limits.at = number_of("PHI3TUNE_FAULTS_ALLOCATE_AT");
    limits.from = number_of("PHI3TUNE_FAULTS_ALLOCATE_FROM");
    limits.persist = number_of("PHI3TUNE_FAULTS_PERSIST") == 1;
    if (const char* path = std::getenv("PHI3TUNE_FAULTS_ALLOCATE_COUNT")) {
      limits.count_file =
          static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
    }
    known = true;
  }
  if (limits.from == 0 || size < static_cast<size_t>(limits.from) || !faults::folder_in_use() || faults::Quiet::now()) {
    return false;
  }
  const int64_t now = ++count;
  if (limits.count_file >= 0) {
    ::syscall(SYS_write, limits.count_file, ".", 1);
  }
  return limits.at > 0 && (now == limits.at || (limits.persist && now > limits.at));
}

void* nothing() {
  errno = ENOMEM;
  return nullptr;
}

}  // namespace

extern "C" {

void* malloc(size_t size) { return refused(size) ? nothing() : __libc_malloc(size); }
void* calloc(size_t number, size_t size) { return refused(number * size) ? nothing() : __libc_calloc(number, size); }
void* realloc(void* old, size_t size) { return refused(size) ? nothing() : __libc_realloc(old, size); }
void* memalign(size_t alignment, size_t size) { return refused(size) ? nothing() : __libc_memalign(alignment, size); }
void* aligned_alloc(size_t alignment, size_t size) {
  return refused(size) ? nothing() : __libc_memalign(alignment, size);
}
int posix_memalign(void** place, size_t alignment, size_t size) {
  void* const found = refused(size) ? nullptr : __libc_memalign(alignment, size);
  if (found == nullptr) {
    return ENOMEM;
  }
  *place = found;
  return 0;
}

}  // extern "C"
