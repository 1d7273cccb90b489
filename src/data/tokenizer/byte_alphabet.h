// GPT-2's bytes as printable characters, the alphabet of byte-level vocabularies.
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace phi3tune::data {

// The character of each byte, in UTF-8.
const std::array<std::string, 256>& byte_characters();
// The byte of a character, or -1.
int byte_of_character(char32_t character) noexcept;

}  // namespace phi3tune::data
