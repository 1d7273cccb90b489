#include "config/setting.h"

#include <fmt/format.h>

#include <algorithm>

#include "phi3tune/core/text.h"

namespace phi3tune::config {

io::Json to_json(const std::string& value) { return value.empty() ? io::Json(nullptr) : io::Json(value); }

std::optional<size_t> read_choice(const io::YamlNode& node, Reader& reader, const ValueType& type,
                                  const std::vector<std::vector<std::string>>& names) {
  if (node.kind != io::YamlNode::Kind::kScalar) {
    reader.wrong(node, type.wanted);
    return std::nullopt;
  }
  std::string text = node.scalar;
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto index_of = [&](const std::string& name) -> std::optional<size_t> {
    for (size_t i = 0; i < names.size(); ++i) {
      if (std::find(names[i].begin(), names[i].end(), name) != names[i].end()) {
        return i;
      }
    }
    return std::nullopt;
  };
  if (const auto index = index_of(text)) {
    return index;
  }
  if (const auto boolean = boolean_value(node)) {
    if (const auto index = index_of(*boolean ? "true" : "false")) {
      reader.note(node, fmt::format("{} is read as {}", found(node), *boolean));
      return index;
    }
  }
  if (std::find(type.later.begin(), type.later.end(), text) != type.later.end()) {
    reader.fault(node, fmt::format("{} does not work yet; wanted {}", text, type.wanted));
    return std::nullopt;
  }
  std::vector<std::string_view> candidates;
  for (const auto& spellings : names) {
    candidates.insert(candidates.end(), spellings.begin(), spellings.end());
  }
  const auto near = nearest_name(text, candidates);
  reader.wrong(node, type.wanted + (near ? fmt::format("; did you mean {}?", *near) : ""));
  return std::nullopt;
}

io::Json choice_json(const std::string& name) {
  if (name == "true" || name == "false") {
    return name == "true";
  }
  if (const auto number = parse_int(name)) {
    return *number;
  }
  return name;
}

ValueType choice_type(std::vector<std::string> works, std::vector<std::string> later) {
  ValueType type;
  type.kind = Kind::kChoice;
  type.wanted = works.size() == 1   ? works.front()
                : works.size() == 2 ? fmt::format("{} or {}", works[0], works[1])
                                    : fmt::format("one of {}", fmt::join(works, ", "));
  type.choices = std::move(works);
  type.later = std::move(later);
  return type;
}

}  // namespace phi3tune::config
