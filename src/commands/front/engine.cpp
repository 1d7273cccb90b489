#include "commands/front/engine.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>

#include "phi3tune/core/error.h"

namespace phi3tune::commands {
namespace {

// oneDNN, and ATen's layer above it, keep what they compiled for each shape of a product, by default for the last 1024
// shapes. Rows of free length make new shapes at every step: memory then grows by 10 to 20 MiB a step for the first
// hundred steps. A step has about 40 shapes. Both read their variable once, when they are loaded.
void bound_kernel_caches() {
  setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128", /*overwrite=*/0);
  setenv("LRU_CACHE_CAPACITY", "128", /*overwrite=*/0);
}

}  // namespace

std::string program_folder() {
  std::error_code code;
  return std::filesystem::read_symlink("/proc/self/exe", code).parent_path().string();
}

Engine Engine::load() {
  const auto path = program_folder() + "/" + kEngineLibrary;
  bound_kernel_caches();
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    const char* reason = dlerror();
    throw ResourceError(
        "the engine cannot be loaded: {}; it belongs beside the program, with libtorch where "
        "scripts/setup put it: run scripts/build",
        reason == nullptr ? path : reason);
  }
  // Never closed: libtorch does not survive it.
  return Engine(library);
}

void* Engine::symbol(const char* name) const {
  void* found = dlsym(library_, name);
  if (found == nullptr) {
    throw ResourceError("{} in {} has no {}: it is of another version; build both again with scripts/build",
                        kEngineLibrary, program_folder(), name);
  }
  return found;
}

}  // namespace phi3tune::commands
