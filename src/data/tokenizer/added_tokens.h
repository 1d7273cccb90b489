// Finds added tokens in raw text: leftmost, longest at a place, one after the other, with what lstrip and rstrip take.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "phi3tune/data/tokenizer.h"

namespace phi3tune::data {

// A stretch of text: an added token, or text to encode (id < 0). Stretches cover the text and are never empty.
struct Stretch {
  int32_t id = -1;
  size_t begin = 0;
  size_t end = 0;
};

class AddedTokenMatcher {
 public:
  AddedTokenMatcher() = default;
  explicit AddedTokenMatcher(std::span<const AddedToken> tokens);
  bool empty() const noexcept { return tokens_.empty(); }
  void split(std::string_view text, std::vector<Stretch>& out) const;

 private:
  struct Flags {
    int32_t id = 0;
    bool lstrip = false;
    bool rstrip = false;
    bool single_word = false;
  };
  // A trie; the children of a node are a chain of siblings.
  struct Node {
    int32_t child = -1;
    int32_t sibling = -1;
    int32_t token = -1;  // index into tokens_
    char byte = 0;
  };
  int32_t child_of(int32_t node, char byte) const noexcept;

  std::vector<Node> nodes_;
  std::vector<Flags> tokens_;
  std::array<bool, 256> starts_{};
};

}  // namespace phi3tune::data
