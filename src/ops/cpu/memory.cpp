// The CPU computes where the host's memory is: ways in and out are copies.
#include "ops/cpu/memory.h"

#include <ATen/ATen.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

namespace phi3tune::ops::cpu {
namespace {

at::Tensor allocate(size_t bytes) {
  try {
    return at::empty({static_cast<int64_t>(bytes)}, at::dtype(at::kByte));
  } catch (const c10::Error&) {
    throw ResourceError(
        "memory: {} could not be allocated; use a smaller micro_batch_size or sequence_len, or "
        "gradient_checkpointing: block",
        format_bytes(bytes));
  }
}

void upload(const at::Tensor& to, const void* from) {
  if (to.numel() > 0) {
    std::memcpy(to.data_ptr(), from, to.nbytes());
  }
}
void download(void* to, const at::Tensor& from) {
  if (from.numel() > 0) {
    std::memcpy(to, from.data_ptr(), from.nbytes());
  }
}
void offload(const at::Tensor& host, const at::Tensor& from, int /*slot*/) { upload(host, from.data_ptr()); }
void fetch(const at::Tensor& to, const at::Tensor& host, int /*slot*/) { upload(to, host.data_ptr()); }
void await(int /*slot*/) {}
size_t library_bytes() { return 0; }

// What a program may still take: MemAvailable, which counts caches that would be given back.
size_t available() {
  std::ifstream meminfo("/proc/meminfo");
  std::string line;
  while (std::getline(meminfo, line)) {
    std::istringstream words(line);
    std::string key;
    size_t kib = 0;
    if (words >> key >> kib && key == "MemAvailable:") {
      return kib * 1024;
    }
  }
  return static_cast<size_t>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

Memory::Room room() {
  const auto pages = static_cast<size_t>(sysconf(_SC_PHYS_PAGES));
  return {pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)), available(), 0};
}

}  // namespace

const Memory kMemory{.device = at::Device(at::kCPU),
                     .allocate = allocate,
                     .upload = upload,
                     .download = download,
                     .allocate_host = allocate,
                     .offload = offload,
                     .fetch = fetch,
                     .await = await,
                     .library_bytes = library_bytes,
                     .room = room};

}  // namespace phi3tune::ops::cpu
