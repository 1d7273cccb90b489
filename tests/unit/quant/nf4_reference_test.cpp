// Bytes of bitsandbytes (tests/references/README.md says how they were made).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "unit/quant/nf4_support.h"

namespace phi3tune::quant {
namespace {

const std::string kPath = std::string(PHI3TUNE_SOURCE_DIR) + "/tests/references/nf4.safetensors";

// Names of the inputs: tensors without a dot that are matrices.
std::vector<std::string> inputs(const ReferenceFile& file) {
  std::vector<std::string> names;
  for (const io::TensorEntry& entry : file.header().tensors) {
    if (entry.name.find('.') == std::string::npos && entry.shape.size() == 2) {
      names.push_back(entry.name);
    }
  }
  return names;
}

class Nf4Reference : public testing::Test {
 protected:
  // Quantises `name` by `rule`, with the reference's offset if `given`.
  Nf4Tensor quantize(const std::string& name, NestedRule rule, bool given) const {
    const io::TensorEntry& entry = file_.entry(name);
    const auto weights = file_.read<std::byte>(name);
    const float offset = file_.read<float>(name + ".lookup.nested_offset").at(0);
    return quantize_nf4(weights, float_type(entry.dtype), entry.shape[0], entry.shape[1], {.nested_rule = rule},
                        given ? &offset : nullptr);
  }

  ReferenceFile file_{kPath};
};

TEST_F(Nf4Reference, HoldsFifteenTensors) { EXPECT_EQ(inputs(file_).size(), 15U); }

TEST_F(Nf4Reference, TablesAreTheReferenceToTheBit) {
  const auto code = file_.read<uint32_t>("quant_map");
  const auto map = file_.read<uint32_t>("nested_quant_map");
  ASSERT_EQ(code.size(), 16U);
  ASSERT_EQ(map.size(), 256U);
  for (size_t i = 0; i < 16; ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(kNf4Code[i]), code[i]) << i;
  }
  for (size_t i = 0; i < 256; ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(signed_dynamic_map()[i]), map[i]) << i;
  }
}

TEST_F(Nf4Reference, LookupRuleGivesTheBytesOfTheCpuLibrary) {
  for (const std::string& name : inputs(file_)) {
    SCOPED_TRACE(name);
    const Nf4Tensor ours = quantize(name, NestedRule::kLookup, true);
    const std::string rule = name + ".lookup.";
    auto packed = file_.read<uint8_t>(rule + "packed");
    // Blocks of zeros are the one known difference: 0x77 there, 0x00 in ours and on a GPU.
    const auto absmax = file_.read<float>(rule + "block_absmax");
    ASSERT_EQ(packed.size(), ours.packed.size());
    for (size_t block = 0; block < absmax.size(); ++block) {
      if (absmax[block] <= 1e-38F) {
        const size_t end = std::min(packed.size(), (block + 1) * 32);
        for (size_t i = block * 32; i < end; ++i) {
          EXPECT_EQ(packed[i], 0x77);
          packed[i] = 0;
        }
      }
    }
    EXPECT_TRUE(std::ranges::equal(ours.packed, packed));
    EXPECT_EQ(ours.nested_codes, file_.read<uint8_t>(rule + "absmax"));
    EXPECT_EQ(ours.nested_absmax, file_.read<float>(rule + "nested_absmax"));
    EXPECT_EQ(restored_absmax(ours), file_.read<float>(rule + "absmax_restored"));
  }
}

TEST_F(Nf4Reference, DequantisesTheReferenceBytesToItsValues) {
  for (const std::string& name : inputs(file_)) {
    SCOPED_TRACE(name);
    const io::TensorEntry& entry = file_.entry(name);
    const std::string rule = name + ".lookup.";
    Nf4Tensor tensor;
    tensor.rows = entry.shape[0];
    tensor.cols = entry.shape[1];
    tensor.source = float_type(entry.dtype);
    const auto packed = file_.read<uint8_t>(rule + "packed");
    tensor.packed.assign(packed.begin(), packed.end());
    tensor.nested_codes = file_.read<uint8_t>(rule + "absmax");
    tensor.nested_absmax = file_.read<float>(rule + "nested_absmax");
    tensor.offset = file_.read<float>(rule + "nested_offset").at(0);
    std::ranges::copy(file_.read<float>("quant_map"), tensor.code.begin());
    std::ranges::copy(file_.read<float>("nested_quant_map"), tensor.nested_map.begin());
    check_nf4(tensor, name);
    const auto wanted = file_.read<std::byte>(rule + "dequantised");
    std::vector<std::byte> values(wanted.size());
    dequantize_nf4(tensor, 0, tensor.numel(), tensor.source, values.data());
    EXPECT_TRUE(values == wanted);
  }
}

TEST_F(Nf4Reference, SearchRuleGivesTheBytesOfTheGpuKernels) {
  size_t unlike_lookup = 0;
  for (const std::string& name : inputs(file_)) {
    SCOPED_TRACE(name);
    const Nf4Tensor ours = quantize(name, NestedRule::kCuda, false);
    const std::string rule = name + ".search.";
    EXPECT_TRUE(std::ranges::equal(ours.packed, file_.read<uint8_t>(rule + "packed")));
    EXPECT_EQ(ours.nested_codes, file_.read<uint8_t>(rule + "absmax"));
    EXPECT_EQ(ours.nested_absmax, file_.read<float>(rule + "nested_absmax"));
    EXPECT_EQ(ours.offset, file_.read<float>(rule + "nested_offset").at(0));
    EXPECT_EQ(restored_absmax(ours), file_.read<float>(rule + "absmax_restored"));
    unlike_lookup += ours.nested_codes != quantize(name, NestedRule::kLookup, false).nested_codes ? 1U : 0U;
  }
  EXPECT_GE(unlike_lookup, 1U) << "the rules should differ somewhere, or this test shows nothing";
}

TEST_F(Nf4Reference, SingleQuantisationKeepsTheBlockMaxima) {
  for (const std::string& name : inputs(file_)) {
    SCOPED_TRACE(name);
    const io::TensorEntry& entry = file_.entry(name);
    const Nf4Tensor ours = quantize_nf4(file_.read<std::byte>(name), float_type(entry.dtype), entry.shape[0],
                                        entry.shape[1], {.double_quant = false});
    EXPECT_EQ(ours.absmax, file_.read<float>(name + ".search.block_absmax"));
    EXPECT_TRUE(std::ranges::equal(ours.packed, file_.read<uint8_t>(name + ".search.packed")));
    EXPECT_TRUE(ours.nested_codes.empty());
  }
}

}  // namespace
}  // namespace phi3tune::quant
