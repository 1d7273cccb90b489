#include "phi3tune/io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "phi3tune/core/error.h"
#include "support/temp_folder.h"

namespace phi3tune::io {
namespace {

using test::message_of;
using test::read_all;
using test::TempFolder;
using ::testing::HasSubstr;

std::string prefix(uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}
std::string file_of(const std::string& header, size_t data_bytes) {
  return prefix(header.size()) + header + std::string(data_bytes, '\x01');
}
std::string hex(const std::string& bytes) {
  std::string text;
  for (const unsigned char byte : bytes) {
    text += fmt::format("{:02x}", byte);
  }
  return text;
}
std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

struct Hostile {
  const char* name;
  std::string bytes;
  const char* message;  // a part
};

std::string bomb(int entries, const char* range) {
  std::string header = "{";
  for (int i = 0; i < entries; ++i) {
    header += (i > 0 ? "," : "") + entry("t" + std::to_string(i), "U8", "[16]", range);
  }
  return file_of(header + "}", 16);
}

std::string many_empty(int entries) {
  std::string header = "{";
  for (int i = 0; i < entries; ++i) {
    header += (i > 0 ? "," : "") + entry("t" + std::to_string(i), "U8", "[0]", "[0,0]");
  }
  return file_of(header + "}", 0);
}

std::vector<Hostile> hostile_files() {
  const std::string good = entry("a", "F32", "[2]", "[0,8]");
  return {
      {"Empty", "", "too short"},
      {"SevenBytes", "1234567", "too short"},
      {"NoHeader", prefix(0), "0 bytes"},
      {"HeaderPastTheEnd", prefix(100) + "{}", "only 2 are left"},
      {"HeaderIntoData", prefix(60) + "{" + good + "}" + std::string(30, 'x'), "header, line 1"},
      {"HeaderLengthAllOnes", prefix(UINT64_MAX) + "{}", "18446744073709551615"},
      {"HeaderLengthWraps", prefix(UINT64_MAX - 7) + "{}", "at most 100000000"},
      {"HeaderOverTheLimit", prefix(100'000'001) + "{}", "at most 100000000"},
      {"Pickle", std::string("\x80\x02}q\0(X\5\0\0\0a.b.c", 16), "not a safetensors file"},
      {"NotAnObject", file_of("[]", 0), "begins with byte 0x5b"},
      {"LeadingSpace", file_of(" {}", 0), "begins with byte 0x20"},
      {"BadJson", file_of("{\"a\":}", 0), "header, line 1, column 6"},
      {"BadUtf8", file_of("{\"\xff\":1}", 0), "not UTF-8"},
      {"TextAfterTheObject", file_of("{} {}", 0), "header, line 1, column 4"},
      {"DeepNesting", file_of("{\"a\":" + std::string(100'000, '['), 0), "deeper than 3"},
      {"DuplicateName", file_of("{" + good + "," + entry("a", "F32", "[2]", "[8,16]") + "}", 16),
       "\"a\" is given twice"},
      {"MetadataNotStrings", file_of("{\"__metadata__\":{\"format\":1}}", 0), "\"format\" is 1, wanted a string"},
      {"MetadataNotAnObject", file_of("{\"__metadata__\":\"pt\"}", 0), "wanted an object of strings"},
      {"EntryNotAnObject", file_of("{\"a\":[]}", 0), "tensor a: []"},
      {"NoDtype", file_of("{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8), "dtype is missing"},
      {"NoShape", file_of("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8), "shape is missing"},
      {"NoOffsets", file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8), "data_offsets is missing"},
      {"ForeignKey", file_of("{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"x\":1}}", 0),
       "\"x\" is not part of the format"},
      {"UnknownDtype", file_of("{" + entry("a", "F33", "[2]", "[0,8]") + "}", 8), "dtype \"F33\""},
      {"NegativeSize", file_of("{" + entry("a", "F32", "[-2]", "[0,8]") + "}", 8), "shape holds -2"},
      {"FractionalSize", file_of("{" + entry("a", "F32", "[2.0]", "[0,8]") + "}", 8), "shape holds 2.0"},
      {"SizeBeyondIntegers", file_of("{" + entry("a", "F32", "[36893488147419103232]", "[0,8]") + "}", 8),
       "shape holds"},
      {"ProductWraps", file_of("{" + entry("a", "F32", "[4294967296,4294967296,2]", "[0,8]") + "}", 8),
       "larger than any file"},
      {"ProductWrapsToTheRightSize", file_of("{" + entry("a", "F32", "[4611686018427387906]", "[0,8]") + "}", 8),
       "larger than any file"},
      {"ZeroTimesHuge", file_of("{" + entry("a", "U8", "[0,18446744073709551615]", "[0,0]") + "}", 0),
       "larger than any file"},
      {"ShapeNotAnArray", file_of("{" + entry("a", "F32", "2", "[0,8]") + "}", 8), "shape is 2"},
      {"NegativeOffset", file_of("{" + entry("a", "F32", "[2]", "[-8,0]") + "}", 8), "data_offsets is [-8,0]"},
      {"FractionalOffset", file_of("{" + entry("a", "F32", "[2]", "[0,8.5]") + "}", 8), "data_offsets is [0,8.5]"},
      {"ThreeOffsets", file_of("{" + entry("a", "F32", "[2]", "[0,8,9]") + "}", 8), "wanted two whole numbers"},
      {"OffsetBeyondDoubles", file_of("{" + entry("a", "F32", "[2]", "[9007199254740993,9007199254741001]") + "}", 8),
       "do not lie in the 8 data bytes"},
      {"EndBeforeBegin", file_of("{" + entry("a", "F32", "[2]", "[8,0]") + "}", 8), "do not lie in"},
      {"EndPastTheFile", file_of("{" + entry("a", "F32", "[4]", "[0,16]") + "}", 8), "do not lie in the 8 data bytes"},
      {"ShapeAndBytesDisagree", file_of("{" + entry("a", "F32", "[3]", "[0,8]") + "}", 8), "needs 12 bytes"},
      {"DtypeAndBytesDisagree", file_of("{" + entry("a", "BF16", "[2]", "[0,8]") + "}", 8), "needs 4 bytes"},
      {"FirstNotAtZero", file_of("{" + entry("a", "F32", "[1]", "[4,8]") + "}", 8), "begins at byte 4, wanted 0"},
      {"Hole", file_of("{" + good + "," + entry("b", "F32", "[1]", "[12,16]") + "}", 16), "a hole"},
      {"Overlap", file_of("{" + good + "," + entry("b", "F32", "[2]", "[4,12]") + "}", 12), "they overlap"},
      {"MillionsOfEmptyTensors", many_empty(200'001), "more than 200000 tensors"},
      {"MetadataTwice", file_of("{\"__metadata__\":{},\"__metadata__\":{}}", 0), "\"__metadata__\" is given twice"},
      {"SharedRange", file_of("{" + good + "," + entry("b", "F32", "[2]", "[0,8]") + "}", 8), "they overlap"},
      {"TrailingBytes", file_of("{" + good + "}", 9), "1 bytes follow the last tensor"},
      {"DataWithoutTensors", file_of("{}", 5), "5 bytes follow"},
      {"CutShort", file_of("{" + good + "}", 7), "do not lie in the 7 data bytes"},
      {"NulInName", file_of("{" + entry("a\\u0000b", "F32", "[2]", "[0,8]") + "}", 8), "control characters"},
      {"NewlineInName", file_of("{" + entry("a\\nb", "F32", "[2]", "[0,8]") + "}", 8), "control characters"},
      {"EmptyName", file_of("{" + entry("", "F32", "[2]", "[0,8]") + "}", 8), "is empty"},
      {"HundredThousandSharedRanges", bomb(100'000, "[0,16]"), "tensor t1: up to here the tensors hold 32 bytes"},
  };
}

class HostileSafetensors : public ::testing::TestWithParam<Hostile> {};

TEST_P(HostileSafetensors, IsRefusedNamingTheFileAndTheRule) {
  const TempFolder folder;
  const auto path = folder.write("model.safetensors", GetParam().bytes);
  const auto message = message_of<ModelError>([&] { SafetensorsFile::open(path); });
  EXPECT_TRUE(message.starts_with(path + ": ")) << message;
  EXPECT_THAT(message, HasSubstr(GetParam().message));
  EXPECT_LT(message.size(), path.size() + 300);
}
INSTANTIATE_TEST_SUITE_P(Files, HostileSafetensors, ::testing::ValuesIn(hostile_files()),
                         [](const auto& info) { return std::string(info.param.name); });
TEST(Safetensors, HostileFilesAreAllThere) { EXPECT_EQ(hostile_files().size(), 52u); }

TEST(Safetensors, ReadsNamesShapesAndBytesOfAnUnalignedForeignFile) {
  const TempFolder folder;
  // The header is 1 byte off a multiple of 8, keys come in another order, the tensors not in storage order.
  std::string header = "{" + entry("b", "F32", "[]", "[6,10]") +
                       ",\"a\":{\"data_offsets\":[0,6],\"shape\":[3,1],\"dtype\":\"BF16\"}," +
                       entry("none", "I64", "[0,5]", "[6,6]") + ",\"__metadata__\":{\"format\":\"pt\"}}";
  header.append((9 - header.size() % 8) % 8, ' ');
  ASSERT_EQ(header.size() % 8, 1u);
  const auto path =
      folder.write("f.safetensors", prefix(header.size()) + header + "abcdef" + std::string("\0\0\x80\x3f", 4));
  const auto file = SafetensorsFile::open(path);
  ASSERT_EQ(file.header().tensors.size(), 3u);
  EXPECT_EQ(file.header().tensors[0].name, "a");
  EXPECT_EQ(file.header().tensors[1].name, "none");
  EXPECT_EQ(file.header().metadata.at("format"), "pt");
  const auto* a = file.find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->dtype, DType::kBF16);
  EXPECT_EQ(a->shape, (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(a->numel(), 3);
  EXPECT_EQ(std::memcmp(file.data(*a).data(), "abcdef", 6), 0);
  float one = 0;
  std::memcpy(&one, file.data(*file.find("b")).data(), 4);
  EXPECT_EQ(one, 1.0f);
  EXPECT_EQ(file.find("none")->numel(), 0);
  EXPECT_EQ(file.find("c"), nullptr);
}

TEST(Safetensors, HeaderAloneIsCheckedAgainstTheSizeOfTheWholeFile) {
  const std::string bytes = file_of("{" + entry("a", "U8", "[1000000]", "[0,1000000]") + "}", 0);
  const auto start = std::as_bytes(std::span(bytes.data(), bytes.size()));
  EXPECT_EQ(parse_safetensors_header(start, bytes.size() + 1'000'000, "f").data_begin, bytes.size());
  EXPECT_THROW(parse_safetensors_header(start, bytes.size() + 999'999, "f"), ModelError);
}

// The bytes that safetensors 0.8.0's save() gives for the same tensors (tests/parity/safetensors_bytes.py).
TEST(SafetensorsWriter, BytesAreThoseOfTheReferenceWriter) {
  const TempFolder folder;
  const auto bytes_of = [](const auto& values) { return std::as_bytes(std::span(values)); };
  const float f32[2] = {1.0f, -2.0f};
  const uint16_t bf16[2] = {0x3f80, 0xc000};
  const uint8_t u8[3] = {1, 2, 3};
  const int64_t i64[1] = {-7};
  write_safetensors(folder / "w", {{"layers.2", DType::kF32, {1, 2}, bytes_of(f32)},
                                   {"layers.10", DType::kF32, {2}, bytes_of(f32)},
                                   {"u", DType::kU8, {3}, bytes_of(u8)},
                                   {"\"q\"\xC3\xA9", DType::kBF16, {2, 1}, bytes_of(bf16)},
                                   {"i", DType::kI64, {}, bytes_of(i64)},
                                   {"e", DType::kF16, {0, 4}, {}}});
  const std::string expected =
      "88010000000000007b225f5f6d657461646174615f5f223a7b22666f726d6174223a227074227d2c2269223a7b226474"
      "797065223a22493634222c227368617065223a5b5d2c22646174615f6f666673657473223a5b302c385d7d2c226c6179"
      "6572732e3130223a7b226474797065223a22463332222c227368617065223a5b325d2c22646174615f6f666673657473"
      "223a5b382c31365d7d2c226c61796572732e32223a7b226474797065223a22463332222c227368617065223a5b312c32"
      "5d2c22646174615f6f666673657473223a5b31362c32345d7d2c225c22715c22c3a9223a7b226474797065223a224246"
      "3136222c227368617065223a5b322c315d2c22646174615f6f666673657473223a5b32342c32385d7d2c2265223a7b22"
      "6474797065223a22463136222c227368617065223a5b302c345d2c22646174615f6f666673657473223a5b32382c3238"
      "5d7d2c2275223a7b226474797065223a225538222c227368617065223a5b335d2c22646174615f6f666673657473223a"
      "5b32382c33315d7d7d20202020202020f9ffffffffffffff0000803f000000c00000803f000000c0803f00c0010203";
  EXPECT_EQ(hex(read_all(folder / "w")), expected);
  const auto file = SafetensorsFile::open(folder / "w");
  EXPECT_EQ(std::memcmp(file.data(*file.find("layers.2")).data(), f32, 8), 0);
  EXPECT_EQ(std::memcmp(file.data(*file.find("u")).data(), u8, 3), 0);
}

TEST(SafetensorsWriter, NeverWritesWhatTheReaderRefuses) {
  const TempFolder folder;
  const float values[2] = {1, 2};
  const auto data = std::as_bytes(std::span(values));
  EXPECT_THROW(write_safetensors(folder / "a", {{"t", DType::kF32, {3}, data}}), InternalError);
  EXPECT_THROW(write_safetensors(folder / "a", {{"t", DType::kF32, {-2}, data}}), InternalError);
  EXPECT_THROW(write_safetensors(folder / "a", {{"t", DType::kF32, {2}, data}, {"t", DType::kF32, {2}, data}}),
               InternalError);
  EXPECT_THROW(write_safetensors(folder / "a", {{"__metadata__", DType::kF32, {2}, data}}), InternalError);
  EXPECT_FALSE(std::filesystem::exists(folder / "a"));
}

TEST(Safetensors, EveryDtypeHasTheNameAndSizeOfTheFormat) {
  const TempFolder folder;
  const std::pair<const char*, size_t> facts[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
                                                  {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
                                                  {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8}};
  for (const auto& [name, size] : facts) {
    const auto path = folder.write(
        "f", file_of("{" + entry("a", name, "[2]", "[0," + std::to_string(2 * size) + "]") + "}", 2 * size));
    const auto file = SafetensorsFile::open(path);
    EXPECT_EQ(dtype_name(file.find("a")->dtype), name);
    EXPECT_EQ(file.find("a")->numel(), 2);
  }
}

TEST(Safetensors, NamesAndTextsAreOfModestLength) {
  const TempFolder folder;
  const auto open = [&](const std::string& header) {
    const auto path = folder.write("f", file_of(header, 0));
    return message_of<ModelError>([&] { SafetensorsFile::open(path); });
  };
  const std::string longest(4096, 'n');
  EXPECT_NO_THROW(
      SafetensorsFile::open(folder.write("f", file_of("{" + entry(longest, "U8", "[0]", "[0,0]") + "}", 0))));
  const auto message = open("{" + entry(longest + "n", "U8", "[0]", "[0,0]") + "}");
  EXPECT_THAT(message, ::testing::HasSubstr("longer than 4096 bytes"));
  EXPECT_LT(message.size(), 400u);
  EXPECT_THAT(open("{" + std::string(17 << 20, ' ') + "}"), ::testing::HasSubstr("16.0 MiB in one piece"));
}

}  // namespace
}  // namespace phi3tune::io
