// Walks rows of packed documents with the dropout stream of each.
#pragma once

#include <algorithm>

#include "ops/cpu/kernels.h"
#include "ops/philox.h"
#include "phi3tune/ops/ops.h"

namespace phi3tune::ops::cpu {

// Calls f(row, stream) for rows [begin, end).
template <typename F>
void for_dropout_rows(const Documents& documents, const DropoutKey& key, int64_t begin, int64_t end, const F& f) {
  const auto& ends = documents.cu_seqlens;
  auto next = std::upper_bound(ends.begin(), ends.end(), begin);  // the end of begin's document
  for (int64_t row = begin; row < end; ++next) {
    const auto document = static_cast<size_t>(next - ends.begin()) - 1;
    const Philox4 words = dropout_stream(key, key.sample_ids[document]);
    DropoutRow stream{{words[0], words[1], words[2], words[3]}, 0, dropout_threshold(key.p), 1.0 / (1.0 - key.p)};
    for (const int64_t stop = std::min<int64_t>(end, *next); row < stop; ++row) {
      stream.position = static_cast<uint32_t>(row - ends[document]);
      f(row, stream);
    }
  }
}

}  // namespace phi3tune::ops::cpu
