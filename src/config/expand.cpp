// ${VAR} and ${VAR:-default} inside values.
#include <fmt/format.h>

#include <cstdlib>

#include "config/reader.h"

namespace phi3tune::config {
namespace {

bool is_variable_name(std::string_view name) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) {
    return false;
  }
  return name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") ==
         std::string_view::npos;
}

std::string expanded(const io::YamlNode& node, FaultList& faults) {
  const std::string_view text = node.scalar;
  std::string out;
  for (size_t i = 0; i < text.size();) {
    if (text.substr(i).starts_with("$${")) {
      out += "${";
      i += 3;
      continue;
    }
    if (!text.substr(i).starts_with("${")) {
      out += text[i++];
      continue;
    }
    const auto end = text.find('}', i);
    if (end == std::string_view::npos) {
      faults.add(node.position, fmt::format("found {}; wanted a closing }} after ${{", found(node)));
      return out;
    }
    const auto inner = text.substr(i + 2, end - i - 2);
    const auto colon = inner.find(":-");
    const std::string name(inner.substr(0, colon));
    if (!is_variable_name(name)) {
      faults.add(node.position, fmt::format("found ${{{}}}; wanted ${{VAR}} or ${{VAR:-default}}, or $${{ for the "
                                            "characters themselves",
                                            inner));
      return out;
    }
    const char* value = std::getenv(name.c_str());
    if (colon != std::string_view::npos) {  // as the shell does it: empty counts as unset
      out += value != nullptr && *value != '\0' ? std::string_view(value) : inner.substr(colon + 2);
    } else if (value != nullptr) {
      out += value;
    } else {
      faults.add(node.position,
                 fmt::format("the environment has no {0}; set it, or give a default: ${{{0}:-default}}", name));
    }
    i = end + 1;
  }
  return out;
}

}  // namespace

void expand_variables(io::YamlNode& node, FaultList& faults) {
  if (node.kind == io::YamlNode::Kind::kScalar && node.scalar.find("${") != std::string::npos) {
    node.scalar = expanded(node, faults);
  }
  for (auto& item : node.items) {
    expand_variables(item, faults);
  }
  for (auto& [key, value] : node.members) {
    expand_variables(value, faults);
  }
}

}  // namespace phi3tune::config
