// Writes what the tokenizer of a folder makes of texts, for comparison with Hugging Face's (compare_tokenizer.py).
//
//   tokenize_dump FOLDER LINES.jsonl [--decode | --spans | --bench]
//
// LINES.jsonl holds one JSON string a line. Output, one line each: the ids as a JSON array; with --decode an array of
// two strings, the ids decoded without and with special tokens skipped; with --spans an array of [id, begin, end].
// --bench writes one line: texts, bytes, tokens and seconds of processor time of one thread (texts are read before the
// clock starts).
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "phi3tune/core/error.h"
#include "phi3tune/data/tokenizer.h"
#include "phi3tune/io/json.h"

namespace {

using phi3tune::data::Tokenizer;
using phi3tune::io::Json;

std::string describe(const Tokenizer& tokenizer, const std::string& text, const std::string& mode) {
  if (mode == "--spans") {
    Json out = Json::array();
    for (const auto& token : tokenizer.encode_with_spans(text)) {
      out.push_back(Json::array({token.id, token.begin, token.end}));
    }
    return out.dump();
  }
  const std::vector<int32_t> ids = tokenizer.encode(text);
  if (mode == "--decode") {
    return Json::array({tokenizer.decode(ids), tokenizer.decode(ids, true)}).dump();
  }
  return Json(ids).dump();
}

void bench(const Tokenizer& tokenizer, const std::vector<std::string>& texts) {
  size_t bytes = 0;
  size_t tokens = 0;
  const std::clock_t start = std::clock();
  for (const std::string& text : texts) {
    bytes += text.size();
    tokens += tokenizer.encode(text).size();
  }
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  fmt::print("texts {}  bytes {}  tokens {}  seconds {:.3f}  MB/s {:.1f}\n", texts.size(), bytes, tokens, seconds,
             static_cast<double>(bytes) / 1e6 / seconds);
}

int run(const std::string& folder, const std::string& path, const std::string& mode) {
  const std::clock_t start = std::clock();
  const Tokenizer tokenizer = Tokenizer::open(folder);
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  std::ifstream lines(path);
  if (!lines) {
    throw phi3tune::DataError("{}: cannot be read", path);
  }
  std::vector<std::string> texts;
  for (std::string line; std::getline(lines, line);) {
    texts.push_back(Json::parse(line).get<std::string>());
  }
  if (mode == "--bench") {
    fmt::print("opened in {:.3f} s\n", seconds);
    bench(tokenizer, texts);
    return 0;
  }
  for (const std::string& text : texts) {
    std::cout << describe(tokenizer, text, mode) << '\n';
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: tokenize_dump FOLDER LINES.jsonl [--decode | --spans | --bench]\n";
    return 2;
  }
  try {
    return run(argv[1], argv[2], argc > 3 ? argv[3] : "");
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 3;
  }
}
