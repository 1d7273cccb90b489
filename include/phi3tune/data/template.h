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
  bool trained = true;                              // only looked at for roles in roles_to_train
  float weight = 1.0F;                              // weight of the message's trained tokens; 0 = not trained
  std::optional<std::string> tools = std::nullopt;  // phi_4_mini: the system message's tools member, as text
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
  // eos_text: what the tokenizer calls its eos token; phi_3, phi_35 and phi_4_mini end a whole conversation with it.
  // default_system: chatml only, the system message the template itself puts before a conversation that does not begin
  // with one (empty: none). bos_text: what phi_3_first begins with.
  explicit ChatTemplate(TemplateKind kind, std::string eos_text = {}, std::string default_system = {},
                        std::string bos_text = "<s>");

  // `name`: a CONFIG chat_template value. "auto" compares the folder's own template text with the known ones and throws
  // ModelError that names the first difference to the nearest one when none is equal, or when there is none; a name is
  // used as it is (ModelError if the tokenizer lacks its tokens), with a note if the folder's own differs.
  static ChatTemplate choose(const std::string& name, const Tokenizer& tokenizer, std::vector<std::string>& notes);
  // The known template that `text` is, apart from whitespace and spelling that Jinja does not see; nullopt if none.
  static std::optional<ChatTemplate> recognise(std::string_view text, const std::string& eos_text,
                                               const std::string& bos_text);

  TemplateKind kind() const noexcept { return kind_; }
  std::string_view name() const noexcept;
  // Throws DataError (no place) for message sequences the template cannot hold (unknown role, tools).
  // Text that no message wrote (a default system message) is a header region of message 0.
  Rendered render(const std::vector<Message>& messages, bool add_generation_prompt) const;
  // e.g. "<|end|>", what ends an assistant turn; empty for kNone.
  std::string_view end_of_turn() const noexcept;
  // The Jinja text of this template, for the result folder: the folder's own when it was recognised.
  std::string_view jinja() const noexcept { return jinja_; }
  const std::string& default_system() const noexcept { return default_system_; }
  // False for phi_3_first and phi_3_medium, which leave system messages out.
  bool holds_system_messages() const noexcept;
  // Added tokens that the template writes: a tokenizer without one of them does not fit.
  std::vector<std::string_view> tokens() const;

 private:
  TemplateKind kind_;
  std::string eos_text_;
  std::string default_system_;
  std::string bos_text_;
  std::string jinja_;
};

// CONFIG names: "phi_3", "phi_3_first", "phi_3_medium", "phi_35", "phi_4", "phi_4_mini", "chatml", "none".
std::string_view template_name(TemplateKind kind) noexcept;

}  // namespace phi3tune::data
