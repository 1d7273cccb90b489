// The tokenizer beside Hugging Face's fast one, on small tokenizers of the four kinds.
#include <gmock/gmock.h>

#include <string>
#include <thread>
#include <vector>

#include "chat_support.h"
#include "phi3tune/core/text.h"

namespace phi3tune::data {
namespace {

using test::read_jsonl;
using test::references;

constexpr size_t kLines = 313;        // of hard_lines.jsonl
constexpr size_t kDecodedLines = 60;  // of each decoded.jsonl

std::vector<std::string> hard_lines() {
  std::vector<std::string> lines;
  for (const io::Json& line : read_jsonl(references("tokenizers/hard_lines.jsonl"))) {
    lines.push_back(line.get<std::string>());
  }
  return lines;
}

class TokenizerReference : public testing::TestWithParam<const char*> {
 protected:
  std::string folder() const { return std::string("tokenizers/") + GetParam(); }
  Tokenizer tokenizer() const { return Tokenizer::open(references(folder())); }
};

TEST_P(TokenizerReference, IdsAreThoseOfTheFastTokenizer) {
  const Tokenizer ours = tokenizer();
  const auto lines = hard_lines();
  const auto expected = read_jsonl(references(folder() + "/expected_ids.jsonl"));
  ASSERT_EQ(lines.size(), kLines);
  ASSERT_EQ(expected.size(), kLines);
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(ours.encode(lines[i]), expected[i].get<std::vector<int32_t>>()) << "line " << i + 1 << ": " << lines[i];
  }
}

TEST_P(TokenizerReference, SecondTimeGivesTheSameIds) {
  const Tokenizer ours = tokenizer();
  for (const std::string& line : hard_lines()) {
    EXPECT_EQ(ours.encode(line), ours.encode(line));
  }
}

TEST_P(TokenizerReference, SpansCoverTheTextInOrder) {
  const Tokenizer ours = tokenizer();
  for (const std::string& line : hard_lines()) {
    const auto spans = ours.encode_with_spans(line);
    const auto ids = ours.encode(line);
    ASSERT_EQ(spans.size(), ids.size());
    size_t at = 0;
    for (size_t i = 0; i < spans.size(); ++i) {
      EXPECT_EQ(spans[i].id, ids[i]);
      ASSERT_EQ(spans[i].begin, at) << line;
      ASSERT_GE(spans[i].end, at);
      at = spans[i].end;
    }
    EXPECT_EQ(at, line.size());
  }
}

TEST_P(TokenizerReference, DecodesAsTheFastTokenizer) {
  const Tokenizer ours = tokenizer();
  const auto rows = read_jsonl(references(folder() + "/decoded.jsonl"));
  ASSERT_EQ(rows.size(), kDecodedLines);
  for (const io::Json& row : rows) {
    const auto ids = row.at("ids").get<std::vector<int32_t>>();
    EXPECT_EQ(ours.decode(ids), row.at("text").get<std::string>()) << row.at("ids");
    EXPECT_EQ(ours.decode(ids, true), row.at("skipped").get<std::string>()) << row.at("ids");
  }
}

TEST_P(TokenizerReference, IdsStayBelowMaxIdAndShowAsText) {
  const Tokenizer ours = tokenizer();
  for (const std::string& line : hard_lines()) {
    for (const int32_t id : ours.encode(line)) {
      EXPECT_LE(id, ours.max_id());
      EXPECT_EQ(find_invalid_utf8(ours.token_text(id)), std::string::npos);
    }
  }
}

TEST_P(TokenizerReference, ThreadsDoNotDisturbEachOther) {
  const Tokenizer ours = tokenizer();
  const auto lines = hard_lines();
  std::vector<std::vector<int32_t>> alone;
  for (const std::string& line : lines) {
    alone.push_back(ours.encode(line));
  }
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < lines.size(); ++i) {
        const size_t line = (i * 7 + t * 31) % lines.size();
        wrong[t] += ours.encode(lines[line]) != alone[line] ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_THAT(wrong, testing::Each(0));
}

INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerReference,
                         testing::Values("spm_like", "phi4_like", "phi4_mini_like", "smollm_like"),
                         [](const auto& info) { return std::string(info.param); });

TEST(TokenizerModelFile, AloneGivesTheIdsOfTokenizerJson) {
  const test::TempFolder folder;
  const std::string from = references("tokenizers/spm_like/");
  for (const char* name : {"tokenizer.model", "tokenizer_config.json"}) {
    folder.write(name, test::read_all(from + name));
  }
  const Tokenizer alone = Tokenizer::open(folder.path());
  const auto expected = read_jsonl(from + "expected_ids.jsonl");
  const auto lines = hard_lines();
  ASSERT_EQ(expected.size(), lines.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    EXPECT_EQ(alone.encode(lines[i]), expected[i].get<std::vector<int32_t>>()) << lines[i];
  }
  for (const io::Json& row : read_jsonl(from + "decoded.jsonl")) {
    EXPECT_EQ(alone.decode(row.at("ids").get<std::vector<int32_t>>(), true), row.at("skipped").get<std::string>());
  }
}

TEST(SmallTokenizer, FitsTheTinyShapesAndHasPhi3sTokens) {
  const Tokenizer small = Tokenizer::open(std::string(PHI3TUNE_SOURCE_DIR) + "/data/tokenizer-small");
  EXPECT_EQ(small.max_id(), 2010);
  EXPECT_EQ(small.bos_id(), 1);
  EXPECT_EQ(small.eos_id(), 2000);
  EXPECT_EQ(small.pad_id(), 2000);
  EXPECT_FALSE(small.add_bos_token());
  EXPECT_EQ(small.encode("<|user|>\nHi<|end|>\n<|assistant|>\n").front(), 2010);
  const std::string text = "Pneumonia, é 🙂\n\ttwo  spaces";
  EXPECT_EQ(small.decode(small.encode(text)), text);
  EXPECT_EQ(small.added_tokens().size(), 14U);
}

}  // namespace
}  // namespace phi3tune::data
