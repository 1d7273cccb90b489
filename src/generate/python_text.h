// Text as Python sees it: the common scores are defined by its str.lower, str.split and `re`. All text is well-formed
// UTF-8.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace phi3tune::generate {

// str.isspace of one character; what str.split parts at, str.rstrip removes and \s matches.
bool is_space(char32_t c) noexcept;
// \w of `re`.
bool is_word(char32_t c) noexcept;
// str.lower
std::u32string lower(std::string_view text);
// Views into the text.
std::vector<std::string_view> split(std::string_view text);
std::string_view strip_end(std::string_view text);
std::string join(const std::vector<std::string_view>& words, std::string_view between);
std::string to_utf8(std::u32string_view text);

}  // namespace phi3tune::generate
