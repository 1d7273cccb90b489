#include "commands/engine/cuda_plugin.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <link.h>

#include "support/temp_folder.h"

namespace phi3tune::commands {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kSomeLibrary = "libm.so.6";  // stands in for a driver

TEST(CudaPlugin, WithoutADriverThePluginIsNotTouched) {
  const test::TempFolder folder;
  const CudaPlugin plugin("libno-such-driver.so.1", folder.write("libphi3tune_cuda.so", "not a library"));
  EXPECT_EQ(plugin.missing(), "no NVIDIA driver (libno-such-driver.so.1) on this machine");
}

TEST(CudaPlugin, ABuildWithoutThePluginSaysSo) {
  const test::TempFolder folder;
  const std::string library = folder / "libphi3tune_cuda.so";
  EXPECT_THAT(CudaPlugin(kSomeLibrary, library).missing(), StartsWith("this build has no " + library));
}

TEST(CudaPlugin, TheLoadersReasonIsPassedOn) {
  const test::TempFolder folder;
  const std::string library = folder.write("libphi3tune_cuda.so", "not a library");
  EXPECT_THAT(CudaPlugin(kSomeLibrary, library).missing(),
              AllOf(HasSubstr("cannot be loaded"), HasSubstr("file too short")));
}

TEST(CudaPlugin, ALibraryOfAnotherVersionIsRefused) {
  void* const library = dlopen(kSomeLibrary, RTLD_NOW);
  link_map* place = nullptr;
  ASSERT_EQ(dlinfo(library, RTLD_DI_LINKMAP, &place), 0);
  EXPECT_THAT(CudaPlugin(kSomeLibrary, place->l_name).missing(),
              AllOf(HasSubstr("has no phi3tune_cuda_open"), HasSubstr("it is of another version")));
}

}  // namespace
}  // namespace phi3tune::commands
