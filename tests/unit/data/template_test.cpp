#include "phi3tune/data/template.h"

#include <gmock/gmock.h>

#include "chat_support.h"
#include "phi3tune/core/error.h"
#include "phi3tune/data/jinja.h"

namespace phi3tune::data {
namespace {

using test::references;
using testing::HasSubstr;

std::vector<io::Json> golden() { return test::read_jsonl(references("chat/templates.jsonl")); }

TEST(ChatTemplate, RendersWhatTransformersRenders) {
  const auto rows = golden();
  ASSERT_EQ(rows.size(), 228U);
  for (const auto& row : rows) {
    const ChatTemplate chat(test::kind_named(row.at("template")), row.at("eos"), row.at("default_system"),
                            row.at("bos"));
    EXPECT_EQ(chat.render(test::messages_of(row.at("messages")), row.at("add_generation_prompt")).text,
              row.at("text").get<std::string>())
        << row.at("template") << " " << row.at("messages");
  }
}

TEST(ChatTemplate, RegionsCoverTheTextInOrder) {
  for (const auto& row : golden()) {
    const ChatTemplate chat(test::kind_named(row.at("template")), row.at("eos"), row.at("default_system"),
                            row.at("bos"));
    const auto messages = test::messages_of(row.at("messages"));
    const Rendered rendered = chat.render(messages, row.at("add_generation_prompt"));
    size_t at = 0;
    for (const auto& region : rendered.regions) {
      ASSERT_EQ(region.begin, at);
      ASSERT_LT(region.begin, region.end);
      at = region.end;
      const auto text = rendered.text.substr(region.begin, region.end - region.begin);
      if (region.kind == RenderedRegion::Kind::kContent && !messages[region.message].tools) {
        EXPECT_EQ(text, messages[region.message].content);
      } else if (region.kind == RenderedRegion::Kind::kEndOfTurn) {
        EXPECT_TRUE(text.starts_with(chat.end_of_turn())) << text;
      }
    }
    EXPECT_EQ(at, rendered.text.size());
  }
}

TEST(ChatTemplate, KnowsTheModelsOwnTexts) {
  size_t seen = 0;
  std::string last;
  for (const auto& row : golden()) {
    if (row.at("jinja") == last) {
      continue;
    }
    last = row.at("jinja");
    ++seen;
    const auto found = ChatTemplate::recognise(last, row.at("eos"), row.at("bos"));
    ASSERT_TRUE(found) << last;
    EXPECT_EQ(found->name(), row.at("template").get<std::string>());
    EXPECT_EQ(found->default_system(), row.at("default_system").get<std::string>());
    EXPECT_EQ(found->jinja(), last);
    // What we would write for it reads as the same template.
    const ChatTemplate ours(found->kind(), row.at("eos"), found->default_system(), row.at("bos"));
    EXPECT_EQ(canonical_jinja(ours.jinja()), canonical_jinja(last));
  }
  EXPECT_EQ(seen, 8U);
}

TEST(ChatTemplate, RefusesRolesAndToolsItCannotHold) {
  const std::vector<Message> tool = {{"user", "1+1"}, {"tool", "2"}};
  for (const auto kind : {TemplateKind::kPhi3, TemplateKind::kPhi3First, TemplateKind::kPhi3Medium,
                          TemplateKind::kPhi35, TemplateKind::kPhi4}) {
    const ChatTemplate chat(kind);
    EXPECT_THAT(test::message_of<DataError>([&] { chat.render(tool, false); }),
                HasSubstr("role \"tool\" has no place in the chat template"));
  }
  EXPECT_EQ(ChatTemplate(TemplateKind::kPhi4Mini).render(tool, false).text, "<|user|>1+1<|end|><|tool|>2<|end|>");
  std::vector<Message> with_tools = {{"system", "s"}};
  with_tools[0].tools = "[]";
  EXPECT_THROW(ChatTemplate(TemplateKind::kPhi3).render(with_tools, false), DataError);
  with_tools[0].role = "user";
  EXPECT_THROW(ChatTemplate(TemplateKind::kPhi4Mini).render(with_tools, false), DataError);
  EXPECT_THROW(ChatTemplate(TemplateKind::kNone).render({{"user", "x"}}, false), DataError);
}

TEST(ChatTemplate, ChatMlPutsItsDefaultSystemMessageFirstOnce) {
  const ChatTemplate chat(TemplateKind::kChatMl, "<|im_end|>", "Be kind.");
  EXPECT_EQ(chat.render({{"user", "x"}}, true).text,
            "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(chat.render({{"system", "Own."}, {"user", "x"}}, false).text,
            "<|im_start|>system\nOwn.<|im_end|>\n<|im_start|>user\nx<|im_end|>\n");
  EXPECT_EQ(chat.render({}, false).text, "");
}

TEST(Jinja, SpellingsThatJinjaDoesNotSeeCompareEqual) {
  const std::string plain = canonical_jinja("{% for m in x %}{{ '<|a|>\n' + m['role'] }}{% endfor %}");
  for (const char* text : {
           "{% for m in x %}\n{{ \"<|a|>\\n\" + m.role }}{% endfor %}\n",
           "{%- for m in x -%}\n   {{- '<|a|>' + '\\n' + m['role'] -}}\n{%- endfor -%}",
           "{# a remark #}\n{%for m in x%}{{'<|a|>'}}{{'\n'}}{{m.role}}{%endfor%}",
           "{% for m in x %}<|a|>\n{{ m.role }}{% endfor %}",
           "{% for m in x %}\n    {% if 0 %}{% endif %}{{ '<|a|>\n' + m.role }}{% endfor %}",
       }) {
    const bool same = canonical_jinja(text) == plain;
    EXPECT_EQ(same, std::string_view(text).find("if 0") == std::string_view::npos) << canonical_jinja(text);
  }
  for (const char* text : {
           "{% for m in x %}{{ '<|a|>' + m['role'] }}{% endfor %}",           // a newline less
           "{% for m in x %} {{ '<|a|>\n' + m['role'] }}{% endfor %}",        // a space is printed
           "{% for m in x %}{{ '<|a|>\n' + m['role'] | trim }}{% endfor %}",  // a filter
           "{% for m in x %}{{ '<|a|>\n' + m['role'] }}{% endfor %}x",
           "{% for m in y %}{{ '<|a|>\n' + m['role'] }}{% endfor %}",
           "{% for m in x %}{{ '<|a|>\n' ~ m['role'] }}{% endfor %}",
       }) {
    EXPECT_NE(canonical_jinja(text), plain) << text;
  }
  EXPECT_EQ(canonical_jinja("{% for m in x %}\n    {% set y = m %}\n{{ y }}{% endfor %}"),
            canonical_jinja("{% for m in x %}{% set y = m %}{{ y }}{% endfor %}"))
      << "lstrip_blocks and trim_blocks";
  EXPECT_NE(canonical_jinja("{% for m in x %}\n    {{ m }}{% endfor %}"),
            canonical_jinja("{% for m in x %}{{ m }}{% endfor %}"))
      << "what stands before a printed value is printed";
  EXPECT_EQ(canonical_jinja("{{ 'it''s' "), canonical_jinja("{{ 'it''s' "));  // unclosed: text
}

class ChooseTemplate : public testing::Test {
 protected:
  // spm_like with a template text in its config.
  Tokenizer with_template(const std::string& jinja) {
    for (const std::string file : {"tokenizer.json", "tokenizer.model"}) {
      folder_.write(file, test::read_all(references("tokenizers/spm_like/" + file)));
    }
    auto config = io::read_json_file<ModelError>(references("tokenizers/spm_like/tokenizer_config.json"));
    if (!jinja.empty()) {
      config["chat_template"] = jinja;
    }
    folder_.write("tokenizer_config.json", config.dump());
    return Tokenizer::open(folder_.path());
  }

  test::TempFolder folder_;
  std::vector<std::string> notes_;
};

std::string phi3_text() { return std::string(ChatTemplate(TemplateKind::kPhi3).jinja()); }

TEST_F(ChooseTemplate, AutoTakesTheFoldersOwn) {
  const auto chat = ChatTemplate::choose("auto", with_template(phi3_text()), notes_);
  EXPECT_EQ(chat.kind(), TemplateKind::kPhi3);
  EXPECT_TRUE(chat.render({{"user", "x"}}, false).text.ends_with("<|endoftext|>"));
  EXPECT_TRUE(notes_.empty());
}

TEST_F(ChooseTemplate, AutoNamesTheFirstDifference) {
  std::string changed = phi3_text();
  changed.replace(changed.rfind("<|end|>\n"), 8, "<|end|>");
  const auto message =
      test::message_of<ModelError>([&] { ChatTemplate::choose("auto", with_template(changed), notes_); });
  EXPECT_THAT(message, HasSubstr("the nearest is phi_3: after `"));
  EXPECT_THAT(message, HasSubstr("message['content']+'<|end|>` it has `'}}{%endif%}"));
  EXPECT_THAT(message, HasSubstr("where phi_3 has `\\n'}}{%endif%}"));
  EXPECT_THAT(message, HasSubstr("chat_template: phi_3, phi_3_first"));
}

TEST_F(ChooseTemplate, AutoWithoutATemplateAsksForAName) {
  EXPECT_THAT(test::message_of<ModelError>([&] { ChatTemplate::choose("auto", with_template(""), notes_); }),
              HasSubstr("holds no chat template; name one"));
}

TEST_F(ChooseTemplate, ANameIsUsedAndADifferenceNoted) {
  const Tokenizer tokenizer = with_template(phi3_text());
  EXPECT_EQ(ChatTemplate::choose("phi_35", tokenizer, notes_).kind(), TemplateKind::kPhi35);
  ASSERT_EQ(notes_.size(), 1U);
  EXPECT_THAT(notes_[0], HasSubstr("phi_35 is used; the model's folder holds phi_3"));
  notes_.clear();
  EXPECT_EQ(ChatTemplate::choose("none", tokenizer, notes_).kind(), TemplateKind::kNone);
  EXPECT_TRUE(notes_.empty());
}

TEST_F(ChooseTemplate, ATokenizerWithoutTheTemplatesTokensIsRefused) {
  const Tokenizer tokenizer = with_template(phi3_text());
  EXPECT_THAT(test::message_of<ModelError>([&] { ChatTemplate::choose("phi_4", tokenizer, notes_); }),
              HasSubstr("<|im_start|>, <|im_sep|>, <|im_end|>"));
  EXPECT_THAT(test::message_of<ConfigError>([&] { ChatTemplate::choose("phi3", tokenizer, notes_); }),
              HasSubstr("is not known; it is auto or one of phi_3"));
}

}  // namespace
}  // namespace phi3tune::data
