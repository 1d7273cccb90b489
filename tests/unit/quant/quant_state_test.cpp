#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/quant/nf4_support.h"

namespace phi3tune::quant {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// json.dumps of QuantState.as_dict(packed=True), bitsandbytes 0.50.2, of a seeded 8 x 64 bf16 matrix.
constexpr const char* kNested =
    R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [8, 64], "nested_blocksize": 256, )"
    R"("nested_dtype": "float32", "nested_offset": 0.04656982421875})";
constexpr const char* kSingle = R"({"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": [8, 64]})";

TEST(QuantState, TextIsTheReferences) {
  Nf4Tensor tensor;
  tensor.rows = 8;
  tensor.cols = 64;
  tensor.offset = 0.04656982421875F;
  EXPECT_EQ(quant_state_json(tensor), kNested);
  tensor.double_quant = false;
  tensor.source = FloatType::kF16;
  EXPECT_EQ(quant_state_json(tensor), kSingle);
}

TEST(QuantState, OffsetIsPrintedAsPythonPrintsIt) {
  const std::pair<float, const char*> cases[] = {{0.0F, "0.0}"},
                                                 {1.0F, "1.0}"},
                                                 {0.1F, "0.10000000149011612}"},
                                                 {1e-5F, "9.999999747378752e-06}"},
                                                 {0.00012207031F, "0.0001220703125}"},
                                                 {16777216.0F, "16777216.0}"}};
  for (const auto& [offset, text] : cases) {
    Nf4Tensor tensor;
    tensor.rows = 1;
    tensor.cols = 64;
    tensor.offset = offset;
    EXPECT_THAT(quant_state_json(tensor), testing::EndsWith(std::string(" ") + text));
  }
}

TEST(QuantState, ReadsWhatItWrites) {
  Nf4Tensor tensor;
  parse_quant_state(kNested, "here", tensor);
  EXPECT_EQ(tensor.rows, 8);
  EXPECT_EQ(tensor.cols, 64);
  EXPECT_EQ(tensor.block_size, 64);
  EXPECT_EQ(tensor.source, FloatType::kBF16);
  EXPECT_TRUE(tensor.double_quant);
  EXPECT_EQ(tensor.offset, 0.04656982421875F);
  EXPECT_EQ(quant_state_json(tensor), kNested);
  Nf4Tensor single;
  parse_quant_state(kSingle, "here", single);
  EXPECT_FALSE(single.double_quant);
  EXPECT_EQ(quant_state_json(single), kSingle);
}

TEST(QuantState, MembersMayComeInAnyOrder) {
  Nf4Tensor tensor;
  parse_quant_state(R"({"nested_offset":1,"shape":[3,128],"nested_dtype":"float32","dtype":"float32",)"
                    R"("quant_type":"nf4","nested_blocksize":256,"blocksize":128})",
                    "here", tensor);
  EXPECT_EQ(tensor.rows, 3);
  EXPECT_EQ(tensor.cols, 128);
  EXPECT_EQ(tensor.block_size, 128);
  EXPECT_EQ(tensor.source, FloatType::kF32);
  EXPECT_EQ(tensor.offset, 1.0F);
}

struct Hostile {
  const char* text;
  const char* says;
};

class HostileState : public testing::TestWithParam<Hostile> {};

TEST_P(HostileState, IsRefusedWithPlaceAndReason) {
  Nf4Tensor tensor;
  try {
    parse_quant_state(GetParam().text, "base/x.safetensors: layer.weight", tensor);
    FAIL() << "accepted: " << GetParam().text;
  } catch (const ModelError& error) {
    EXPECT_THAT(error.what(),
                AllOf(testing::StartsWith("base/x.safetensors: layer.weight: "), HasSubstr(GetParam().says)));
  }
}

#define REST R"(, "blocksize": 64, "dtype": "bfloat16", "shape": [8, 64]})"
#define NF4 R"({"quant_type": "nf4", "dtype": "bfloat16")"
INSTANTIATE_TEST_SUITE_P(
    Nf4, HostileState,
    testing::Values(
        Hostile{"", "not JSON"}, Hostile{"[]", "array"}, Hostile{"{", "not JSON"}, Hostile{"null", "null"},
        Hostile{R"({"quant_type": "fp4")" REST, "fp4"}, Hostile{R"({"quant_type": 4)" REST, "expected a string"},
        Hostile{R"({"blocksize": 64})", "quant_type"},
        Hostile{R"({"quant_type": "nf4", "quant_type": "nf4")" REST, "not JSON"},
        Hostile{R"({"quant_type": "nf4", "surprise": 1)" REST, "surprise"},
        Hostile{NF4 R"(, "shape": [8, 64]})", "\"blocksize\""},
        Hostile{NF4 R"(, "blocksize": 63, "shape": [8, 64]})", "63"},
        Hostile{NF4 R"(, "blocksize": 0, "shape": [8, 64]})", "blocksize"},
        Hostile{NF4 R"(, "blocksize": -64, "shape": [8, 64]})", "-64"},
        Hostile{NF4 R"(, "blocksize": 8192, "shape": [8, 64]})", "8192"},
        Hostile{NF4 R"(, "blocksize": 64.5, "shape": [8, 64]})", "whole number"},
        Hostile{NF4 R"(, "blocksize": true, "shape": [8, 64]})", "whole number"},
        Hostile{NF4 R"(, "blocksize": 18446744073709551615, "shape": [8, 64]})", "whole number"},
        Hostile{NF4 R"(, "blocksize": 64})", "shape"}, Hostile{NF4 R"(, "blocksize": 64, "shape": null})", "shape"},
        Hostile{NF4 R"(, "blocksize": 64, "shape": [512]})", "shape"},
        Hostile{NF4 R"(, "blocksize": 64, "shape": [8, 0]})", "above 0"},
        Hostile{NF4 R"(, "blocksize": 64, "shape": [8, -64]})", "above 0"},
        Hostile{NF4 R"(, "blocksize": 64, "shape": [4294967296, 4294967296]})", "shape"},
        Hostile{NF4 R"(, "blocksize": 64, "shape": ["8", 64]})", "whole number"},
        Hostile{R"({"quant_type": "nf4", "dtype": "int8", "blocksize": 64, "shape": [8, 64]})", "int8"},
        Hostile{NF4 R"(, "blocksize": 64, "shape": [8, 64], "nested_blocksize": 128})", "128"},
        Hostile{NF4 R"(, "blocksize": 64, "shape": [8, 64], "nested_offset": 0.5})", "nested_blocksize"},
        Hostile{NF4 R"(, "blocksize": 64, "shape": [8, 64], "nested_blocksize": 256, "nested_dtype": "float16"})",
                "float16"},
        Hostile{NF4 R"(, "blocksize": 64, "shape": [8, 64], "nested_blocksize": 256, "nested_dtype": "float32"})",
                "nested_offset"},
        Hostile{NF4 R"(, "blocksize": 64, "shape": [8, 64], "nested_blocksize": 256, "nested_dtype": "float32", )"
                    R"("nested_offset": 1e300})",
                "finite"},
        Hostile{NF4 R"(, "blocksize": 64, "shape": [8, 64], "nested_blocksize": 256, "nested_dtype": "float32", )"
                    R"("nested_offset": NaN})",
                "not JSON"},
        Hostile{NF4 R"(, "blocksize": 64, "shape": [8, 64], "nested_blocksize": 256, "nested_dtype": "float32", )"
                    R"("nested_offset": "0.5"})",
                "finite"}));

Nf4Tensor sound_tensor() {
  return quantize_nf4(as_bytes(some_weights(300 * 64, 1), FloatType::kBF16), FloatType::kBF16, 300, 64, {});
}

TEST(CheckNf4, AcceptsOurOwn) {
  EXPECT_NO_THROW(check_nf4(sound_tensor(), "here"));
  EXPECT_NO_THROW(check_nf4(
      quantize_nf4(as_bytes(some_weights(640, 1), FloatType::kF32), FloatType::kF32, 10, 64, {.double_quant = false}),
      "here"));
}

TEST(CheckNf4, RefusesEachVectorOfTheWrongLength) {
  const auto refused = [](auto spoil, const char* says) {
    Nf4Tensor tensor = sound_tensor();
    spoil(tensor);
    try {
      check_nf4(tensor, "here");
      FAIL() << "accepted: " << says;
    } catch (const ModelError& error) {
      EXPECT_THAT(error.what(), AllOf(testing::StartsWith("here: "), HasSubstr(says)));
    }
  };
  refused([](Nf4Tensor& t) { t.packed.pop_back(); }, "packed");
  refused([](Nf4Tensor& t) { t.packed.push_back(0); }, "packed");
  refused([](Nf4Tensor& t) { t.nested_codes.pop_back(); }, "absmax");
  refused([](Nf4Tensor& t) { t.nested_absmax.pop_back(); }, "nested_absmax");
  refused([](Nf4Tensor& t) { t.nested_codes.clear(); }, "absmax");
  refused([](Nf4Tensor& t) { t.double_quant = false; }, "absmax");
  refused([](Nf4Tensor& t) { t.rows = 301; }, "[301, 64]");
  refused([](Nf4Tensor& t) { t.nested_absmax[1] = NAN; }, "nested_absmax[1]");
  refused([](Nf4Tensor& t) { t.nested_map[7] = INFINITY; }, "nested_quant_map[7]");
  refused([](Nf4Tensor& t) { t.code[3] = NAN; }, "quant_map[3]");
}

TEST(QuantState, MustAgreeWithWhatIsAlreadyKnown) {
  Nf4Tensor tensor;
  tensor.rows = 9;
  tensor.cols = 64;
  EXPECT_THROW(parse_quant_state(kNested, "here", tensor), ModelError);
  Nf4Tensor packed;
  packed.packed.resize(100);
  EXPECT_THROW(parse_quant_state(kNested, "here", packed), ModelError);
}

}  // namespace
}  // namespace phi3tune::quant
