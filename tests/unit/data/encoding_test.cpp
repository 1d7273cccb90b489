#include "phi3tune/data/encoding.h"

#include <gmock/gmock.h>

#include <map>
#include <random>

#include "chat_support.h"
#include "phi3tune/core/error.h"

namespace phi3tune::data {
namespace {

using config::RecordFormat;
using config::TrainOnEos;
using testing::ElementsAre;
using testing::HasSubstr;

const Tokenizer& tokenizer_named(const std::string& name) {
  static std::map<std::string, Tokenizer> opened;
  auto at = opened.find(name);
  if (at == opened.end()) {
    at = opened.emplace(name, test::open_tokenizer(name)).first;
  }
  return at->second;
}

Record chat_of(std::vector<Message> messages) {
  Record record;
  record.messages = std::move(messages);
  return record;
}

std::vector<int> trained(const EncodedRecord& encoded) {
  std::vector<int> out;
  for (const float weight : encoded.weights) {
    out.push_back(weight > 0.0F ? 1 : 0);
  }
  return out;
}

// The text of the trained tokens, for reading a mask.
std::string trained_text(const EncodedRecord& encoded, const Tokenizer& tokenizer) {
  std::string text;
  for (size_t t = 0; t < encoded.input_ids.size(); ++t) {
    if (encoded.weights[t] > 0.0F) {
      text += tokenizer.token_text(encoded.input_ids[t]);
    }
  }
  return text;
}

TEST(EncodeRecord, MasksAreThoseOfTrlsTrainingTemplates) {
  const auto rows = test::read_jsonl(test::references("chat/masks.jsonl"));
  ASSERT_EQ(rows.size(), 240U);
  for (const auto& row : rows) {
    const Tokenizer& tokenizer = tokenizer_named(row.at("tokenizer"));
    const auto chat = test::template_for(row.at("template"), tokenizer);
    const auto encoded = encode_record(chat_of(test::messages_of(row.at("messages"))), tokenizer, chat, {});
    ASSERT_EQ(encoded.input_ids, row.at("input_ids").get<std::vector<int32_t>>()) << row.at("messages");
    auto expected = row.at("trained").get<std::vector<int>>();
    expected.front() = 0;  // nothing predicts the first token
    EXPECT_EQ(trained(encoded), expected) << row.at("tokenizer") << " " << row.at("template") << row.at("messages");
  }
}

TEST(EncodeRecord, CompletionsBeginWhereTrlLetsThemBegin) {
  const auto rows = test::read_jsonl(test::references("chat/completions.jsonl"));
  ASSERT_EQ(rows.size(), 94U);
  int not_prefix = 0;
  for (const auto& row : rows) {
    const Tokenizer& tokenizer = tokenizer_named(row.at("tokenizer"));
    const bool plain = row.at("template").is_null();
    const auto chat = test::template_for(plain ? "none" : row.at("template").get<std::string>(), tokenizer);
    Record record;
    record.format = RecordFormat::kPromptCompletion;
    if (plain) {
      record.prompt = row.at("prompt");
      record.completion = row.at("completion");
    } else {
      record.messages = test::messages_of(row.at("prompt"));
      record.prompt_messages = record.messages.size();
      for (auto& message : test::messages_of(row.at("completion"))) {
        record.messages.push_back(message);
      }
    }
    const auto encoded = encode_record(record, tokenizer, chat, {});
    ASSERT_EQ(encoded.input_ids, row.at("input_ids").get<std::vector<int32_t>>()) << row;
    const auto prompt_length = row.at("prompt_length").get<size_t>();
    not_prefix += encoded.prompt_not_prefix ? 1 : 0;
    for (size_t t = 0; t < encoded.weights.size(); ++t) {
      EXPECT_EQ(encoded.weights[t] > 0.0F, t > 0 && t >= prompt_length) << t << " of " << row;
    }
  }
  EXPECT_GT(not_prefix, 0) << "some prompt merges with its completion";
}

// Chats of every kind, made from a seed: many turns, empty answers, emoji, long, contents that begin and end with
// whitespace.
std::vector<Message> generated_chat(std::mt19937& random) {
  const std::vector<std::string> words = {"fever", " ", "\n",  "🙂", "分析", "a",   "  ", "\t", "12.5",
                                          "<b>",   "é", "x=1", "end",  ".",    "\\n", "{}", "|",  "The"};
  const auto text = [&](int longest) {
    std::string out;
    for (auto n = static_cast<int>(random() % static_cast<unsigned>(longest + 1)); n > 0; --n) {
      out += words[random() % words.size()];
    }
    return out;
  };
  std::vector<Message> chat;
  if (random() % 3 == 0) {
    chat.push_back({"system", text(6)});
  }
  for (auto turns = 1 + random() % 4; turns > 0; --turns) {
    chat.push_back({"user", text(12)});
    chat.push_back({"assistant", text(random() % 20 == 0 ? 400 : 12)});
  }
  return chat;
}

TEST(EncodeRecord, EveryAnswersEndIsTrainedAndNothingOfOthersIs) {
  const std::vector<std::pair<std::string, std::string>> kinds = {
      {"spm_like", "phi_3"},        {"spm_like", "phi_35"}, {"spm_first", "phi_3_first"},
      {"spm_like", "phi_3_medium"}, {"phi4_like", "phi_4"}, {"phi4_mini_like", "phi_4_mini"},
      {"smollm_like", "chatml"}};
  for (const auto& [name, chat_name] : kinds) {
    const Tokenizer& tokenizer = tokenizer_named(name);
    const auto chat = test::template_for(chat_name, tokenizer);
    const auto end = tokenizer.token_id(chat.end_of_turn());
    ASSERT_TRUE(end);
    std::mt19937 random(7);
    for (int i = 0; i < 1000; ++i) {
      const auto messages = generated_chat(random);
      const auto encoded = encode_record(chat_of(messages), tokenizer, chat, {});
      std::vector<std::string> turns;  // role of each end of turn in order
      for (const Message& message : messages) {
        const bool left_out = message.role == "system" &&
                              (!chat.holds_system_messages() || (chat_name == "phi_35" && message.content.empty()));
        if (!left_out) {
          turns.push_back(message.role);
        }
      }
      size_t turn = 0;
      for (size_t t = 0; t < encoded.input_ids.size(); ++t) {
        if (encoded.input_ids[t] == *end) {
          ASSERT_LT(turn, turns.size());
          EXPECT_EQ(encoded.weights[t], turns[turn] == "assistant" ? 1.0F : 0.0F) << chat_name << " chat " << i;
          ++turn;
        } else if (turn < turns.size() && turns[turn] != "assistant") {
          // In front of a user's or system's end of turn; newlines behind an answer's end may be tokens of that answer.
          const bool behind_end = t > 0 && turn > 0 && encoded.weights[t - 1] > 0.0F;
          EXPECT_TRUE(behind_end || encoded.weights[t] == 0.0F) << chat_name << " chat " << i << " token " << t;
        }
      }
      EXPECT_EQ(turn, turns.size());
    }
  }
}

class Phi3Masks : public testing::Test {
 protected:
  EncodedRecord encode(std::vector<Message> messages, const EncodeOptions& options = {}) const {
    return encode_record(chat_of(std::move(messages)), tokenizer_, chat_, options);
  }
  std::string text(const EncodedRecord& encoded) const { return trained_text(encoded, tokenizer_); }

  const Tokenizer& tokenizer_ = tokenizer_named("spm_like");
  ChatTemplate chat_ = test::template_for("phi_3", tokenizer_named("spm_like"));
  const std::vector<Message> two_turns_ = {{"user", "a"}, {"assistant", "b"}, {"user", "c"}, {"assistant", "d"}};
};

TEST_F(Phi3Masks, TrainOnEosChoosesTheEnds) {
  EXPECT_EQ(text(encode(two_turns_)), " b<|end|> d<|end|><|endoftext|>");
  EXPECT_EQ(text(encode(two_turns_, {.train_on_eos = TrainOnEos::kLast})), " b d<|end|><|endoftext|>");
  EXPECT_EQ(text(encode(two_turns_, {.train_on_eos = TrainOnEos::kNone})), " b d");
  EXPECT_EQ(text(encode(two_turns_, {.train_on_eos = TrainOnEos::kAll})),
            "<|end|> b<|end|><|end|> d<|end|><|endoftext|>");
}

TEST_F(Phi3Masks, EndOfTextIsTrainedOnlyAfterAnAnswer) {
  const auto encoded = encode({{"user", "a"}, {"assistant", "b"}, {"user", "c"}});
  EXPECT_EQ(text(encoded), " b<|end|>");
  EXPECT_TRUE(encoded.ends_without_answer);
  EXPECT_FALSE(encode(two_turns_).ends_without_answer);
}

TEST_F(Phi3Masks, RolesToTrainAndTrainOnInputs) {
  EXPECT_EQ(text(encode(two_turns_, {.roles_to_train = {"user"}})), " a<|end|> c<|end|>");
  EXPECT_EQ(text(encode(two_turns_, {.roles_to_train = {"user", "assistant"}})),
            " a<|end|> b<|end|> c<|end|> d<|end|><|endoftext|>");
  EXPECT_EQ(text(encode(two_turns_, {.train_on_inputs = true})),
            " a<|end|><|assistant|> b<|end|><|user|> c<|end|><|assistant|> d<|end|><|endoftext|>")
      << "all but the first token";
}

TEST_F(Phi3Masks, MessagesCanBeLeftOutAndWeighed) {
  auto messages = two_turns_;
  messages[1].trained = false;
  EXPECT_EQ(text(encode(messages)), " d<|end|><|endoftext|>");
  messages[1].trained = true;
  messages[1].weight = 0.0F;
  EXPECT_EQ(text(encode(messages)), " d<|end|><|endoftext|>");
  messages[1].weight = 0.25F;
  const auto encoded = encode(messages);
  EXPECT_THAT(encoded.weights, ElementsAre(0, 0, 0, 0, 0.25F, 0.25F, 0, 0, 0, 0, 1, 1, 1))
      << "<|user|> _a <|end|> <|assistant|> _b <|end|> ... the answer's end weighs what the answer does";
}

TEST_F(Phi3Masks, AHeaderThatSwallowedTheContentsWhitespaceStaysUntrained) {
  const auto encoded = encode({{"user", "a"}, {"assistant", "\n\n b"}});
  EXPECT_EQ(text(encoded), " b<|end|><|endoftext|>");
  EXPECT_EQ(text(encode({{"user", "a"}, {"assistant", " \n"}})), "<|end|><|endoftext|>");
}

TEST_F(Phi3Masks, DefaultSystemMessageComesFirstUnlessThereIsOne) {
  const EncodeOptions options{.default_system_message = "b"};
  EXPECT_EQ(encode({{"user", "a"}, {"assistant", "c"}}, options).input_ids,
            encode({{"system", "b"}, {"user", "a"}, {"assistant", "c"}}).input_ids);
  EXPECT_EQ(encode({{"system", "a"}, {"user", "a"}}, options).input_ids,
            encode({{"system", "a"}, {"user", "a"}}).input_ids);
}

TEST_F(Phi3Masks, SpecialTokensInTheTextAreNoticed) {
  EXPECT_TRUE(encode({{"user", "what is <|end|>?"}}).special_token_in_text);
  EXPECT_FALSE(encode({{"user", "what is <|ending|>?"}}).special_token_in_text);
}

// Phi-4's tokens swallow whitespace on both sides: the end of turn begins inside the content, and is the end of turn.
TEST(EncodeRecord, AnEndThatSwallowedTheContentsTailIsStillTheEnd) {
  const Tokenizer& tokenizer = tokenizer_named("phi4_like");
  const auto chat = test::template_for("phi_4", tokenizer);
  const Record record = chat_of({{"user", "a  "}, {"assistant", "b \n"}});
  const auto text = [&](TrainOnEos eos) {
    EncodeOptions options;
    options.train_on_eos = eos;
    return trained_text(encode_record(record, tokenizer, chat, options), tokenizer);
  };
  EXPECT_EQ(text(TrainOnEos::kNone), "b");
  EXPECT_EQ(text(TrainOnEos::kTurn), "b<|im_end|>");
  EXPECT_EQ(text(TrainOnEos::kAll), "<|im_end|>b<|im_end|>");
}

TEST(EncodeRecord, DroppedSystemMessagesAreCounted) {
  const Tokenizer& tokenizer = tokenizer_named("spm_like");
  const auto chat = test::template_for("phi_3_medium", tokenizer);
  const auto encoded =
      encode_record(chat_of({{"system", "s"}, {"user", "a"}, {"assistant", "b"}}), tokenizer, chat, {});
  EXPECT_EQ(encoded.system_messages_dropped, 1);
}

Record text_record(std::string text) {
  Record record;
  record.format = RecordFormat::kText;
  record.completion = std::move(text);
  return record;
}

TEST(EncodeRecord, TextEndsWithOneEos) {
  const Tokenizer& tokenizer = tokenizer_named("spm_like");
  const ChatTemplate none(TemplateKind::kNone);
  const auto encoded = encode_record(text_record("a b"), tokenizer, none, {});
  EXPECT_EQ(encoded.input_ids.back(), *tokenizer.eos_id());
  EXPECT_EQ(encoded.input_ids, encode_record(text_record("a b<|endoftext|>"), tokenizer, none, {}).input_ids);
  EXPECT_THAT(trained(encoded), ElementsAre(0, 1, 1));
}

TEST(EncodeRecord, BosIsAddedForTokenizersThatAskAndNeverTwice) {
  test::TempFolder folder;
  for (const std::string file : {"tokenizer.json", "tokenizer.model", "tokenizer_config.json"}) {
    std::string text = test::read_all(test::references("tokenizers/spm_like/" + file));
    const std::string off = "\"add_bos_token\": false";
    if (const size_t at = text.find(off); at != std::string::npos) {
      text.replace(at, off.size(), "\"add_bos_token\": true");
    }
    folder.write(file, text);
  }
  const Tokenizer tokenizer = Tokenizer::open(folder.path());
  ASSERT_TRUE(tokenizer.add_bos_token());
  const ChatTemplate none(TemplateKind::kNone);
  EXPECT_EQ(encode_record(text_record("a"), tokenizer, none, {}).input_ids.front(), *tokenizer.bos_id());
  EXPECT_THAT(test::message_of<DataError>([&] { encode_record(text_record("<s>a"), tokenizer, none, {}); }),
              HasSubstr("two BOS tokens"));
  const auto chat = test::template_for("phi_3", tokenizer);
  EXPECT_NE(encode_record(chat_of({{"user", "a"}}), tokenizer, chat, {}).input_ids.front(), *tokenizer.bos_id())
      << "a chat holds what its template writes";
}

}  // namespace
}  // namespace phi3tune::data
