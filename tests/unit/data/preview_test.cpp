#include "phi3tune/data/preview.h"

#include <gmock/gmock.h>

#include "chat_support.h"
#include "phi3tune/core/error.h"

namespace phi3tune::data {
namespace {

using testing::HasSubstr;

class Preview : public testing::Test {
 protected:
  Preview() {
    config::DataOptions options;
    options.datasets.resize(1);
    options.datasets[0].path = folder_.write("some/train.jsonl",
                                             "{\"messages\": [{\"role\": \"user\", \"content\": \"a b\"}, {\"role\": "
                                             "\"assistant\", \"content\": \"c \\n🙂 d\"}]}\n\n"
                                             "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": "
                                             "\"assistant\", \"content\": \"b\", \"weight\": "
                                             "0.5}]}\n");
    dataset_ = read_dataset(options, tokenizer_, test::template_for("phi_3", tokenizer_), 0);
  }

  test::TempFolder folder_;
  Tokenizer tokenizer_ = test::open_tokenizer("spm_like");
  Dataset dataset_;
};

TEST_F(Preview, TextIsWholeAndTrainedStretchesAreMarked) {
  EXPECT_EQ(preview_text(dataset_.train[0], tokenizer_, {}),
            "<|user|> a b<|end|><|assistant|>[ c \n🙂 d<|end|><|endoftext|>]");
  EXPECT_EQ(preview_text(dataset_.train[0], tokenizer_, {"", ""}), tokenizer_.decode(dataset_.train[0].input_ids));
}

TEST_F(Preview, TokensShowIdsTextsAndWeights) {
  EXPECT_EQ(preview_tokens(dataset_.train[1], tokenizer_, {}, 1000),
            fmt::format("1610\"<|user|>\" {}\" a\" 1607\"<|end|>\" 1601\"<|assistant|>\" [{}\" b\"*0.5] "
                        "[1607\"<|end|>\"*0.5] [1600\"<|endoftext|>\"*0.5]",
                        dataset_.train[1].input_ids[1], dataset_.train[1].input_ids[4]));
  const auto lines = preview_tokens(dataset_.train[0], tokenizer_, kColourMarks, 30);
  EXPECT_THAT(lines, HasSubstr("\n"));
  EXPECT_THAT(lines, HasSubstr("\x1b[32m1600\"<|endoftext|>\"\x1b[0m"));
}

TEST_F(Preview, JsonHoldsWhatIsTrained) {
  const auto json = preview_json(dataset_, dataset_.train[1], tokenizer_);
  EXPECT_EQ(json.at("place"), folder_ / "some/train.jsonl" + ":3");
  EXPECT_EQ(json.at("input_ids").get<std::vector<int32_t>>(), dataset_.train[1].input_ids);
  EXPECT_EQ(json.at("labels").get<std::vector<int32_t>>(), dataset_.train[1].labels);
  EXPECT_EQ(json.at("weights").size(), json.at("labels").size());
  EXPECT_FALSE(preview_json(dataset_, dataset_.train[0], tokenizer_).contains("weights"));
}

TEST_F(Preview, RowsAreFoundByTheEndOfTheirPath) {
  EXPECT_EQ(examples_of_row(dataset_, "train.jsonl:3").at(0), &dataset_.train[1]);
  EXPECT_EQ(examples_of_row(dataset_, "some/train.jsonl:1").at(0), &dataset_.train[0]);
  EXPECT_EQ(examples_of_row(dataset_, folder_ / "some/train.jsonl" + ":1").at(0), &dataset_.train[0]);
  const auto message = [&](const char* row) {
    return test::message_of<DataError>([&] { examples_of_row(dataset_, row); });
  };
  EXPECT_THAT(message("rain.jsonl:1"), HasSubstr("no file of that name; it reads"));
  EXPECT_THAT(message("train.jsonl:2"), HasSubstr("no example comes from that line"));
  EXPECT_THAT(message("train.jsonl"), HasSubstr("wanted FILE:LINE"));
  EXPECT_THAT(message("train.jsonl:0"), HasSubstr("wanted FILE:LINE"));
  EXPECT_THAT(message(":1"), HasSubstr("wanted FILE:LINE"));
}

}  // namespace
}  // namespace phi3tune::data
