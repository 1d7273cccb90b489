// The plug-in beside this program, or the file that PHI3TUNE_CUDA_PLUGIN names. Without a GPU to open: exit code 77.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "phi3tune/core/error.h"
#include "phi3tune/cuda/plugin.h"
#include "unit/cuda/backend_under_test.h"

namespace {

const phi3tune::ops::Backend* opened = nullptr;

const phi3tune::ops::Backend* open_plugin() {
  using namespace phi3tune::cuda;
  const char* named = std::getenv("PHI3TUNE_CUDA_PLUGIN");
  const auto beside = std::filesystem::read_symlink("/proc/self/exe").parent_path() / kPluginLibrary;
  void* const library = dlopen(named != nullptr ? named : beside.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    std::printf("no device: %s\n", dlerror());
    return nullptr;
  }
  try {
    return &reinterpret_cast<PluginOpen*>(dlsym(library, kPluginOpenSymbol))(0);
  } catch (const phi3tune::ResourceError& error) {
    std::printf("no device: %s\n", error.what());
    return nullptr;
  }
}

}  // namespace

const phi3tune::ops::Backend& phi3tune::cuda::test::backend_under_test() { return *opened; }

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  opened = open_plugin();
  return opened == nullptr ? 77 : RUN_ALL_TESTS();
}
