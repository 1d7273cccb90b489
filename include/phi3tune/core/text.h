// Small text helpers: UTF-8, edit distance for "did you mean", numbers as people write them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace phi3tune {

// Byte offset of the first byte that is not part of well-formed UTF-8 (no surrogates, no overlong forms), or npos.
size_t find_invalid_utf8(std::string_view text) noexcept;

// Decodes the code point at `offset` of well-formed UTF-8 and moves `offset` past it.
char32_t next_code_point(std::string_view text, size_t& offset) noexcept;
void append_utf8(std::string& out, char32_t code_point);

// Text that came from a file of others, fit for a terminal, a log and a report of one line a fault. Control characters
// (also the invisible ones of Unicode that turn the direction of writing) and bytes that are not UTF-8 become \x1b or
// \u{202e}; a line of more than 1500 bytes is cut in its middle.
std::string plain_lines(std::string_view text);
// The same, and newlines become \n: what stands inside a line.
std::string one_line(std::string_view text);

// The candidate with the smallest edit distance to `word`, if it is near enough to be a slip of the pen
// (at most 1/3 of the word's length, transpositions count once).
std::optional<std::string_view> nearest_name(std::string_view word, std::span<const std::string_view> candidates);

// "2.6 GiB", "512 B".
std::string format_bytes(uint64_t bytes);
// The number of bytes that "8GiB", "512 MiB", "24GB" (10^9 each) or "1048576" says, at least 1. Nullopt for anything
// else; a bare "8G" is 8 GiB.
std::optional<uint64_t> parse_bytes(std::string_view text);
// The seconds that "11h30m", "90m", "1.5h", "2d", "45s", "2 h 07 min", "1:30:00" (hours, minutes, seconds), Slurm's
// "1-12:00:00" (days first) or "5400" says: units from the largest to the smallest, each at most once. Nullopt for
// anything else, for nothing or less, and for "1:30", which some read as hours and some as minutes.
std::optional<double> parse_duration(std::string_view text);
// The shortest decimal that reads back as the same double; "1e-05" style exponents are valid JSON.
std::string format_double(double value);

// A whole-string number; nullopt if anything is left over.
std::optional<double> parse_double(std::string_view text);
std::optional<int64_t> parse_int(std::string_view text);

}  // namespace phi3tune
