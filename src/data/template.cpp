#include "phi3tune/data/template.h"

#include <fmt/format.h>

#include "phi3tune/core/error.h"
#include "phi3tune/data/jinja.h"

namespace phi3tune::data {
namespace {

using Kind = RenderedRegion::Kind;

// Appends stretches of text, each with its meaning.
class Writer {
 public:
  void add(Kind kind, size_t message, std::string_view text) {
    if (text.empty()) {
      return;
    }
    const size_t begin = rendered_.text.size();
    rendered_.text += text;
    rendered_.regions.push_back({begin, rendered_.text.size(), message, kind});
  }
  void add(Kind kind, size_t message, std::initializer_list<std::string_view> parts) {
    std::string text;
    for (const auto part : parts) {
      text += part;
    }
    add(kind, message, text);
  }
  Rendered take() { return std::move(rendered_); }

 private:
  Rendered rendered_;
};

[[noreturn]] void refuse_role(const Message& message, std::string_view name, std::string_view wanted) {
  throw DataError("role \"{}\" has no place in the chat template {}; it knows {}", message.role, name, wanted);
}

bool has_tools(const Message& message) { return message.tools.has_value(); }

bool is_chat_role(const std::string& role) { return role == "system" || role == "user" || role == "assistant"; }

void check_messages(const std::vector<Message>& messages, TemplateKind kind) {
  const auto name = template_name(kind);
  const bool tool_role = kind == TemplateKind::kPhi4Mini || kind == TemplateKind::kChatMl;
  for (const Message& message : messages) {
    if (!is_chat_role(message.role) && !(tool_role && message.role == "tool")) {
      refuse_role(message, name, tool_role ? "system, user, assistant and tool" : "system, user and assistant");
    }
    if (has_tools(message) && (kind != TemplateKind::kPhi4Mini || message.role != "system")) {
      throw DataError("a {} message has tools, and the chat template {} has no place for them{}", message.role, name,
                      kind == TemplateKind::kPhi4Mini ? " but in a system message" : "");
    }
  }
}

}  // namespace

std::string_view template_name(TemplateKind kind) noexcept {
  switch (kind) {
    case TemplateKind::kPhi3:
      return "phi_3";
    case TemplateKind::kPhi3First:
      return "phi_3_first";
    case TemplateKind::kPhi3Medium:
      return "phi_3_medium";
    case TemplateKind::kPhi35:
      return "phi_35";
    case TemplateKind::kPhi4:
      return "phi_4";
    case TemplateKind::kPhi4Mini:
      return "phi_4_mini";
    case TemplateKind::kChatMl:
      return "chatml";
    case TemplateKind::kNone:
      break;
  }
  return "none";
}

std::string_view ChatTemplate::name() const noexcept { return template_name(kind_); }

bool ChatTemplate::holds_system_messages() const noexcept {
  return kind_ != TemplateKind::kPhi3First && kind_ != TemplateKind::kPhi3Medium;
}

std::string_view ChatTemplate::end_of_turn() const noexcept {
  switch (kind_) {
    case TemplateKind::kPhi4:
    case TemplateKind::kChatMl:
      return "<|im_end|>";
    case TemplateKind::kNone:
      return {};
    default:
      return "<|end|>";
  }
}

std::vector<std::string_view> ChatTemplate::tokens() const {
  switch (kind_) {
    case TemplateKind::kPhi3First:
    case TemplateKind::kPhi3Medium:
      return {"<|user|>", "<|assistant|>", "<|end|>"};
    case TemplateKind::kPhi4:
      return {"<|im_start|>", "<|im_sep|>", "<|im_end|>"};
    case TemplateKind::kChatMl:
      return {"<|im_start|>", "<|im_end|>"};
    case TemplateKind::kNone:
      return {};
    default:
      return {"<|system|>", "<|user|>", "<|assistant|>", "<|end|>"};
  }
}

Rendered ChatTemplate::render(const std::vector<Message>& messages, bool add_generation_prompt) const {
  if (kind_ == TemplateKind::kNone) {
    throw DataError(
        "chat messages need a chat template and chat_template is none; name one (phi_3, phi_35, phi_4, phi_4_mini, "
        "chatml, ...) or use records of plain text");
  }
  check_messages(messages, kind_);
  Writer out;
  const size_t last = messages.empty() ? 0 : messages.size() - 1;
  if (kind_ == TemplateKind::kPhi3First) {
    out.add(Kind::kHeader, 0, bos_text_);
  }
  if (kind_ == TemplateKind::kChatMl && !default_system_.empty() && !messages.empty() &&
      messages.front().role != "system") {
    out.add(Kind::kHeader, 0, {"<|im_start|>system\n", default_system_, "<|im_end|>\n"});
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    switch (kind_) {
      case TemplateKind::kPhi35:
        if (message.role == "system" && message.content.empty()) {
          break;
        }
        [[fallthrough]];
      case TemplateKind::kPhi3:
        out.add(Kind::kHeader, i, {"<|", message.role, "|>\n"});
        out.add(Kind::kContent, i, message.content);
        out.add(Kind::kEndOfTurn, i, "<|end|>\n");
        break;
      case TemplateKind::kPhi3First:
      case TemplateKind::kPhi3Medium:
        if (message.role == "user") {
          out.add(Kind::kHeader, i, "<|user|>\n");
          out.add(Kind::kContent, i, message.content);
          out.add(Kind::kEndOfTurn, i, "<|end|>\n");
          out.add(Kind::kHeader, i, "<|assistant|>\n");
        } else if (message.role == "assistant") {
          out.add(Kind::kContent, i, message.content);
          out.add(Kind::kEndOfTurn, i, "<|end|>\n");
        }
        break;
      case TemplateKind::kPhi4:
        out.add(Kind::kHeader, i, {"<|im_start|>", message.role, "<|im_sep|>"});
        out.add(Kind::kContent, i, message.content);
        out.add(Kind::kEndOfTurn, i, "<|im_end|>");
        break;
      case TemplateKind::kPhi4Mini:
        out.add(Kind::kHeader, i, {"<|", message.role, "|>"});
        out.add(Kind::kContent, i, message.content);
        if (has_tools(message)) {
          out.add(Kind::kContent, i, {"<|tool|>", *message.tools, "<|/tool|>"});
        }
        out.add(Kind::kEndOfTurn, i, "<|end|>");
        break;
      case TemplateKind::kChatMl:
        out.add(Kind::kHeader, i, {"<|im_start|>", message.role, "\n"});
        out.add(Kind::kContent, i, message.content);
        out.add(Kind::kEndOfTurn, i, "<|im_end|>\n");
        break;
      case TemplateKind::kNone:
        break;
    }
  }
  switch (kind_) {
    case TemplateKind::kPhi3:
    case TemplateKind::kPhi35:
      if (add_generation_prompt) {
        out.add(Kind::kHeader, last, "<|assistant|>\n");
      } else {
        out.add(Kind::kEndOfText, last, eos_text_);
      }
      break;
    case TemplateKind::kPhi4Mini:
      if (add_generation_prompt) {
        out.add(Kind::kHeader, last, "<|assistant|>");
      } else {
        out.add(Kind::kEndOfText, last, eos_text_);
      }
      break;
    case TemplateKind::kPhi4:
      if (add_generation_prompt) {
        out.add(Kind::kHeader, last, "<|im_start|>assistant<|im_sep|>");
      }
      break;
    case TemplateKind::kChatMl:
      if (add_generation_prompt) {
        out.add(Kind::kHeader, last, "<|im_start|>assistant\n");
      }
      break;
    default:
      break;  // phi_3_first and phi_3_medium: the header belongs to the user's turn
  }
  return out.take();
}

}  // namespace phi3tune::data
