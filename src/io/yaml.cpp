#include "phi3tune/io/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <sstream>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

namespace phi3tune::io {
namespace {

constexpr size_t kDeepest = 32;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// Thrown to leave the parser once going on would only repeat itself.
struct StopReading {};

// Whether the quoted text that opens at text[begin] also ends. The parser takes the end of the file for a closing
// quote.
bool is_closed(std::string_view text, size_t begin) {
  const char quote = text[begin];
  for (size_t i = begin + 1; i < text.size(); ++i) {
    if (quote == '"' && text[i] == '\\') {
      ++i;
    } else if (text[i] == quote) {
      if (quote == '"' || i + 1 == text.size() || text[i + 1] != quote) {
        return true;
      }
      ++i;  // '' stands for one quote
    }
  }
  return false;
}

// Builds the tree from the parser's events and keeps the faults it meets.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view text, const std::string& file, std::vector<std::string>& faults)
      : text_(text.substr(text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0)), file_(file), faults_(faults) {
    root_.position.file = file;
    root_.position.line = 1;
    root_.position.column = 1;
  }

  YamlNode take() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) {
      fault(mark, "a second document; a settings file holds one");
      throw StopReading();
    }
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    check_anchor(mark, anchor);
    add(mark, YamlNode::Kind::kNull);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    fault(mark, "an alias (*name); write the value out");
    add(mark, YamlNode::Kind::kNull);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check_anchor(mark, anchor);
    const bool quoted = tag == "!";
    if (!quoted) {
      check_tag(mark, tag);
    } else if (anchor == 0) {
      check_quotes(mark);
    }
    YamlNode* node = add(mark, YamlNode::Kind::kScalar);
    node->scalar = value;
    node->quoted = quoted;
    finish_key(mark);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    check_anchor(mark, anchor);
    check_tag(mark, tag);
    enter(add(mark, YamlNode::Kind::kSequence), mark);
  }
  void OnSequenceEnd() override { leave(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    check_anchor(mark, anchor);
    check_tag(mark, tag);
    enter(add(mark, YamlNode::Kind::kMapping), mark);
  }
  void OnMapEnd() override { leave(); }

  void fault(const YAML::Mark& mark, std::string_view what) {
    faults_.push_back(fmt::format("{}: {}", position(mark).text(), what));
  }

 private:
  struct Level {
    YamlNode* node;
    bool at_key = true;  // mapping: the next event is a key
  };

  Position position(const YAML::Mark& mark) const {
    if (mark.is_null()) {
      return {file_, 0, 0};
    }
    return {file_, static_cast<size_t>(mark.line) + 1, static_cast<size_t>(mark.column) + 1};
  }

  void check_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) {
      fault(mark, "an anchor (&name); write the value out where it is needed");
    }
  }

  void check_tag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?") {
      fault(mark, fmt::format("a tag ({}); a value is read as its setting wants it, take the tag out", written(tag)));
    }
  }

  // The parser shows a quoted scalar as one with the tag `!`, which can be written too.
  void check_quotes(const YAML::Mark& mark) {
    const auto begin = static_cast<size_t>(mark.pos);
    if (begin >= text_.size() || (text_[begin] != '"' && text_[begin] != '\'')) {
      check_tag(mark, "!");
    } else if (!is_closed(text_, begin)) {
      fault(mark, fmt::format("the quote {} is never closed", text_[begin]));
    }
  }

  // !!int is short for !<tag:yaml.org,2002:int>.
  static std::string written(const std::string& tag) {
    constexpr std::string_view kCore = "tag:yaml.org,2002:";
    return tag.starts_with(kCore) ? "!!" + tag.substr(kCore.size()) : tag;
  }

  // The node for an event that has just come: the root, an item, a key, or the value of the last key.
  YamlNode* add(const YAML::Mark& mark, YamlNode::Kind kind) {
    YamlNode* node = &root_;
    if (!levels_.empty()) {
      auto& level = levels_.back();
      if (level.node->kind == YamlNode::Kind::kSequence) {
        node = &level.node->items.emplace_back();
      } else if (level.at_key) {
        node = &level.node->members.emplace_back().first;
        level.at_key = false;
        key_just_added_ = true;
        if (kind != YamlNode::Kind::kScalar) {
          fault(mark, kind == YamlNode::Kind::kNull ? "an empty key" : "a key that is not plain text");
        }
      } else {
        node = &level.node->members.back().second;
        level.at_key = true;
      }
    }
    node->kind = kind;
    node->position = position(mark);
    if (kind != YamlNode::Kind::kScalar) {
      key_just_added_ = false;
    }
    return node;
  }

  // After a scalar has its text: if it was a key, it must be new.
  void finish_key(const YAML::Mark& mark) {
    if (!key_just_added_) {
      return;
    }
    key_just_added_ = false;
    const auto& members = levels_.back().node->members;
    const std::string& name = members.back().first.scalar;
    for (size_t i = 0; i + 1 < members.size(); ++i) {
      const auto& earlier = members[i].first;
      if (earlier.kind == YamlNode::Kind::kScalar && earlier.scalar == name) {
        fault(mark, fmt::format("`{}` is given twice, first at line {}; keep one", name, earlier.position.line));
        return;
      }
    }
  }

  void enter(YamlNode* node, const YAML::Mark& mark) {
    if (levels_.size() >= kDeepest) {
      fault(mark, fmt::format("nested deeper than {} levels", kDeepest));
      throw StopReading();
    }
    levels_.push_back({node, true});
  }

  void leave() { levels_.pop_back(); }

  std::string_view text_;  // behind the byte order mark, as the parser counts
  const std::string& file_;
  std::vector<std::string>& faults_;
  YamlNode root_;
  std::vector<Level> levels_;
  size_t documents_ = 0;
  bool key_just_added_ = false;
};

// Bytes that no text file holds. The parser takes some of them for the end of the file, so they are looked for first.
bool check_bytes(std::string_view text, const std::string& file, std::vector<std::string>& faults) {
  size_t bad = find_invalid_utf8(text);
  std::string what = "is not UTF-8";
  const size_t control =
      std::string_view(text.substr(0, bad))
          .find_first_of(std::string_view(
              "\x00\x01\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19"
              "\x1a\x1b\x1c\x1d\x1e\x1f\x7f",
              30));
  if (control != std::string_view::npos) {
    bad = control;
    what = "is a control character, not text";
  }
  if (bad == std::string_view::npos) {
    return true;
  }
  size_t line = 1;
  size_t line_start = 0;
  for (size_t i = 0; i < bad; ++i) {
    if (text[i] == '\n') {
      ++line;
      line_start = i + 1;
    }
  }
  faults.push_back(fmt::format("{}: byte 0x{:02x} {}", Position{file, line, bad - line_start + 1}.text(),
                               static_cast<unsigned char>(text[bad]), what));
  return false;
}

// The parser's own words for a tab in front of a line speak of something else.
std::string tab_hint(std::string_view text, const YAML::Mark& mark) {
  for (int line = 0; line < mark.line && text.find('\n') != std::string_view::npos; ++line) {
    text.remove_prefix(text.find('\n') + 1);
  }
  const auto indent = text.substr(0, std::min(text.find_first_not_of(" \t"), text.size()));
  return indent.find('\t') == std::string_view::npos ? "" : "; the line is indented with a tab, YAML wants spaces";
}

}  // namespace

std::string Position::text() const { return line == 0 ? file : fmt::format("{}:{}:{}", file, line, column); }

const YamlNode* YamlNode::find(std::string_view key) const noexcept {
  for (const auto& [name, value] : members) {
    if (name.kind == Kind::kScalar && name.scalar == key) {
      return &value;
    }
  }
  return nullptr;
}

YamlNode parse_yaml(std::string_view text, const std::string& file) {
  std::vector<std::string> faults;
  TreeBuilder builder(text, file, faults);
  if (check_bytes(text, file, faults)) {
    std::istringstream stream{std::string(text)};
    try {
      YAML::Parser parser(stream);
      while (parser.HandleNextDocument(builder)) {
      }
    } catch (const StopReading&) {
    } catch (const YAML::Exception& error) {
      builder.fault(error.mark, error.msg + tab_hint(text, error.mark));
    }
  }
  if (!faults.empty()) {
    throw ConfigError(fmt::format("{}", fmt::join(faults, "\n")));
  }
  return builder.take();
}

YamlNode read_yaml_file(const std::string& path) { return parse_yaml(read_text_file<ConfigError>(path), path); }

}  // namespace phi3tune::io
