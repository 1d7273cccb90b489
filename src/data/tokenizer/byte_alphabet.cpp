#include "data/tokenizer/byte_alphabet.h"

#include "phi3tune/core/text.h"

namespace phi3tune::data {
namespace {

constexpr char32_t kFirstStandIn = 256;
constexpr size_t kStandIns = 68;

bool is_printable(unsigned byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// Bytes that are not printable get the characters from 256 on, in their order.
std::array<char32_t, 256> code_points() {
  std::array<char32_t, 256> table{};
  char32_t next = kFirstStandIn;
  for (unsigned byte = 0; byte < table.size(); ++byte) {
    table[byte] = is_printable(byte) ? byte : next++;
  }
  return table;
}

}  // namespace

const std::array<std::string, 256>& byte_characters() {
  static const std::array<std::string, 256> texts = [] {
    std::array<std::string, 256> filled;
    const auto points = code_points();
    for (size_t byte = 0; byte < filled.size(); ++byte) {
      append_utf8(filled[byte], points[byte]);
    }
    return filled;
  }();
  return texts;
}

int byte_of_character(char32_t character) noexcept {
  static const std::array<int, kFirstStandIn + kStandIns> bytes = [] {
    std::array<int, kFirstStandIn + kStandIns> filled;
    filled.fill(-1);
    const auto points = code_points();
    for (size_t byte = 0; byte < points.size(); ++byte) {
      filled[points[byte]] = static_cast<int>(byte);
    }
    return filled;
  }();
  return character < bytes.size() ? bytes[character] : -1;
}

}  // namespace phi3tune::data
