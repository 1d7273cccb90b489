#include "phi3tune/data/encoding.h"

#include <fmt/format.h>

#include <algorithm>

#include "phi3tune/core/error.h"

namespace phi3tune::data {
namespace {

using config::TrainOnEos;
using Kind = RenderedRegion::Kind;

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string eos_text(const Tokenizer& tokenizer) {
  const auto eos = tokenizer.eos_id();
  for (const AddedToken& token : tokenizer.added_tokens()) {
    if (eos && token.id == *eos) {
      return token.content;
    }
  }
  throw DataError("plain text is ended by the tokenizer's eos token, and this tokenizer names none");
}

// The region each token belongs to. An added token may have swallowed whitespace on either side, so a token that
// covers the first byte of a marker (header, end of turn, end of text) is that marker; any other belongs to the region
// it begins in.
std::vector<const RenderedRegion*> regions_of(const std::vector<TokenSpan>& spans,
                                              const std::vector<RenderedRegion>& regions) {
  std::vector<const RenderedRegion*> found(spans.size());
  size_t r = 0;
  for (size_t t = 0; t < spans.size(); ++t) {
    while (r + 1 < regions.size() && regions[r].end <= spans[t].begin) {
      ++r;
    }
    found[t] = &regions[r];
    for (size_t next = r; next < regions.size() && regions[next].begin < spans[t].end; ++next) {
      if (regions[next].kind != Kind::kContent && regions[next].begin >= spans[t].begin) {
        found[t] = &regions[next];
        break;
      }
    }
  }
  return found;
}

// A region ends with the first token that covers its last byte. Where a tokenizer makes two tokens of a newline, "▁"
// and the newline itself, the second is outside: transformers' char_to_token finds the first.
bool after_last_byte(const std::vector<TokenSpan>& spans, size_t t, const RenderedRegion& region) {
  return t > 0 && spans[t - 1].begin >= region.begin &&
         std::max(spans[t - 1].end, spans[t - 1].begin + 1) >= region.end;
}

// What the tokens of each message weigh.
struct MessageRule {
  bool trained = false;
  bool end_trained = false;
  float weight = 0.0F;
};

std::vector<MessageRule> rules_of(const std::vector<Message>& messages, const EncodeOptions& options) {
  std::vector<MessageRule> rules(messages.size());
  size_t last_trained = messages.size();
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    rules[i].weight = message.weight;
    rules[i].trained = message.trained && message.weight > 0.0F &&
                       (options.train_on_inputs || contains(options.roles_to_train, message.role));
    rules[i].end_trained =
        (rules[i].trained && options.train_on_eos == TrainOnEos::kTurn) || options.train_on_eos == TrainOnEos::kAll;
    if (options.train_on_eos == TrainOnEos::kAll && message.weight <= 0.0F) {
      rules[i].weight = 1.0F;  // asked for: every end of turn
    }
    if (rules[i].trained) {
      last_trained = i;
    }
  }
  if (options.train_on_eos == TrainOnEos::kLast && last_trained < messages.size()) {
    rules[last_trained].end_trained = true;
  }
  return rules;
}

void encode_chat(const Record& record, const std::vector<Message>& messages, const Tokenizer& tokenizer,
                 const ChatTemplate& chat_template, const EncodeOptions& options, EncodedRecord& out) {
  const Rendered rendered = chat_template.render(messages, false);
  const auto spans = tokenizer.encode_with_spans(rendered.text);
  const auto regions = regions_of(spans, rendered.regions);
  const auto rules = rules_of(messages, options);
  out.input_ids.resize(spans.size());
  out.weights.assign(spans.size(), 0.0F);
  out.cuts.assign(spans.size(), Cut::kNever);
  for (size_t t = 0; t < spans.size(); ++t) {
    out.input_ids[t] = spans[t].id;
    const RenderedRegion& region = *regions[t];
    const MessageRule& rule = rules[region.message];
    switch (region.kind) {
      case Kind::kHeader:
        out.weights[t] = options.train_on_inputs && rule.trained ? rule.weight : 0.0F;
        break;
      case Kind::kContent:
        out.weights[t] = rule.trained ? rule.weight : 0.0F;
        if (!rule.trained) {
          out.cuts[t] = messages[region.message].role == "system" ? Cut::kSystem : Cut::kFirst;
        }
        break;
      case Kind::kEndOfTurn:
        out.weights[t] = rule.end_trained && !after_last_byte(spans, t, region) ? rule.weight : 0.0F;
        break;
      case Kind::kEndOfText: {
        const bool of_trained = rule.trained && rule.end_trained;
        out.weights[t] = of_trained || options.train_on_eos == TrainOnEos::kAll ? rule.weight : 0.0F;
        break;
      }
    }
  }
  if (record.format != config::RecordFormat::kPromptCompletion) {
    out.ends_without_answer = !contains(options.roles_to_train, messages.back().role);
  }
}

// Trained from where prompt and whole part, as TRL does it.
void train_completion(const std::vector<int32_t>& prompt, bool train_on_inputs, EncodedRecord& out) {
  const auto& whole = out.input_ids;
  const auto parted = std::mismatch(prompt.begin(), prompt.end(), whole.begin(), whole.end());
  const auto shared = static_cast<size_t>(parted.first - prompt.begin());
  out.prompt_not_prefix = shared < prompt.size();
  out.weights.assign(whole.size(), 1.0F);
  if (!train_on_inputs) {
    std::fill(out.weights.begin(), out.weights.begin() + static_cast<std::ptrdiff_t>(shared), 0.0F);
  }
}

// A prompt/completion chat: the template's own tokens and those of the completion stay when the prompt is cut.
void encode_prompt_chat(const Record& record, const std::vector<Message>& messages, const Tokenizer& tokenizer,
                        const ChatTemplate& chat_template, const EncodeOptions& options, EncodedRecord& out) {
  encode_chat(record, messages, tokenizer, chat_template, options, out);
  const size_t in_prompt = record.prompt_messages + (messages.size() - record.messages.size());
  const std::vector<Message> prompt(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(in_prompt));
  train_completion(tokenizer.encode(chat_template.render(prompt, true).text), options.train_on_inputs, out);
  for (size_t t = 0; t < out.cuts.size(); ++t) {
    if (out.weights[t] > 0.0F) {
      out.cuts[t] = Cut::kNever;
    }
  }
}

void encode_text_record(const Record& record, const Tokenizer& tokenizer, const EncodeOptions& options,
                        EncodedRecord& out) {
  const bool with_prompt = record.format == config::RecordFormat::kPromptCompletion;
  std::string whole = record.prompt + record.completion;
  const std::string eos = eos_text(tokenizer);
  if (!whole.ends_with(eos)) {
    whole += eos;
  }
  if (tokenizer.add_bos_token() && !tokenizer.bos_id()) {
    throw DataError("the tokenizer's add_bos_token is true and it names no bos token");
  }
  const size_t own = tokenizer.add_bos_token() ? 1 : 0;
  out.input_ids = encode_text(whole, tokenizer);
  if (with_prompt) {
    const auto prompt = encode_text(record.prompt, tokenizer);
    train_completion(prompt, options.train_on_inputs, out);
  } else {
    out.weights.assign(out.input_ids.size(), 1.0F);
  }
  out.cuts.assign(out.input_ids.size(), Cut::kNever);
  for (size_t t = own; t < out.cuts.size() && out.weights[t] == 0.0F; ++t) {
    out.cuts[t] = Cut::kFirst;
  }
}

void check_bos(const std::vector<int32_t>& ids, const Tokenizer& tokenizer) {
  const auto bos = tokenizer.bos_id();
  if (bos && bos != tokenizer.eos_id() && ids.size() > 1 && ids[0] == *bos && ids[1] == *bos) {
    throw DataError(
        "the row begins with two BOS tokens ({}): the text holds one and another is added; remove it from "
        "the text",
        tokenizer.token_text(*bos));
  }
}

bool spells_special_token(std::string_view text, const Tokenizer& tokenizer) {
  if (text.find('<') == std::string_view::npos) {
    return false;
  }
  const auto tokens = tokenizer.added_tokens();
  return std::any_of(tokens.begin(), tokens.end(), [&](const AddedToken& token) {
    return !token.content.empty() && text.find(token.content) != std::string_view::npos;
  });
}

}  // namespace

EncodedRecord encode_record(const Record& record, const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                            const EncodeOptions& options) {
  EncodedRecord out;
  if (record.is_chat()) {
    std::vector<Message> messages;
    if (options.default_system_message && record.messages.front().role != "system") {
      messages.push_back({"system", *options.default_system_message});
    }
    messages.insert(messages.end(), record.messages.begin(), record.messages.end());
    if (!chat_template.holds_system_messages()) {
      out.system_messages_dropped =
          std::count_if(messages.begin(), messages.end(), [](const Message& m) { return m.role == "system"; });
    }
    if (record.format == config::RecordFormat::kPromptCompletion) {
      encode_prompt_chat(record, messages, tokenizer, chat_template, options, out);
    } else {
      encode_chat(record, messages, tokenizer, chat_template, options, out);
    }
    out.special_token_in_text = std::any_of(record.messages.begin(), record.messages.end(), [&](const Message& m) {
      return spells_special_token(m.content, tokenizer);
    });
  } else {
    encode_text_record(record, tokenizer, options, out);
    out.special_token_in_text =
        spells_special_token(record.prompt, tokenizer) || spells_special_token(record.completion, tokenizer);
  }
  check_bos(out.input_ids, tokenizer);
  if (!out.weights.empty()) {
    out.weights.front() = 0.0F;
  }
  return out;
}

std::vector<int32_t> encode_text(const std::string& text, const Tokenizer& tokenizer) {
  auto ids = tokenizer.encode(text);
  if (tokenizer.add_bos_token() && tokenizer.bos_id()) {
    ids.insert(ids.begin(), *tokenizer.bos_id());
  }
  return ids;
}

}  // namespace phi3tune::data
