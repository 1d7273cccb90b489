// Pieces back to text.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace phi3tune::data {

// Marks become spaces; a run of byte pieces is read as UTF-8 whole, or every one of them becomes U+FFFD; one leading
// space is removed from the whole text if `strips_space`.
std::string decode_sentencepiece(std::span<const std::string_view> pieces, bool strips_space);

// Characters of the byte alphabet become bytes (a piece that holds another character stands for itself); what is not
// UTF-8 then becomes U+FFFD, one for each longest start of a sequence.
std::string decode_byte_level(std::span<const std::string_view> pieces);

// One piece for people: spaces shown as spaces, bytes that are no text as <0x0A>.
std::string show_sentencepiece(std::string_view piece);
std::string show_byte_level(std::string_view piece);

}  // namespace phi3tune::data
