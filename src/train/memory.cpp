#include "phi3tune/train/memory.h"

#include <cstdio>
#include <cstring>

namespace phi3tune::train {

uint64_t peak_resident_bytes() noexcept {
  std::FILE* status = std::fopen("/proc/self/status", "re");
  if (status == nullptr) {
    return 0;
  }
  char line[256];
  unsigned long long kibibytes = 0;
  while (std::fgets(line, sizeof line, status) != nullptr) {
    if (std::sscanf(line, "VmHWM: %llu kB", &kibibytes) == 1) {
      break;
    }
  }
  std::fclose(status);
  return kibibytes * 1024;
}

}  // namespace phi3tune::train
