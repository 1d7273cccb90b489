// The network as it generates: keys and values of what was read are kept, and a pass reads only what is new.
//
// Sequences stand in places of a cache; each grows by the tokens it is given. Positions count from 0 in each. A query
// sees the sliding window's positions, itself included. LongRoPE: while a sequence holds at most
// original_max_position_embeddings tokens its keys are rotated by the short factors; the pass that takes it beyond
// reads the whole sequence again with the long ones, as transformers' generate does (for each sequence by itself).
//
// On the CPU only: a back end with memory of its own is refused with ResourceError.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "phi3tune/model/phi3_model.h"

namespace phi3tune::model {

// Tokens that are appended to the sequence at a place.
struct NewTokens {
  int64_t place = 0;
  std::span<const int32_t> tokens;  // at least one
};

class Decoder {
 public:
  // `places`: sequences side by side. The model, with the adapters attached to it, must outlive the decoder; after an
  // attach or a change of the parameters, what was read is stale: clear it.
  Decoder(Phi3Model& model, int64_t places);
  ~Decoder();

  int64_t places() const noexcept;
  // What the sequence at a place holds.
  std::span<const int32_t> tokens(int64_t place) const;
  // Forgets all but the first `length` tokens; 0: everything.
  void truncate(int64_t place, int64_t length);

  // Appends and returns the logits that follow the last new token of each: [steps, V] of the wide dtype, rounded to the
  // compute dtype before. Each place at most once in a call. Every sequence's logits are those it would have alone, up
  // to the order of sums. Polls the stop flag between layers of a long prompt: Interrupted, and the cache is as before.
  // Throws ResourceError when the cache cannot grow.
  at::Tensor advance(std::span<const NewTokens> steps);

  uint64_t cache_bytes() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace phi3tune::model
