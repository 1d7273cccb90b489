// Examples as a person reads them: their text and tokens exactly as they are trained, the trained ones marked.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "phi3tune/data/dataset.h"
#include "phi3tune/data/tokenizer.h"
#include "phi3tune/io/json.h"

namespace phi3tune::data {

// How a stretch of trained tokens is shown.
struct Marks {
  std::string_view begin = "[";
  std::string_view end = "]";
};
inline constexpr Marks kColourMarks{"\x1b[32m", "\x1b[0m"};

// The whole decoded text, special tokens included.
std::string preview_text(const Example& example, const Tokenizer& tokenizer, const Marks& marks);
// One `id"text"` a token, lines of at most about `width` characters; weights other than 1 stand behind as *0.5.
std::string preview_tokens(const Example& example, const Tokenizer& tokenizer, const Marks& marks, size_t width = 110);
// {"place", "text", "input_ids", "labels"[, "weights"]}
io::Json preview_json(const Dataset& dataset, const Example& example, const Tokenizer& tokenizer);

// The examples that come from `row`, "FILE:LINE", of both sides; FILE is a path as the settings give it, or its end.
// Throws DataError when the row is not written like that, when the file is none of the data's, and when no example
// comes from that line.
std::vector<const Example*> examples_of_row(const Dataset& dataset, std::string_view row);

}  // namespace phi3tune::data
