#include "data/tokenizer/word_cache.h"

#include <cstring>

namespace phi3tune::data {

WordCache::WordCache() : slots_(kSlots) {}

uint32_t WordCache::hash_of(std::string_view word, bool variant) noexcept {
  uint64_t hash = variant ? 0x51ED270B7F4A7C15ULL : 0x2545F4914F6CDD1DULL;
  const char* at = word.data();
  size_t left = word.size();
  for (; left >= 8; at += 8, left -= 8) {
    uint64_t eight = 0;
    std::memcpy(&eight, at, 8);
    hash = (hash ^ eight) * 0x9E3779B97F4A7C15ULL;
    hash ^= hash >> 32;
  }
  uint64_t rest = 0;
  std::memcpy(&rest, at, left);
  hash = (hash ^ rest ^ (static_cast<uint64_t>(word.size()) << 56)) * 0x9E3779B97F4A7C15ULL;
  return static_cast<uint32_t>(hash >> 32);
}

WordCache::Hit WordCache::find(std::string_view word, bool variant) const noexcept {
  if (word.size() > kLongestWord) {
    return {};
  }
  const uint32_t hash = hash_of(word, variant);
  for (size_t i = hash & (kSlots - 1);; i = (i + 1) & (kSlots - 1)) {
    const Slot& slot = slots_[i];
    if (slot.symbol_count == 0) {
      return {};
    }
    if (slot.hash == hash && slot.variant == variant && slot.key_length == word.size() &&
        std::memcmp(keys_.data() + slot.key, word.data(), word.size()) == 0) {
      return {symbols_.data() + slot.symbols, slot.symbol_count};
    }
  }
}

void WordCache::insert(std::string_view word, bool variant, std::span<const Symbol> symbols) {
  if (word.size() > kLongestWord || symbols.empty()) {
    return;
  }
  if (words_ == kMostWords) {
    slots_.assign(kSlots, Slot{});
    keys_.clear();
    symbols_.clear();
    words_ = 0;
  }
  const uint32_t hash = hash_of(word, variant);
  size_t i = hash & (kSlots - 1);
  while (slots_[i].symbol_count != 0) {
    i = (i + 1) & (kSlots - 1);
  }
  slots_[i] = {hash,
               static_cast<uint32_t>(keys_.size()),
               static_cast<uint32_t>(symbols_.size()),
               static_cast<uint16_t>(symbols.size()),
               static_cast<uint8_t>(word.size()),
               variant};
  keys_ += word;
  symbols_.insert(symbols_.end(), symbols.begin(), symbols.end());
  ++words_;
}

}  // namespace phi3tune::data
