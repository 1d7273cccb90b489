// Dequantisation of whole NF4 blocks, once per instruction set; the portable one is the definition.
//
// A block has 16 possible results, so each is computed and rounded once per block, and an element is a look-up by its
// 4-bit code. No version multiplies and adds, so none can differ by a fused operation.
#pragma once

#include <cstdint>

#include "phi3tune/quant/nf4.h"

namespace phi3tune::quant {

struct BlockRun {
  const uint8_t* packed = nullptr;  // the first block's first byte
  const float* absmax = nullptr;    // [blocks]
  const float* code = nullptr;      // [16]
  int64_t blocks = 0;
  int64_t block_size = 0;  // elements, a multiple of 32
  FloatType source = FloatType::kBF16;
  FloatType target = FloatType::kBF16;
  void* out = nullptr;  // [blocks * block_size] of `target`, any alignment
  // Write past the caches, which saves reading what is overwritten: for more bytes than a core's cache holds. Asks for
  // `out` aligned to 64; a hint that the portable version ignores.
  bool stream = false;
};

void dequantize_blocks_portable(const BlockRun& run);
void dequantize_blocks_avx2(const BlockRun& run);
void dequantize_blocks_avx512(const BlockRun& run);

// The 16 results of a block with this absmax: code * absmax, rounded to `source`.
void block_values(const float* code, float absmax, FloatType source, float* values);

}  // namespace phi3tune::quant
