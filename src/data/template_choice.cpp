// Which template a folder means: its Jinja text compared with the known ones.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "phi3tune/core/error.h"
#include "phi3tune/data/jinja.h"
#include "phi3tune/data/template.h"

namespace phi3tune::data {
namespace {

constexpr std::array kKnown = {TemplateKind::kPhi3,  TemplateKind::kPhi3First, TemplateKind::kPhi3Medium,
                               TemplateKind::kPhi35, TemplateKind::kPhi4,      TemplateKind::kPhi4Mini,
                               TemplateKind::kChatMl};

constexpr std::string_view kNames = "phi_3, phi_3_first, phi_3_medium, phi_35, phi_4, phi_4_mini, chatml, none";

// As the models' own folders hold them (Phi-3-mini-4k-instruct, its first release, Phi-3-medium-4k-instruct,
// Phi-3.5-mini-instruct, phi-4, Phi-4-mini-instruct); chatml as most ChatML models do, default system message apart.
std::string template_jinja(TemplateKind kind, const std::string& default_system) {
  switch (kind) {
    case TemplateKind::kPhi3:
      return "{% for message in messages %}{% if message['role'] == 'system' %}{{'<|system|>\n' + message['content'] + "
             "'<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
             "{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
             "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}"
             "{% endif %}";
    case TemplateKind::kPhi3First:
      return "{{ bos_token }}" + template_jinja(TemplateKind::kPhi3Medium, default_system);
    case TemplateKind::kPhi3Medium:
      return "{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>' + '\n' + "
             "message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}{% elif (message['role'] == 'assistant') "
             "%}{{message['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}";
    case TemplateKind::kPhi35:
      return "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n' "
             "+ message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + "
             "message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + "
             "message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}"
             "{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}";
    case TemplateKind::kPhi4:
      return "{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + "
             "message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}"
             "{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] == "
             "'assistant') %}{{'<|im_start|>assistant<|im_sep|>' + message['content'] + '<|im_end|>'}}{% endif %}"
             "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}";
    case TemplateKind::kPhi4Mini:
      return "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and "
             "message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + "
             "message['tools'] + '<|/tool|>' + '<|end|>' }}{% else %}{{ '<|' + message['role'] + '|>' + "
             "message['content'] + '<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}"
             "{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}";
    case TemplateKind::kChatMl: {
      std::string text = "{% for message in messages %}";
      if (!default_system.empty()) {
        text += "{% if loop.first and messages[0]['role'] != 'system' %}{{ " +
                jinja_literal("<|im_start|>system\n" + default_system + "<|im_end|>\n") + " }}{% endif %}";
      }
      return text +
             "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
             "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    }
    case TemplateKind::kNone:
      break;
  }
  return {};
}

// The default system message of a ChatML template that has one: what stands where ours would hold \x01.
std::optional<std::string> chatml_default_system(const std::string& canonical) {
  const std::string ours = canonical_jinja(template_jinja(TemplateKind::kChatMl, "\x01"));
  const size_t hole = ours.find('\x01');
  const auto prefix = ours.substr(0, hole);
  const auto suffix = ours.substr(hole + 1);
  if (canonical.size() <= prefix.size() + suffix.size() || !canonical.starts_with(prefix) ||
      !canonical.ends_with(suffix)) {
    return std::nullopt;
  }
  const auto literal = canonical.substr(prefix.size(), canonical.size() - prefix.size() - suffix.size());
  std::string message;
  for (size_t i = 0; i < literal.size(); ++i) {
    if (literal[i] == '\'') {
      return std::nullopt;  // the literal ended: another expression follows
    }
    if (literal[i] == '\\' && i + 1 < literal.size()) {
      const char c = literal[++i];
      message += c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
    } else {
      message += literal[i];
    }
  }
  return message;
}

std::string token_content(const Tokenizer& tokenizer, std::optional<int32_t> id) {
  if (!id) {
    return {};
  }
  for (const AddedToken& token : tokenizer.added_tokens()) {
    if (token.id == *id) {
      return token.content;
    }
  }
  return tokenizer.token_text(*id);
}

void check_tokens(const ChatTemplate& chosen, const Tokenizer& tokenizer) {
  std::string missing;
  for (const auto token : chosen.tokens()) {
    const auto added = tokenizer.added_tokens();
    if (std::none_of(added.begin(), added.end(), [&](const AddedToken& a) { return a.content == token; })) {
      missing += fmt::format("{}{}", missing.empty() ? "" : ", ", token);
    }
  }
  if (!missing.empty()) {
    throw ModelError("chat_template {} writes {}, which the tokenizer does not know as added tokens; name another: {}",
                     chosen.name(), missing, kNames);
  }
}

// Says how the folder's text differs from the nearest known template.
std::string describe_difference(std::string_view text) {
  const std::string canonical = canonical_jinja(text);
  JinjaDifference nearest;
  std::string_view name;
  for (const TemplateKind kind : kKnown) {
    const auto difference = first_difference(canonical, canonical_jinja(template_jinja(kind, {})));
    if (name.empty() || difference.at > nearest.at) {
      nearest = difference;
      name = template_name(kind);
    }
  }
  return fmt::format("the nearest is {}: after `{}` it has `{}` where {} has `{}`", name, nearest.before, nearest.found,
                     name, nearest.wanted);
}

}  // namespace

ChatTemplate::ChatTemplate(TemplateKind kind, std::string eos_text, std::string default_system, std::string bos_text)
    : kind_(kind),
      eos_text_(std::move(eos_text)),
      default_system_(std::move(default_system)),
      bos_text_(std::move(bos_text)),
      jinja_(template_jinja(kind, default_system_)) {}

std::optional<ChatTemplate> ChatTemplate::recognise(std::string_view text, const std::string& eos_text,
                                                    const std::string& bos_text) {
  const std::string canonical = canonical_jinja(text);
  std::optional<ChatTemplate> found;
  for (const TemplateKind kind : kKnown) {
    if (canonical == canonical_jinja(template_jinja(kind, {}))) {
      found.emplace(kind, eos_text, std::string(), bos_text);
      break;
    }
  }
  if (!found) {
    if (auto system = chatml_default_system(canonical)) {
      found.emplace(TemplateKind::kChatMl, eos_text, std::move(*system), bos_text);
    }
  }
  if (found) {
    found->jinja_ = text;
  }
  return found;
}

ChatTemplate ChatTemplate::choose(const std::string& name, const Tokenizer& tokenizer,
                                  std::vector<std::string>& notes) {
  const std::string eos_text = token_content(tokenizer, tokenizer.eos_id());
  const std::string bos_text = token_content(tokenizer, tokenizer.bos_id());
  const auto& own_text = tokenizer.chat_template();
  std::optional<ChatTemplate> own;
  if (own_text) {
    own = recognise(*own_text, eos_text, bos_text);
  }
  if (name == "auto") {
    if (!own_text) {
      throw ModelError("the model's folder holds no chat template; name one with chat_template: {}", kNames);
    }
    if (!own) {
      throw ModelError(
          "the chat template in the model's folder is none of the built-in ones, and it is compared, never run; {}. "
          "Name the one to train with: chat_template: {}",
          describe_difference(*own_text), kNames);
    }
    check_tokens(*own, tokenizer);
    return *std::move(own);
  }
  std::optional<ChatTemplate> chosen;
  if (name == "none") {
    chosen.emplace(TemplateKind::kNone, eos_text);
  }
  for (const TemplateKind kind : kKnown) {
    if (name == template_name(kind)) {
      chosen.emplace(kind, eos_text, std::string(), bos_text.empty() ? "<s>" : bos_text);
    }
  }
  if (!chosen) {
    throw ConfigError("chat_template \"{}\" is not known; it is auto or one of {}", name, kNames);
  }
  check_tokens(*chosen, tokenizer);
  if (own && own->kind() != chosen->kind() && chosen->kind() != TemplateKind::kNone) {
    notes.push_back(fmt::format("chat_template {} is used; the model's folder holds {}", name, own->name()));
  } else if (own && own->kind() == chosen->kind() && !own->default_system().empty()) {
    notes.push_back(fmt::format(
        "chat_template {} is used as it is; the model's folder also puts a system message before chats without one "
        "(\"{}\"): chat_template auto keeps it",
        name, own->default_system()));
  } else if (own_text && !own && chosen->kind() != TemplateKind::kNone) {
    notes.push_back(fmt::format("chat_template {} is used; the model's folder holds another: {}", name,
                                describe_difference(*own_text)));
  }
  return *std::move(chosen);
}

}  // namespace phi3tune::data
