#include "cuda_plugin.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <type_traits>

namespace phi3tune::commands {
namespace {

std::string loader_error() {
  const char* text = dlerror();
  return text == nullptr ? "no reason given" : text;
}

std::string beside_the_program() {
  std::error_code code;
  return (std::filesystem::read_symlink("/proc/self/exe", code).parent_path() / cuda::kPluginLibrary).string();
}

}  // namespace

// PHI3TUNE_CUDA_PLUGIN names another library, which brings its own device: a rehearsal without a GPU.
const CudaPlugin& CudaPlugin::of_process() {
  static const CudaPlugin plugin = [] {
    const char* named = std::getenv("PHI3TUNE_CUDA_PLUGIN");
    return named != nullptr && *named != '\0' ? CudaPlugin("", named)
                                              : CudaPlugin("libcuda.so.1", beside_the_program());
  }();
  return plugin;
}

CudaPlugin::CudaPlugin(const std::string& driver, const std::string& library)
    : rehearses_(driver.empty()), missing_(load(driver, library)) {}

// Nothing is ever closed: libtorch does not survive it.
std::string CudaPlugin::load(const std::string& driver, const std::string& library) {
  if (!driver.empty() && dlopen(driver.c_str(), RTLD_NOW) == nullptr) {
    return fmt::format("no NVIDIA driver ({}) on this machine", driver);
  }
  found_driver_ = true;
  if (std::error_code code; !std::filesystem::exists(library, code)) {
    if (rehearses_) {
      return fmt::format("PHI3TUNE_CUDA_PLUGIN names {}, which is not there", library);
    }
    return fmt::format("this build has no {}: scripts/setup fetches nvcc, scripts/build makes it", library);
  }
  void* const plugin = dlopen(library.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (plugin == nullptr) {
    return fmt::format(
        "{} cannot be loaded: {}; scripts/setup --gpu fetches the libraries that libtorch wants on a GPU", library,
        loader_error());
  }
  std::string strange;
  const auto find = [&](auto*& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(plugin, name));
    if (function == nullptr && strange.empty()) {
      strange = fmt::format("{} has no {}: it is of another version; build it again with scripts/build", library, name);
    }
  };
  find(open_, cuda::kPluginOpenSymbol);
  find(describe_, cuda::kPluginDescribeSymbol);
  find(counters_, cuda::kPluginCountersSymbol);
  return strange;
}

}  // namespace phi3tune::commands
