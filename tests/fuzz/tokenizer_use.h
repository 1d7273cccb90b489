// Opens a tokenizer and encodes with it.
#pragma once

#include "fuzz.h"
#include "phi3tune/core/error.h"
#include "phi3tune/data/template.h"
#include "phi3tune/data/tokenizer.h"

namespace phi3tune::fuzz {

inline void use_tokenizer(const std::string& folder) {
  reads_or_refuses(folder, [&] {
    const auto tokenizer = data::Tokenizer::open(folder);
    for (const std::string_view text : {"",
                                        " a  b\n\xE2\x96\x81"
                                        "c",
                                        "<s> hello<|end|>\xF0\x9F\x98\x80 1234  "}) {
      size_t at = 0;
      const auto spans = tokenizer.encode_with_spans(text);
      std::vector<int32_t> ids;
      for (const auto& span : spans) {
        promise(span.id >= 0 && span.id <= tokenizer.max_id(), "an id is one that the tokenizer has");
        promise(span.begin == at && span.end >= span.begin && span.end <= text.size(), "spans follow one another");
        at = span.end;
        ids.push_back(span.id);
        (void)tokenizer.token_text(span.id);
      }
      promise(spans.empty() || at == text.size(), "spans cover the text");
      (void)tokenizer.decode(ids, true);
    }
    reads_or_refuses("", [&] {
      std::vector<std::string> notes;
      (void)data::ChatTemplate::choose("auto", tokenizer, notes);
    });
  });
}

}  // namespace phi3tune::fuzz
