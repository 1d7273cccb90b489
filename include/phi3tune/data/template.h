// The chat templates of the Phi family, built in: text and trained regions from their own structure.
//
// A template found in a model folder is compared with these, never executed.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "phi3tune/data/tokenizer.h"

namespace phi3tune::data {

struct Message {
  std::string role;  // "system" | "user" | "assistant" | "tool"
  std::string content;
  bool trained = true;               // only looked at for roles in roles_to_train
  float weight = 1.0F;               // weight of the message's trained tokens; 0 = not trained
  std::optional<std::string> tools;  // phi_4_mini: the system message's tools member, as text
};

// A stretch of rendered text that belongs to a message.
struct RenderedRegion {
  size_t begin = 0;  // bytes of the rendered text
  size_t end = 0;
  size_t message = 0;  // index; the end-of-conversation token belongs to the last message
  enum class Kind { kHeader, kContent, kEndOfTurn, kEndOfText } kind = Kind::kContent;
};

struct Rendered {
  std::string text;
  std::vector<RenderedRegion> regions;  // in order, covering the text
};

enum class TemplateKind { kPhi3, kPhi3First, kPhi3Medium, kPhi35, kPhi4, kPhi4Mini, kChatMl, kNone };

class ChatTemplate {
 public:
  explicit ChatTemplate(TemplateKind kind, std::string eos_text = {}) : kind_(kind), eos_text_(std::move(eos_text)) {}

  // `name`: a CONFIG chat_template value. "auto" compares the folder's own template text with the known ones and throws
  // ModelError that names the first difference to the nearest one when none is equal, or when there is none; a name is
  // used as it is (ModelError if the tokenizer lacks its tokens), with a note if the folder's own differs.
  static ChatTemplate choose(const std::string& name, const Tokenizer& tokenizer, std::vector<std::string>& notes);

  TemplateKind kind() const noexcept { return kind_; }
  std::string_view name() const noexcept;
  // Throws DataError (no place) for message sequences the template cannot hold (unknown role).
  Rendered render(const std::vector<Message>& messages, bool add_generation_prompt) const;
  // e.g. "<|end|>", what ends an assistant turn; empty for kNone.
  std::string_view end_of_turn() const noexcept;
  // The Jinja text of this template, for the result folder.
  std::string_view jinja() const noexcept;

 private:
  TemplateKind kind_;
  std::string eos_text_;
};

}  // namespace phi3tune::data
