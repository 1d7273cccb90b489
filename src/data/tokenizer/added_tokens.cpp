#include "data/tokenizer/added_tokens.h"

#include <algorithm>

#include "data/tokenizer/unicode.h"
#include "phi3tune/core/text.h"

namespace phi3tune::data {

AddedTokenMatcher::AddedTokenMatcher(std::span<const AddedToken> tokens) {
  nodes_.emplace_back();
  for (const AddedToken& token : tokens) {
    int32_t node = 0;
    for (const char byte : token.content) {
      int32_t next = child_of(node, byte);
      if (next < 0) {
        next = static_cast<int32_t>(nodes_.size());
        nodes_.push_back({-1, nodes_[static_cast<size_t>(node)].child, -1, byte});
        nodes_[static_cast<size_t>(node)].child = next;
      }
      node = next;
    }
    nodes_[static_cast<size_t>(node)].token = static_cast<int32_t>(tokens_.size());
    tokens_.push_back({token.id, token.lstrip, token.rstrip, token.single_word});
    starts_[static_cast<unsigned char>(token.content.front())] = true;
  }
}

int32_t AddedTokenMatcher::child_of(int32_t node, char byte) const noexcept {
  int32_t child = nodes_[static_cast<size_t>(node)].child;
  while (child >= 0 && nodes_[static_cast<size_t>(child)].byte != byte) {
    child = nodes_[static_cast<size_t>(child)].sibling;
  }
  return child;
}

void AddedTokenMatcher::split(std::string_view text, std::vector<Stretch>& out) const {
  size_t done = 0;  // everything before it is in `out`
  size_t at = 0;
  while (at < text.size() && !tokens_.empty()) {
    if (!starts_[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    int32_t found = -1;
    size_t end = at;
    int32_t node = 0;
    for (size_t i = at; i < text.size(); ++i) {
      node = child_of(node, text[i]);
      if (node < 0) {
        break;
      }
      if (nodes_[static_cast<size_t>(node)].token >= 0) {
        found = nodes_[static_cast<size_t>(node)].token;
        end = i + 1;
      }
    }
    if (found < 0) {
      ++at;
      continue;
    }
    const Flags& token = tokens_[static_cast<size_t>(found)];
    size_t begin = at;
    at = end;
    if (token.single_word) {
      size_t after = end;
      if ((begin > 0 && is_word(code_point_before(text, begin))) ||
          (end < text.size() && is_word(next_code_point(text, after)))) {
        continue;
      }
    }
    if (token.lstrip) {
      begin = std::max(begin - trailing_whitespace(text.substr(0, begin)), done);
    }
    if (token.rstrip) {
      end += leading_whitespace(text.substr(end));
    }
    if (begin > done) {
      out.push_back({-1, done, begin});
    } else if (begin < done) {
      out.back().end = begin;  // the token before had taken whitespace that this one begins with
    }
    if (begin < end) {  // else this one was whitespace, and the token before has taken all of it
      out.push_back({token.id, begin, end});
    }
    done = end;
  }
  if (done < text.size()) {
    out.push_back({-1, done, text.size()});
  }
}

}  // namespace phi3tune::data
