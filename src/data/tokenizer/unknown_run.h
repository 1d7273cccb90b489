// Characters outside the vocabulary, in the order Hugging Face's BPE puts them into a word.
#pragma once

#include <vector>

#include "data/tokenizer/bpe.h"

namespace phi3tune::data {

// An unknown character is held back until a known one comes or the word ends; with fuse_unk it takes the next unknown
// ones in. Without an unknown token such characters vanish, and their bytes count for the symbol before.
class UnknownRun {
 public:
  UnknownRun(int32_t unk_id, bool fuse) : unk_id_(unk_id), fuse_(fuse) {}
  void add(uint32_t length, std::vector<Symbol>& word) {
    if (unk_id_ < 0) {
      (word.empty() ? lost_at_start_ : word.back().length) += length;
      return;
    }
    if (pending_ && !fuse_) {
      word.push_back({unk_id_, length_});
      length_ = 0;
    }
    pending_ = true;
    length_ += length;
  }
  // After the last character: bytes that vanished at the start of a word belong to its first symbol.
  void finish(std::vector<Symbol>& word) {
    flush(word);
    if (!word.empty()) {
      word.front().length += lost_at_start_;
    }
  }
  // Before every known character.
  void flush(std::vector<Symbol>& word) {
    if (pending_) {
      word.push_back({unk_id_, length_});
      pending_ = false;
      length_ = 0;
    }
  }

 private:
  int32_t unk_id_;
  bool fuse_;
  bool pending_ = false;
  uint32_t length_ = 0;
  uint32_t lost_at_start_ = 0;
};

}  // namespace phi3tune::data
