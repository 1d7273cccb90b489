// lora_target_modules and its kin: which of the four linear layers of a Phi-3 block.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "config/table.h"
#include "phi3tune/core/text.h"

namespace phi3tune::config {
namespace {

constexpr std::array<std::string_view, 4> kLinears{"qkv_proj", "o_proj", "gate_up_proj", "down_proj"};

// Phi-3 keeps these fused; checkpoints and adapters of Llama's layout keep them apart.
struct Split {
  std::string_view part;
  std::string_view whole;
};
constexpr std::array<Split, 5> kSplits{{{"q_proj", "qkv_proj"},
                                        {"k_proj", "qkv_proj"},
                                        {"v_proj", "qkv_proj"},
                                        {"gate_proj", "gate_up_proj"},
                                        {"up_proj", "gate_up_proj"}}};

std::string_view whole_of(std::string_view name) {
  for (const auto& split : kSplits) {
    if (split.part == name) {
      return split.whole;
    }
  }
  return {};
}

bool is_plain_name(std::string_view text) {
  return !text.empty() && text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
                              std::string_view::npos;
}

void unknown_module(const io::YamlNode& node, Reader& reader, const std::string& name) {
  if (name == "lm_head" || name == "embed_tokens") {
    reader.fault(node, fmt::format("an adapter on {} does not work yet; wanted {}", name, fmt::join(kLinears, ", ")));
    return;
  }
  std::vector<std::string_view> candidates(kLinears.begin(), kLinears.end());
  for (const auto& split : kSplits) {
    candidates.push_back(split.part);
  }
  const auto near = nearest_name(name, candidates);
  reader.fault(node, fmt::format("found \"{}\"; wanted some of {}{}", name, fmt::join(kLinears, ", "),
                                 near ? fmt::format("; did you mean {}?", *near) : ""));
}

void add_once(std::vector<std::string>& list, std::string_view name) {
  if (std::find(list.begin(), list.end(), name) == list.end()) {
    list.emplace_back(name);
  }
}

// Split names of `names`, and the fused layers they became, in a note.
void note_mapped(const io::YamlNode& node, Reader& reader, const std::vector<std::string>& names) {
  for (const std::string_view whole : {"qkv_proj", "gate_up_proj"}) {
    std::vector<std::string> parts;
    size_t all = 0;
    for (const auto& split : kSplits) {
      all += split.whole == whole ? 1 : 0;
      if (split.whole == whole && std::find(names.begin(), names.end(), split.part) != names.end()) {
        parts.emplace_back(split.part);
      }
    }
    if (!parts.empty()) {
      reader.note(
          node, fmt::format("{} {} part of {}, which Phi-3 keeps fused: the adapter is on {}{}", fmt::join(parts, ", "),
                            parts.size() == 1 ? "is" : "are", whole, whole, parts.size() < all ? ", all of it" : ""));
    }
  }
}

}  // namespace

void read_target_modules(const io::YamlNode& node, Reader& reader, LoraOptions& lora) {
  if (node.kind == io::YamlNode::Kind::kScalar) {
    if (node.scalar == "all-linear" || node.scalar == "all") {
      lora.target_modules = {"all-linear"};
      return;
    }
    if (!is_plain_name(node.scalar) && node.scalar.find(',') == std::string::npos) {
      if (auto pattern = reader.regex(node)) {
        lora.target_regex = std::move(*pattern);
        reader.note(node, fmt::format("{} is read as a regular expression", found(node)));
      }
      return;
    }
  }
  const auto names = reader.text_list(node);
  if (!names) {
    return;
  }
  std::vector<std::string> targets;
  for (const auto& name : *names) {
    if (name == "all-linear" || name == "all") {
      if (names->size() > 1) {
        reader.fault(node, fmt::format("{} is every linear layer; take the other names out, or {}", name, name));
      }
      targets = {"all-linear"};
    } else if (const auto whole = whole_of(name); !whole.empty()) {
      add_once(targets, whole);
    } else if (std::find(kLinears.begin(), kLinears.end(), name) != kLinears.end()) {
      add_once(targets, name);
    } else {
      unknown_module(node, reader, name);
    }
  }
  if (names->empty()) {
    reader.fault(node, fmt::format("found an empty list; wanted all-linear or some of {}", fmt::join(kLinears, ", ")));
  }
  note_mapped(node, reader, *names);
  lora.target_modules = std::move(targets);
}

void read_exclude_modules(const io::YamlNode& node, Reader& reader, LoraOptions& lora) {
  const auto names = reader.text_list(node);
  if (!names) {
    return;
  }
  lora.exclude_modules.clear();
  for (const auto& name : *names) {
    if (const auto whole = whole_of(name); !whole.empty()) {
      reader.fault(node, fmt::format("{} is a part of {}, which Phi-3 keeps fused; exclude {} or nothing of it", name,
                                     whole, whole));
    } else if (std::find(kLinears.begin(), kLinears.end(), name) != kLinears.end()) {
      add_once(lora.exclude_modules, name);
    } else {
      unknown_module(node, reader, name);
    }
  }
}

std::vector<std::pair<std::string, double>> read_pattern_map(const io::YamlNode& node, Reader& reader, bool integers,
                                                             const Range& range) {
  std::vector<std::pair<std::string, double>> patterns;
  if (node.kind != io::YamlNode::Kind::kMapping) {
    reader.wrong(node, "a mapping of regular expressions to numbers");
    return patterns;
  }
  for (const auto& [key, value] : node.members) {
    auto inside = reader.inside("[" + key.scalar + "]");
    if (const auto whole = whole_of(key.scalar); !whole.empty()) {
      inside.fault(key, fmt::format("{} is a part of {}, which Phi-3 keeps fused; write {}", key.scalar, whole, whole));
    } else if (!inside.regex(key)) {
      continue;
    }
    std::optional<double> number;
    if (integers) {
      if (const auto whole_number = inside.integer(value, range)) {
        number = static_cast<double>(*whole_number);
      }
    } else {
      number = inside.number(value, range);
    }
    if (number) {
      patterns.emplace_back(key.scalar, *number);
    }
  }
  return patterns;
}

}  // namespace phi3tune::config
