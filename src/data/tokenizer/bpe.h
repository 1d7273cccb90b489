// Byte pair encoding of one word: symbols are joined, the pair of lowest rank first, leftmost first among equals.
//
// The order is that of Hugging Face's tokenizers to the last detail: candidates wait in a queue under the rank they
// were found with, and one whose symbols have changed meanwhile is still joined if its present pair makes the same
// piece.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace phi3tune::data {

// A piece in the making, and the bytes of the text it stands for.
struct Symbol {
  int32_t id = 0;
  uint32_t length = 0;
};

struct Merge {
  uint32_t rank = 0;
  int32_t product = 0;
};

// Pairs of ids to merges: open addressing, at most half full.
class MergeTable {
 public:
  explicit MergeTable(size_t merges = 0);
  // A pair given twice keeps the later rank.
  void set(int32_t left, int32_t right, Merge merge);
  // Null if the pair is not joined.
  const Merge* find(int32_t left, int32_t right) const noexcept {
    const uint64_t key = pair_key(left, right);
    for (size_t i = place(key);; i = (i + 1) & mask_) {
      if (slots_[i].key == key) {
        return &slots_[i].merge;
      }
      if (slots_[i].key == kFree) {
        return nullptr;
      }
    }
  }

 private:
  static constexpr uint64_t kFree = ~uint64_t{0};
  struct Slot {
    uint64_t key = kFree;
    Merge merge;
  };
  static uint64_t pair_key(int32_t left, int32_t right) noexcept {
    return (static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32) | static_cast<uint32_t>(right);
  }
  size_t place(uint64_t key) const noexcept { return (key * 0x9E3779B97F4A7C15ULL) >> shift_; }

  std::vector<Slot> slots_;
  size_t mask_ = 0;
  unsigned shift_ = 0;
};

class Bpe {
 public:
  // Memory of one thread, kept between words.
  struct Workspace {
    struct Candidate {
      uint64_t order = 0;  // rank, then position
      int32_t product = 0;
    };
    struct Link {
      int32_t before = 0;
      int32_t next = 0;
      bool gone = false;
    };
    std::vector<Candidate> queue;
    std::vector<Link> links;
  };

  explicit Bpe(MergeTable merges) : merges_(std::move(merges)) {}
  // Joins in place. At most 2^31 - 1 symbols.
  void join(std::vector<Symbol>& symbols, Workspace& workspace) const;

 private:
  MergeTable merges_;
};

}  // namespace phi3tune::data
