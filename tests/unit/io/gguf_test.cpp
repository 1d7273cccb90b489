#include "phi3tune/io/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "phi3tune/core/error.h"
#include "support/temp_folder.h"

namespace phi3tune::io {
namespace {

using test::TempFolder;
using testing::ElementsAre;
using testing::HasSubstr;

const float kValues[6] = {1, 2, 3, 4, 5, -6};
const uint16_t kHalves[3] = {0x3C00, 0xC000, 0x0001};

std::string write_small(const TempFolder& folder) {
  write_gguf(
      folder / "a.gguf",
      {{"general.type", std::string("adapter")}, {"general.file_type", uint32_t{1}}, {"adapter.lora.alpha", 8.5F}},
      {{"blk.0.x.lora_a", GgmlType::kF32, {3, 2}, std::as_bytes(std::span(kValues))},
       {"blk.0.x.lora_b", GgmlType::kF16, {3}, std::as_bytes(std::span(kHalves))}});
  return folder / "a.gguf";
}

std::string message_of(const std::string& path) {
  try {
    (void)GgufFile::open(path);
  } catch (const ModelError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Gguf, ReadsBackWhatItWrote) {
  const TempFolder folder;
  const auto file = GgufFile::open(write_small(folder));
  EXPECT_EQ(file.find_key("general.type")->value, "adapter");
  EXPECT_EQ(file.find_key("general.file_type")->value, 1);
  EXPECT_EQ(file.find_key("adapter.lora.alpha")->value, 8.5);
  EXPECT_EQ(file.find_key("absent"), nullptr);
  ASSERT_EQ(file.tensors().size(), 2U);
  const auto& a = *file.find_tensor("blk.0.x.lora_a");
  EXPECT_THAT(a.dims, ElementsAre(3, 2));
  EXPECT_EQ(a.begin % 32, 0U);
  ASSERT_EQ(file.data(a).size(), sizeof kValues);
  EXPECT_EQ(std::memcmp(file.data(a).data(), kValues, sizeof kValues), 0);
  const auto& b = *file.find_tensor("blk.0.x.lora_b");
  EXPECT_EQ(ggml_type_name(b.type), "F16");
  EXPECT_EQ(b.begin % 32, 0U);
  EXPECT_EQ(std::memcmp(file.data(b).data(), kHalves, sizeof kHalves), 0);
}

TEST(Gguf, EveryTruncationIsAnErrorAndNeverAFault) {
  const TempFolder folder;
  const std::string whole = test::read_all(write_small(folder));
  // The last tensor is followed by padding, which may be missing.
  for (size_t size = 0; size + 26 < whole.size(); ++size) {
    folder.write("cut.gguf", whole.substr(0, size));
    EXPECT_NE(message_of(folder / "cut.gguf"), "no error") << size;
  }
}

TEST(Gguf, RefusesLengthsThatTheFileCannotHold) {
  const TempFolder folder;
  const std::string whole = test::read_all(write_small(folder));
  const auto altered = [&](size_t at, uint64_t value) {
    std::string text = whole;
    std::memcpy(text.data() + at, &value, sizeof value);
    folder.write("bad.gguf", text);
    return message_of(folder / "bad.gguf");
  };
  EXPECT_THAT(altered(24, UINT64_MAX), HasSubstr("a text of 18446744073709551615 bytes"));  // first key's name
  EXPECT_THAT(altered(8, UINT64_MAX), HasSubstr("a tensor's"));                             // number of tensors
  const size_t dims = whole.find("lora_a") + 6 + 4;
  EXPECT_THAT(altered(dims, uint64_t{1} << 62), HasSubstr("impossible dimensions"));
  EXPECT_THAT(altered(dims, 1000), HasSubstr("is it complete?"));
  EXPECT_THAT(altered(dims + 16 + 4, 7), HasSubstr("offset 7, wanted a multiple of 32"));
  const size_t second = whole.find("lora_b") + 6 + 4 + 8 + 4;
  EXPECT_THAT(altered(second, 0), HasSubstr("lie over each other"));
  std::string text = whole;
  text[4] = 2;
  folder.write("old.gguf", text);
  EXPECT_THAT(message_of(folder / "old.gguf"), HasSubstr("GGUF version 2, wanted 3"));
  folder.write("other.gguf", "PK\x03\x04 and more");
  EXPECT_THAT(message_of(folder / "other.gguf"), HasSubstr("does not begin with \"GGUF\""));
}

TEST(Gguf, BytesThatDoNotFitTheDimensionsAreABug) {
  const TempFolder folder;
  EXPECT_THROW(write_gguf(folder / "a.gguf", {}, {{"x", GgmlType::kF32, {7}, std::as_bytes(std::span(kValues))}}),
               InternalError);
}

}  // namespace
}  // namespace phi3tune::io
