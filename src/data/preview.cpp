#include "phi3tune/data/preview.h"

#include <fmt/format.h>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

namespace phi3tune::data {
namespace {

// A token may hold part of a character only.
std::string quoted(const std::string& text) {
  return io::Json(text).dump(-1, ' ', false, io::Json::error_handler_t::replace);
}

bool is_trained(const Example& example, size_t t) { return example.labels[t] != kIgnoreLabel; }

// What the tokens [begin, end) add to the decoded text. The decoder may strip a space at the start of a whole text, so
// they are decoded behind the example's first token.
std::string decode_run(const Example& example, size_t begin, size_t end, const Tokenizer& tokenizer) {
  const std::span<const int32_t> ids(example.input_ids);
  if (begin == 0) {
    return tokenizer.decode(ids.subspan(0, end));
  }
  std::vector<int32_t> anchored{ids[0]};
  anchored.insert(anchored.end(), ids.begin() + static_cast<std::ptrdiff_t>(begin),
                  ids.begin() + static_cast<std::ptrdiff_t>(end));
  const std::string anchor = tokenizer.decode(std::span(anchored).first(1));
  std::string text = tokenizer.decode(anchored);
  return text.starts_with(anchor) ? text.substr(anchor.size()) : text;
}

}  // namespace

std::string preview_text(const Example& example, const Tokenizer& tokenizer, const Marks& marks) {
  std::string out;
  const size_t size = example.input_ids.size();
  for (size_t begin = 0; begin < size;) {
    size_t end = begin + 1;
    while (end < size && is_trained(example, end) == is_trained(example, begin)) {
      ++end;
    }
    const std::string text = decode_run(example, begin, end, tokenizer);
    out += is_trained(example, begin) ? fmt::format("{}{}{}", marks.begin, text, marks.end) : text;
    begin = end;
  }
  return out;
}

std::string preview_tokens(const Example& example, const Tokenizer& tokenizer, const Marks& marks, size_t width) {
  std::string out;
  size_t used = 0;
  for (size_t t = 0; t < example.input_ids.size(); ++t) {
    const int32_t id = example.input_ids[t];
    std::string token = fmt::format("{}{}", id, quoted(tokenizer.token_text(id)));
    if (!example.weights.empty() && is_trained(example, t) && example.weights[t] != 1.0F) {
      token += fmt::format("*{}", format_double(static_cast<double>(example.weights[t])));
    }
    if (used > 0) {
      const bool full = used + 1 + token.size() > width;
      out += full ? '\n' : ' ';
      used = full ? 0 : used + 1;
    }
    used += token.size() + (is_trained(example, t) ? 2 : 0);
    out += is_trained(example, t) ? fmt::format("{}{}{}", marks.begin, token, marks.end) : token;
  }
  return out;
}

io::Json preview_json(const Dataset& dataset, const Example& example, const Tokenizer& tokenizer) {
  io::Json json;
  json["place"] = dataset.place(example.source);
  json["text"] = tokenizer.decode(example.input_ids);
  json["input_ids"] = example.input_ids;
  json["labels"] = example.labels;
  if (!example.weights.empty()) {
    json["weights"] = example.weights;
  }
  return json;
}

std::vector<const Example*> examples_of_row(const Dataset& dataset, std::string_view row) {
  const size_t colon = row.rfind(':');
  const auto line = colon == std::string_view::npos ? std::nullopt : parse_int(row.substr(colon + 1));
  if (!line || *line < 1 || colon == 0) {
    throw DataError("row \"{}\": wanted FILE:LINE, as in train.jsonl:12", row);
  }
  const auto file = row.substr(0, colon);
  bool known = false;
  std::vector<const Example*> found;
  for (size_t f = 0; f < dataset.files.size(); ++f) {
    const std::string_view path = dataset.files[f];
    if (path != file && !(path.ends_with(file) && path[path.size() - file.size() - 1] == '/')) {
      continue;
    }
    known = true;
    for (const auto* side : {&dataset.train, &dataset.validation}) {
      for (const Example& example : *side) {
        if (example.source.file == f && example.source.line == static_cast<uint64_t>(*line)) {
          found.push_back(&example);
        }
      }
    }
  }
  if (!known) {
    std::string files;
    for (size_t f = 0; f < dataset.files.size() && f < 5; ++f) {
      files += fmt::format("{}{}", f == 0 ? "" : ", ", dataset.files[f]);
    }
    throw DataError("row \"{}\": the data holds no file of that name; it reads {}{}", row, files,
                    dataset.files.size() > 5 ? " and more" : "");
  }
  if (found.empty()) {
    throw DataError("row \"{}\": no example comes from that line: no record begins there, or it was left out", row);
  }
  return found;
}

}  // namespace phi3tune::data
