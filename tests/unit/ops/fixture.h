// Every vector kernel is tested in each dtype and for each instruction set that this processor has.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "ops/checks.h"
#include "ops/cpu/kernels.h"
#include "phi3tune/core/error.h"
#include "phi3tune/ops/definitions.h"
#include "phi3tune/ops/ops.h"
#include "support/tensors.h"

namespace phi3tune::ops::test {

using namespace phi3tune::test;

class ByKernel : public testing::TestWithParam<std::tuple<const char*, at::ScalarType>> {
 protected:
  void SetUp() override {
    before_ = cpu::kernels().isa;
    if (!cpu::force_kernels(std::get<0>(GetParam()))) {
      GTEST_SKIP() << "this processor has no " << std::get<0>(GetParam());
    }
    at::manual_seed(7);
  }
  void TearDown() override { cpu::force_kernels(before_); }
  at::ScalarType dtype() const { return std::get<1>(GetParam()); }
  at::ScalarType wide() const { return wide_dtype(dtype()); }

 private:
  const char* before_ = nullptr;
};

inline std::string kernel_name(const testing::TestParamInfo<ByKernel::ParamType>& info) {
  return std::string(std::get<0>(info.param)) + "_" + c10::toString(std::get<1>(info.param));
}

#define FOR_ALL_KERNELS(Suite)                                                                        \
  INSTANTIATE_TEST_SUITE_P(Kernels, Suite,                                                            \
                           testing::Combine(testing::Values("avx512", "avx2", "portable"),            \
                                            testing::Values(at::kFloat, at::kBFloat16, at::kDouble)), \
                           kernel_name)

class ByDtype : public testing::TestWithParam<at::ScalarType> {
 protected:
  void SetUp() override { at::manual_seed(7); }
  at::ScalarType dtype() const { return GetParam(); }
  at::ScalarType wide() const { return wide_dtype(dtype()); }
};

#define FOR_ALL_DTYPES(Suite)                                                                      \
  INSTANTIATE_TEST_SUITE_P(Dtypes, Suite, testing::Values(at::kFloat, at::kBFloat16, at::kDouble), \
                           [](const auto& info) { return std::string(c10::toString(info.param)); })

}  // namespace phi3tune::ops::test
