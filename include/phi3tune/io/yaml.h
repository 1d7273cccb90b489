// YAML as settings files use it: a tree of values with positions, duplicate keys refused, scalars left as written.
//
// yaml-cpp reads the text; whether `2e-4` is a number is for the reader of the setting to say (YAML 1.1 reads it as
// text).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "phi3tune/io/json.h"

namespace phi3tune::io {

struct Position {
  std::string file;
  size_t line = 0;           // from 1; 0: not from a file
  size_t column = 0;         // from 1
  std::string text() const;  // "file:line:column", or `file` alone
};

struct YamlMember;

struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMapping };
  Kind kind = Kind::kNull;
  Position position;
  std::string scalar;                                         // as written, quotes removed
  bool quoted = false;                                        // 'text' or "text": never a number or a boolean
  std::vector<YamlNode> items;                                // sequence
  std::vector<YamlMember> members;                            // mapping, in file order; keys are scalars
  const YamlNode* find(std::string_view key) const noexcept;  // mapping member or null
};

struct YamlMember {
  YamlNode first;  // the key
  YamlNode second;
};

// Parses one document. Every fault is collected as "file:line:column: what" and thrown together in one ConfigError:
// syntax errors, a quote that is never closed, duplicate keys (both places named), anchors, aliases and tags (refused),
// a second document, non-scalar keys, depth over 32.
YamlNode parse_yaml(std::string_view text, const std::string& file);
YamlNode read_yaml_file(const std::string& path);

}  // namespace phi3tune::io
