#include "phi3tune/data/jinja.h"

#include <algorithm>
#include <cctype>
#include <vector>

#include "phi3tune/core/text.h"

namespace phi3tune::data {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }
bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

struct Token {
  enum class Kind { kWord, kString, kMark } kind = Kind::kMark;
  std::string text;  // strings: unescaped
};

// One piece of a template: a printed expression (also for text outside tags), or a statement.
struct Piece {
  bool statement = false;
  std::vector<Token> tokens;
};

char unescaped(char c) {
  switch (c) {
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return c;
  }
}

std::vector<Token> tokenize(std::string_view text) {
  std::vector<Token> tokens;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (is_space(c)) {
      ++i;
    } else if (c == '\'' || c == '"') {
      Token token{Token::Kind::kString, {}};
      for (++i; i < text.size() && text[i] != c; ++i) {
        if (text[i] == '\\' && i + 1 < text.size()) {
          token.text += unescaped(text[++i]);
        } else {
          token.text += text[i];
        }
      }
      ++i;
      tokens.push_back(std::move(token));
    } else if (is_word(c)) {
      const size_t begin = i;
      while (i < text.size() && is_word(text[i])) {
        ++i;
      }
      tokens.push_back({Token::Kind::kWord, std::string(text.substr(begin, i - begin))});
    } else {
      const bool pair = i + 1 < text.size() && text[i + 1] == '=' && (c == '=' || c == '!' || c == '<' || c == '>');
      tokens.push_back({Token::Kind::kMark, std::string(text.substr(i, pair ? 2 : 1))});
      i += pair ? 2 : 1;
    }
  }
  return tokens;
}

bool is_mark(const Token& token, std::string_view mark) {
  return token.kind == Token::Kind::kMark && token.text == mark;
}

// message.role -> message['role'], but not message.strip().
void spell_members(std::vector<Token>& tokens) {
  std::vector<Token> out;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const bool member = is_mark(tokens[i], ".") && !out.empty() && i + 1 < tokens.size() &&
                        tokens[i + 1].kind == Token::Kind::kWord &&
                        (out.back().kind == Token::Kind::kWord || is_mark(out.back(), "]")) &&
                        !(i + 2 < tokens.size() && is_mark(tokens[i + 2], "("));
    if (member) {
      out.push_back({Token::Kind::kMark, "["});
      out.push_back({Token::Kind::kString, tokens[++i].text});
      out.push_back({Token::Kind::kMark, "]"});
    } else {
      out.push_back(tokens[i]);
    }
  }
  tokens = std::move(out);
}

// 'a' + 'b' -> 'ab'.
void fold_literals(std::vector<Token>& tokens) {
  for (size_t i = 0; i + 2 < tokens.size();) {
    const bool ends = i + 3 == tokens.size() || is_mark(tokens[i + 3], "+");
    const bool begins = i == 0 || is_mark(tokens[i - 1], "+");
    if (begins && ends && tokens[i].kind == Token::Kind::kString && is_mark(tokens[i + 1], "+") &&
        tokens[i + 2].kind == Token::Kind::kString) {
      tokens[i].text += tokens[i + 2].text;
      tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                   tokens.begin() + static_cast<std::ptrdiff_t>(i) + 3);
    } else {
      ++i;
    }
  }
}

// {% if (x) %} -> {% if x %}.
void drop_outer_parentheses(std::vector<Token>& tokens) {
  if (tokens.size() < 4 || !(tokens[0].text == "if" || tokens[0].text == "elif") || !is_mark(tokens[1], "(") ||
      !is_mark(tokens.back(), ")")) {
    return;
  }
  int depth = 0;
  for (size_t i = 1; i < tokens.size(); ++i) {
    depth += is_mark(tokens[i], "(") ? 1 : is_mark(tokens[i], ")") ? -1 : 0;
    if (depth == 0 && i + 1 < tokens.size()) {
      return;
    }
  }
  tokens.pop_back();
  tokens.erase(tokens.begin() + 1);
}

// A sum of literals, names and subscripts: it may be joined to its neighbour, `{{a}}{{b}}` = `{{a + b}}`.
bool is_plain_sum(const std::vector<Token>& tokens) {
  int depth = 0;
  bool operand = false;  // the last token ended an operand
  for (const Token& token : tokens) {
    if (is_mark(token, "[") && operand) {
      ++depth;
      operand = false;
    } else if (is_mark(token, "]") && depth > 0 && operand) {
      --depth;
    } else if (is_mark(token, "+") && operand && depth == 0) {
      operand = false;
    } else if (token.kind != Token::Kind::kMark && !operand) {
      operand = true;
    } else {
      return false;
    }
  }
  return operand && depth == 0;
}

void add_output(std::vector<Piece>& pieces, std::vector<Token> tokens) {
  if (!pieces.empty() && !pieces.back().statement && is_plain_sum(pieces.back().tokens) && is_plain_sum(tokens)) {
    auto& joined = pieces.back().tokens;
    joined.push_back({Token::Kind::kMark, "+"});
    joined.insert(joined.end(), tokens.begin(), tokens.end());
    fold_literals(joined);
    return;
  }
  pieces.push_back({false, std::move(tokens)});
}

void add_text(std::vector<Piece>& pieces, std::string_view text) {
  if (!text.empty()) {
    add_output(pieces, {{Token::Kind::kString, std::string(text)}});
  }
}

// The end of the tag whose contents start at `from`, or npos; strings are stepped over.
size_t find_close(std::string_view text, size_t from, std::string_view close, bool comment) {
  char quote = 0;
  for (size_t i = from; i + 1 < text.size(); ++i) {
    if (quote != 0) {
      if (text[i] == '\\') {
        ++i;
      } else if (text[i] == quote) {
        quote = 0;
      }
    } else if (text.substr(i, 2) == close) {
      return i;
    } else if (!comment && (text[i] == '\'' || text[i] == '"')) {
      quote = text[i];
    }
  }
  return std::string_view::npos;
}

// lstrip_blocks: the blanks before a tag that is the first thing of its line.
std::string_view without_indent(std::string_view text, bool at_line_start) {
  const size_t newline = text.rfind('\n');
  const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
  if (line == 0 && !at_line_start) {
    return text;
  }
  const auto rest = text.substr(line);
  return std::all_of(rest.begin(), rest.end(), is_space) ? text.substr(0, line) : text;
}

std::vector<Piece> split(std::string_view text) {
  if (text.ends_with('\n')) {
    text.remove_suffix(1);  // Jinja drops one newline at the end
  }
  std::vector<Piece> pieces;
  size_t at = 0;
  bool line_start = true;
  while (at < text.size()) {
    size_t open = at;
    while ((open = text.find('{', open)) != std::string_view::npos) {
      if (open + 1 < text.size() && (text[open + 1] == '{' || text[open + 1] == '%' || text[open + 1] == '#')) {
        break;
      }
      ++open;
    }
    const char kind = open == std::string_view::npos ? 0 : text[open + 1];
    const std::string_view close_mark = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
    const size_t close = open == std::string_view::npos ? open : find_close(text, open + 2, close_mark, kind == '#');
    if (close == std::string_view::npos) {
      add_text(pieces, text.substr(at));
      break;
    }
    auto inside = text.substr(open + 2, close - open - 2);
    auto before = text.substr(at, open - at);
    if (inside.starts_with('-')) {
      while (!before.empty() && is_space(before.back())) {
        before.remove_suffix(1);
      }
    } else if (kind != '{' && !inside.starts_with('+')) {
      before = without_indent(before, line_start);
    }
    if (inside.starts_with('-') || inside.starts_with('+')) {
      inside.remove_prefix(1);
    }
    add_text(pieces, before);
    at = close + 2;
    line_start = false;
    if (inside.ends_with('-')) {
      inside.remove_suffix(1);
      while (at < text.size() && is_space(text[at])) {
        line_start = text[at] == '\n';
        ++at;
      }
    } else if (kind != '{' && inside.ends_with('+')) {
      inside.remove_suffix(1);
    } else if (kind != '{' && at < text.size() && text[at] == '\n') {
      ++at;  // trim_blocks
      line_start = true;
    }
    if (kind != '#') {
      auto tokens = tokenize(inside);
      spell_members(tokens);
      fold_literals(tokens);
      if (kind == '%') {
        drop_outer_parentheses(tokens);
        pieces.push_back({true, std::move(tokens)});
      } else {
        add_output(pieces, std::move(tokens));
      }
    }
  }
  return pieces;
}

std::string excerpt(std::string_view text, size_t at, size_t length) {
  if (at >= text.size()) {
    return "its end";
  }
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) {
    --at;
  }
  size_t end = std::min(text.size(), at + length);
  while (end < text.size() && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) {
    ++end;
  }
  return std::string(text.substr(at, end - at)) + (end < text.size() ? " ..." : "");
}

}  // namespace

std::string jinja_literal(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    switch (c) {
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\\':
      case '\'':
        out += '\\';
        [[fallthrough]];
      default:
        out += c;
    }
  }
  return out + "'";
}

std::string canonical_jinja(std::string_view text) {
  std::string out;
  for (const Piece& piece : split(text)) {
    out += piece.statement ? "{%" : "{{";
    bool word = false;
    for (const Token& token : piece.tokens) {
      if (word && token.kind != Token::Kind::kMark) {
        out += ' ';
      }
      word = token.kind != Token::Kind::kMark;
      out += token.kind == Token::Kind::kString ? jinja_literal(token.text) : token.text;
    }
    out += piece.statement ? "%}" : "}}";
  }
  return out;
}

JinjaDifference first_difference(std::string_view found, std::string_view wanted) {
  const auto parted = std::mismatch(found.begin(), found.end(), wanted.begin(), wanted.end());
  JinjaDifference difference;
  difference.at = static_cast<size_t>(parted.first - found.begin());
  const size_t from = difference.at > 30 ? difference.at - 30 : 0;
  difference.before = excerpt(found.substr(0, difference.at), from, 30);
  difference.found = excerpt(found, difference.at, 40);
  difference.wanted = excerpt(wanted, difference.at, 40);
  return difference;
}

}  // namespace phi3tune::data
