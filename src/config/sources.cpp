#include "config/sources.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

extern char** environ;

namespace phi3tune::config {
namespace {

constexpr std::string_view kEnvironmentPrefix = "PHI3_TUNE__";

// One name in one source. `path` leads into the setting's value ("datasets.0.path": 0, path).
struct Written {
  std::string name;
  std::vector<std::string> path;
  io::Position position;
  io::YamlNode value;
  size_t rank = 0;
  bool broken = false;
};

bool same_value(const io::YamlNode& a, const io::YamlNode& b) {
  if (a.kind != b.kind || a.items.size() != b.items.size() || a.members.size() != b.members.size()) {
    return false;
  }
  const auto x = parse_double(a.scalar);
  const auto y = parse_double(b.scalar);
  if (x && y ? *x != *y : a.scalar != b.scalar) {
    return false;
  }
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (!same_value(a.items[i], b.items[i])) {
      return false;
    }
  }
  for (size_t i = 0; i < a.members.size(); ++i) {
    const auto* other = b.find(a.members[i].first.scalar);
    if (other == nullptr || !same_value(a.members[i].second, *other)) {
      return false;
    }
  }
  return true;
}

// False if nothing of it could be read.
bool read_file(const std::string& file, size_t rank, std::vector<Written>& written, FaultList& faults) {
  io::YamlNode root;
  try {
    root = io::read_yaml_file(file);
  } catch (const ConfigError& error) {
    faults.add_lines(error.what());
    return false;
  }
  if (root.kind == io::YamlNode::Kind::kNull) {
    return true;
  }
  if (root.kind != io::YamlNode::Kind::kMapping) {
    faults.add(root.position, fmt::format("found {}; wanted settings, a line each: name: value", found(root)));
    return false;
  }
  for (auto& [key, value] : root.members) {
    if (value.position.line == 0) {
      value.position = key.position;
    }
    written.push_back({key.scalar, {}, key.position, std::move(value), rank, false});
  }
  return true;
}

std::vector<std::string> split(std::string_view text, std::string_view separator) {
  std::vector<std::string> parts;
  for (size_t end = 0; end != std::string_view::npos;) {
    end = text.find(separator);
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + separator.size());
  }
  return parts;
}

void place_all(io::YamlNode& node, const io::Position& position) {
  node.position = position;
  for (auto& item : node.items) {
    place_all(item, position);
  }
  for (auto& [key, value] : node.members) {
    place_all(key, position);
    place_all(value, position);
  }
}

// A value typed outside a file: text, except that [..] and {..} are lists and mappings where one is wanted.
io::YamlNode parse_typed(const std::string& text, const io::Position& position, bool structured, FaultList& faults) {
  io::YamlNode node;
  node.position = position;
  if (structured && (text.starts_with('[') || text.starts_with('{'))) {
    try {
      node = io::parse_yaml(text, position.file);
      place_all(node, position);
    } catch (const ConfigError& error) {
      faults.add_lines(error.what());
    }
    return node;
  }
  if (!text.empty() && text != "null" && text != "~") {
    node.kind = io::YamlNode::Kind::kScalar;
    node.scalar = text;
  }
  return node;
}

bool is_structured(const std::string& name) {
  const auto* setting = find_name(name).setting;
  return setting != nullptr && (setting->type.kind == Kind::kTextList || setting->type.kind == Kind::kMap ||
                                setting->type.kind == Kind::kRecords);
}

void add_typed(std::vector<std::string> path, const std::string& text, const io::Position& position, size_t rank,
               std::vector<Written>& written, FaultList& faults) {
  Written one;
  one.name = path.front();
  std::replace(one.name.begin(), one.name.end(), '-', '_');
  path.erase(path.begin());
  const auto* setting = find_name(one.name).setting;
  if (setting != nullptr && setting->type.kind == Kind::kMap && path.size() > 1) {
    path = {fmt::format("{}", fmt::join(path, "."))};  // the dots are the pattern's own
  }
  one.position = position;
  const auto faults_before = faults.size();
  one.value = parse_typed(text, position, is_structured(one.name), faults);
  one.broken = faults.size() > faults_before;
  one.path = std::move(path);
  one.rank = rank;
  written.push_back(std::move(one));
}

void read_environment(size_t rank, std::vector<Written>& written, FaultList& faults) {
  std::vector<std::pair<std::string, std::string>> variables;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (text.starts_with(kEnvironmentPrefix)) {
      const auto equals = text.find('=');
      variables.emplace_back(text.substr(0, equals), text.substr(equals + 1));
    }
  }
  std::sort(variables.begin(), variables.end());
  for (const auto& [name, value] : variables) {
    std::string key = name.substr(kEnvironmentPrefix.size());
    std::transform(key.begin(), key.end(), key.begin(), [](unsigned char c) { return std::tolower(c); });
    add_typed(split(key, "__"), value, {"environment " + name, 0, 0}, rank, written, faults);
  }
}

// Puts a value at a path inside a list or mapping.
bool put(io::YamlNode& node, const std::vector<std::string>& path, size_t depth, const io::YamlNode& value) {
  using NodeKind = io::YamlNode::Kind;
  if (depth == path.size()) {
    node = value;
    return true;
  }
  const auto& step = path[depth];
  if (const auto index = parse_int(step)) {
    if (node.kind == NodeKind::kNull) {
      node.kind = NodeKind::kSequence;
    }
    const auto size = static_cast<int64_t>(node.items.size());
    if (node.kind != NodeKind::kSequence || *index < 0 || *index > size) {
      return false;
    }
    if (*index == size) {
      node.items.emplace_back().position = value.position;
    }
    return put(node.items[static_cast<size_t>(*index)], path, depth + 1, value);
  }
  if (node.kind == NodeKind::kScalar && depth > 0) {  // a path alone, as an entry of datasets
    io::YamlNode key;
    key.kind = NodeKind::kScalar;
    key.position = node.position;
    key.scalar = "path";
    io::YamlNode mapping;
    mapping.position = node.position;
    mapping.members.push_back({std::move(key), std::move(node)});
    node = std::move(mapping);
    node.kind = NodeKind::kMapping;
  }
  if (node.kind == NodeKind::kNull) {
    node.kind = NodeKind::kMapping;
  }
  if (node.kind != NodeKind::kMapping) {
    return false;
  }
  for (auto& [key, member] : node.members) {
    if (key.scalar == step) {
      return put(member, path, depth + 1, value);
    }
  }
  io::YamlNode key;
  key.kind = NodeKind::kScalar;
  key.position = value.position;
  key.scalar = step;
  io::YamlNode member;
  member.position = value.position;
  node.members.push_back({std::move(key), std::move(member)});
  return put(node.members.back().second, path, depth + 1, value);
}

// The value in the canonical setting's terms.
void translate(Written& written, const Alias& alias, FaultList& faults) {
  auto& value = written.value;
  if (value.kind == io::YamlNode::Kind::kNull) {
    return;
  }
  if (alias.translation == Translation::kInverse) {
    const auto boolean = boolean_value(value);
    if (!boolean) {
      faults.add(value.position, fmt::format("{}: found {}; wanted true or false", written.name, found(value)));
      return;
    }
    value.scalar = *boolean ? "false" : "true";
    value.quoted = false;
  } else if (alias.translation == Translation::kBits) {
    if (value.scalar != "4") {
      faults.add(value.position, fmt::format("{}: found {}; wanted 4, the only width that works{}", written.name,
                                             found(value), value.scalar == "8" ? " yet" : ""));
      return;
    }
    value.scalar = "true";
    value.quoted = false;
  } else if (value.kind == io::YamlNode::Kind::kScalar && alias.translation == Translation::kOneLayer) {
    if (parse_int(value.scalar)) {
      auto item = value;
      value.kind = io::YamlNode::Kind::kSequence;
      value.items = {std::move(item)};
    }
  } else if (alias.translation == Translation::kLastLayers) {
    const auto count = parse_int(value.scalar);
    if (value.kind != io::YamlNode::Kind::kScalar || !count || (*count < 1 && *count != -1)) {
      faults.add(value.position, fmt::format("{}: found {}; wanted how many of the last layers, or -1 for all",
                                             written.name, found(value)));
    } else if (*count == -1) {
      value.kind = io::YamlNode::Kind::kNull;
    } else {
      value.scalar = "last:" + value.scalar;
    }
  }
}

class Merger {
 public:
  Merger(const SettingsSources& sources, FaultList& faults, std::vector<std::string>& notes)
      : sources_(sources), faults_(faults), notes_(notes) {}

  void add(Written written) {
    const auto known = find_name(written.name);
    if (known.setting == nullptr || known.setting->later) {
      refuse(written);
      return;
    }
    const auto faults_before = faults_.size();
    if (known.alias != nullptr) {
      notes_.push_back(fmt::format("{}: {} is read as {}{}", written.position.text(), written.name, known.setting->name,
                                   known.alias->translation == Translation::kInverse ? ", inverted" : ""));
      translate(written, *known.alias, faults_);
    }
    written.broken = written.broken || faults_.size() > faults_before;
    merge(known.setting->name, std::move(written));
  }

  GivenSettings take() { return std::move(given_); }

 private:
  void refuse(const Written& written) {
    const auto& allowed = sources_.allow_unknown;
    if (std::find(allowed.begin(), allowed.end(), written.name) != allowed.end()) {
      notes_.push_back(
          fmt::format("{}: {} is skipped, as --allow-unknown asks", written.position.text(), written.name));
      return;
    }
    faults_.add(written.position, refusal_of(written.name));
  }

  void merge(const std::string& name, Written written) {
    const auto earlier = given_.find(name);
    if (!written.path.empty()) {
      auto& entry = given_[name];
      if (earlier == given_.end()) {
        entry = {{}, written.name, written.position, written.rank, false};
        entry.value.position = written.position;
      }
      if (!put(entry.value, written.path, 0, written.value)) {
        faults_.add(written.position, fmt::format("{}.{} leads nowhere; a list takes the numbers 0 up to its length",
                                                  written.name, fmt::join(written.path, ".")));
      }
      entry.rank = written.rank;
      entry.broken = entry.broken || written.broken;
      return;
    }
    if (earlier != given_.end() && earlier->second.rank == written.rank && earlier->second.written != written.name &&
        !same_value(earlier->second.value, written.value)) {
      const auto& first = earlier->second;
      faults_.add(written.position, fmt::format("{} and {} ({}) are one setting, {}, with different values; keep one",
                                                written.name, first.written, first.position.text(), name));
      return;
    }
    given_[name] = {std::move(written.value), written.name, written.position, written.rank, written.broken};
  }

  const SettingsSources& sources_;
  FaultList& faults_;
  std::vector<std::string>& notes_;
  GivenSettings given_;
};

}  // namespace

Gathered gather(const SettingsSources& sources, FaultList& faults, std::vector<std::string>& notes) {
  Gathered gathered;
  std::vector<Written> written;
  size_t rank = 0;
  for (const auto& file : sources.files) {
    gathered.complete = read_file(file, rank++, written, faults) && gathered.complete;
  }
  read_environment(rank++, written, faults);
  for (const auto& [name, value] : sources.overrides) {
    add_typed(split(name, "."), value, {"command line", 0, 0}, rank, written, faults);
  }
  Merger merger(sources, faults, notes);
  for (auto& one : written) {
    merger.add(std::move(one));
  }
  gathered.given = merger.take();
  return gathered;
}

bool asks_for_something(const io::YamlNode& value) {
  switch (value.kind) {
    case io::YamlNode::Kind::kNull:
      return false;
    case io::YamlNode::Kind::kSequence:
      return !value.items.empty();
    case io::YamlNode::Kind::kMapping:
      return !value.members.empty();
    case io::YamlNode::Kind::kScalar:
      break;
  }
  const auto number = parse_double(value.scalar);
  const auto boolean = boolean_value(value);
  return !(number && *number == 0) && !(boolean && !*boolean);
}

}  // namespace phi3tune::config
