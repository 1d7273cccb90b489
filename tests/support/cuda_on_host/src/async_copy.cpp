// cp.async: at once under odd schedules, as late as the wait allows under even ones.
#include <algorithm>
#include <cstring>

#include "checker.h"
#include "machine.h"
#include "memory.h"
#include "report.h"

namespace cuda_on_host {
namespace {

void perform(const Copy& copy) {
  const void* code = __builtin_return_address(0);
  const size_t read = copy.size - copy.zfill;
  check_access(reinterpret_cast<uintptr_t>(copy.from), read, false, false, code);
  check_access(reinterpret_cast<uintptr_t>(copy.to), copy.size, true, false, code);
  std::memcpy(copy.to, copy.from, read);
  std::memset(static_cast<char*>(copy.to) + read, 0, copy.zfill);
}

}  // namespace

void copy_async(void* shared, const void* global, size_t size, size_t zfill, Site site) {
  const auto to = reinterpret_cast<uintptr_t>(shared), from = reinterpret_cast<uintptr_t>(global);
  if ((size != 4 && size != 8 && size != 16) || zfill > size)
    stop("cp.async of %zu bytes (zero fill %zu), %s:%d", size, zfill, site.file, site.line);
  if (to % size || from % size)
    stop("cp.async of %zu bytes at an address that is no multiple of that, %s:%d", size, site.file, site.line);
  if (!is_shared(to, size)) stop("cp.async to an address outside shared memory, %s:%d", site.file, site.line);
  const Copy copy{shared, global, size, zfill, machine.current->group};
  if (machine.seed % 2) {
    perform(copy);
  } else {
    machine.current->copies.push_back(copy);
  }
}

void commit_copies() { ++machine.current->group; }

void wait_copies(size_t groups) {
  Thread& self = *machine.current;
  const auto still_flying = [&](const Copy& copy) { return copy.group + groups >= self.group; };
  const auto landing = std::partition(self.copies.begin(), self.copies.end(), still_flying);
  std::for_each(landing, self.copies.end(), perform);
  self.copies.erase(landing, self.copies.end());
}

}  // namespace cuda_on_host
