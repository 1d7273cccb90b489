#include "data/tokenizer/decoder.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "data/tokenizer/byte_alphabet.h"
#include "data/tokenizer/definition.h"
#include "phi3tune/core/text.h"

namespace phi3tune::data {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

std::string marks_to_spaces(std::string_view piece) {
  std::string text;
  for (size_t at = 0; at < piece.size();) {
    if (piece.substr(at).starts_with(kMark)) {
      text += ' ';
      at += kMark.size();
    } else {
      text += piece[at++];
    }
  }
  return text;
}

// The byte of a piece that reads "<0xE2>".
std::optional<char> byte_of(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece.back() != '>') {
    return std::nullopt;
  }
  const char* begin = piece.data() + 3 + (piece[3] == '+' ? 1 : 0);  // the library's number reader takes a sign
  unsigned value = 0;
  const auto [end, fault] = std::from_chars(begin, piece.data() + 5, value, 16);
  if (fault != std::errc() || end != piece.data() + 5) {
    return std::nullopt;
  }
  return static_cast<char>(value);
}

std::string bytes_of(std::string_view piece) {
  std::string bytes;
  for (size_t at = 0; at < piece.size();) {
    const int byte = byte_of_character(next_code_point(piece, at));
    if (byte < 0) {
      return std::string(piece);
    }
    bytes += static_cast<char>(byte);
  }
  return bytes;
}

// Length of the longest start of a well-formed sequence at `at`, which holds no whole one (at least 1).
size_t broken_length(std::string_view bytes, size_t at) {
  const auto byte = [&](size_t i) { return at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0U; };
  const auto within = [](unsigned value, unsigned low, unsigned high) { return value >= low && value <= high; };
  const unsigned lead = byte(0);
  size_t wanted = 0;
  unsigned low = 0x80;
  unsigned high = 0xBF;
  if (within(lead, 0xE0, 0xEF)) {
    wanted = 2;
    low = lead == 0xE0 ? 0xA0 : 0x80;
    high = lead == 0xED ? 0x9F : 0xBF;
  } else if (within(lead, 0xF0, 0xF4)) {
    wanted = 3;
    low = lead == 0xF0 ? 0x90 : 0x80;
    high = lead == 0xF4 ? 0x8F : 0xBF;
  }
  if (wanted == 0 || !within(byte(1), low, high)) {
    return 1;
  }
  return wanted == 3 && within(byte(2), 0x80, 0xBF) ? 3 : 2;
}

std::string with_replacements(std::string_view bytes) {
  std::string text;
  while (true) {
    const size_t bad = find_invalid_utf8(bytes);
    if (bad == std::string_view::npos) {
      return text += bytes;
    }
    text += bytes.substr(0, bad);
    text += kReplacement;
    bytes.remove_prefix(bad + broken_length(bytes, bad));
  }
}

}  // namespace

std::string decode_sentencepiece(std::span<const std::string_view> pieces, bool strips_space) {
  std::string text;
  std::string run;
  const auto end_run = [&] {
    if (find_invalid_utf8(run) == std::string_view::npos) {
      text += run;
    } else {
      for (size_t i = 0; i < run.size(); ++i) {
        text += kReplacement;
      }
    }
    run.clear();
  };
  for (const std::string_view piece : pieces) {
    std::string spaced = marks_to_spaces(piece);
    if (const std::optional<char> byte = byte_of(spaced)) {
      run += *byte;
    } else {
      end_run();
      text += spaced;
    }
  }
  end_run();
  if (strips_space && text.starts_with(' ')) {
    text.erase(0, 1);
  }
  return text;
}

std::string decode_byte_level(std::span<const std::string_view> pieces) {
  std::string bytes;
  for (const std::string_view piece : pieces) {
    bytes += bytes_of(piece);
  }
  return with_replacements(bytes);
}

std::string show_sentencepiece(std::string_view piece) { return marks_to_spaces(piece); }

std::string show_byte_level(std::string_view piece) {
  std::string bytes = bytes_of(piece);
  if (find_invalid_utf8(bytes) == std::string_view::npos) {
    return bytes;
  }
  std::string text;
  for (const char byte : bytes) {
    text += fmt::format("<0x{:02X}>", static_cast<unsigned char>(byte));
  }
  return text;
}

}  // namespace phi3tune::data
