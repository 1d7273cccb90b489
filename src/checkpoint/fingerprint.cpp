#include "phi3tune/checkpoint/fingerprint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <link.h>
#include <torch/headeronly/version.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "phi3tune/core/error.h"
#include "phi3tune/core/hash.h"

namespace phi3tune::checkpoint {
namespace {

int collect_own_library(dl_phdr_info* info, size_t, void* data) {
  const std::string path = info->dlpi_name == nullptr ? "" : info->dlpi_name;
  const std::string_view name = std::string_view(path).substr(path.rfind('/') + 1);
  if (name.starts_with("libphi3tune_")) {
    static_cast<std::vector<std::string>*>(data)->push_back(path);
  }
  return 0;
}

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

std::string hash_file(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    throw ModelError("{}: cannot read: {}", path, std::strerror(errno));
  }
  StreamHash hash;
  std::vector<char> buffer(size_t{1} << 20);
  for (;;) {
    const ssize_t count = ::read(descriptor, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      const int reason = errno;
      ::close(descriptor);
      throw ModelError("{}: cannot read: {}", path, std::strerror(reason));
    }
    if (count == 0) {
      break;
    }
    hash.update({buffer.data(), static_cast<size_t>(count)});
  }
  ::close(descriptor);
  return hash.digest().hex();
}

std::string program_fingerprint() {
  std::vector<std::string> libraries;
  dl_iterate_phdr(collect_own_library, &libraries);
  std::sort(libraries.begin(), libraries.end(),
            [](const std::string& a, const std::string& b) { return base_name(a) < base_name(b); });
  std::string hashes = hash_file("/proc/self/exe");
  for (const std::string& library : libraries) {
    hashes += hash_file(library);
  }
  return hash_bytes(hashes).hex();
}

std::vector<std::pair<std::string, std::string>> versions(const std::string& program_version) {
  return {{"phi3-tune", program_version},
          {"libtorch", fmt::format("{}.{}.{}", TORCH_VERSION_MAJOR, TORCH_VERSION_MINOR, TORCH_VERSION_PATCH)},
          {"compiler", "g++ " __VERSION__}};
}

}  // namespace phi3tune::checkpoint
