#include "data/tokenizer/bpe.h"

#include <algorithm>
#include <bit>

namespace phi3tune::data {

MergeTable::MergeTable(size_t merges) {
  const size_t slots = std::bit_ceil(std::max<size_t>(2 * merges, 16));
  slots_.resize(slots);
  mask_ = slots - 1;
  shift_ = 64 - static_cast<unsigned>(std::countr_zero(slots));
}

void MergeTable::set(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = pair_key(left, right);
  size_t i = place(key);
  while (slots_[i].key != kFree && slots_[i].key != key) {
    i = (i + 1) & mask_;
  }
  slots_[i] = {key, merge};
}

void Bpe::join(std::vector<Symbol>& symbols, Workspace& workspace) const {
  const auto count = static_cast<int32_t>(symbols.size());
  if (count < 2) {
    return;
  }
  auto& queue = workspace.queue;
  auto& links = workspace.links;
  queue.clear();
  links.resize(symbols.size());
  const auto later = [](const Workspace::Candidate& a, const Workspace::Candidate& b) { return a.order > b.order; };
  const auto candidate = [](const Merge& merge, int32_t place) {
    return Workspace::Candidate{(static_cast<uint64_t>(merge.rank) << 32) | static_cast<uint32_t>(place),
                                merge.product};
  };
  for (int32_t i = 0; i < count; ++i) {
    links[i] = {i - 1, i + 1 < count ? i + 1 : -1, false};
    if (i + 1 < count) {
      if (const Merge* merge = merges_.find(symbols[i].id, symbols[i + 1].id)) {
        queue.push_back(candidate(*merge, i));
      }
    }
  }
  std::make_heap(queue.begin(), queue.end(), later);
  const auto push = [&](int32_t place, int32_t next) {
    if (const Merge* merge = merges_.find(symbols[place].id, symbols[next].id)) {
      queue.push_back(candidate(*merge, place));
      std::push_heap(queue.begin(), queue.end(), later);
    }
  };
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), later);
    const Workspace::Candidate top = queue.back();
    queue.pop_back();
    const auto place = static_cast<int32_t>(top.order & 0xFFFFFFFF);
    const int32_t right = links[place].next;
    if (links[place].gone || right < 0) {
      continue;
    }
    const Merge* merge = merges_.find(symbols[place].id, symbols[right].id);
    if (merge == nullptr || merge->product != top.product) {
      continue;  // what was found here has been joined otherwise
    }
    symbols[place].id = top.product;
    symbols[place].length += symbols[right].length;
    links[right].gone = true;
    links[place].next = links[right].next;
    if (links[place].next >= 0) {
      links[links[place].next].before = place;
    }
    if (links[place].before >= 0) {
      push(links[place].before, place);
    }
    if (links[place].next >= 0) {
      push(place, links[place].next);
    }
  }
  size_t kept = 0;
  for (int32_t i = 0; i >= 0; i = links[i].next) {
    symbols[kept++] = symbols[i];
  }
  symbols.resize(kept);
}

}  // namespace phi3tune::data
