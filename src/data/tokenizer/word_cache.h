// Words already encoded: text to symbols. Forgets everything when full; one thread at a time.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer/bpe.h"

namespace phi3tune::data {

class WordCache {
 public:
  // Longer words are not kept.
  static constexpr size_t kLongestWord = 64;

  WordCache();
  // `variant` tells apart two readings of the same text. Null pointer if it is not there.
  struct Hit {
    const Symbol* data = nullptr;
    size_t size = 0;
  };
  Hit find(std::string_view word, bool variant) const noexcept;
  void insert(std::string_view word, bool variant, std::span<const Symbol> symbols);

 private:
  static constexpr size_t kSlots = size_t{1} << 16;
  static constexpr size_t kMostWords = kSlots / 2;
  struct Slot {
    uint32_t hash = 0;
    uint32_t key = 0;
    uint32_t symbols = 0;
    uint16_t symbol_count = 0;  // 0: free
    uint8_t key_length = 0;
    bool variant = false;
  };
  static uint32_t hash_of(std::string_view word, bool variant) noexcept;

  std::vector<Slot> slots_;
  std::string keys_;
  std::vector<Symbol> symbols_;
  size_t words_ = 0;
};

}  // namespace phi3tune::data
