// One quantised matrix as one block of bytes, for memory that is planned before it is taken.
#pragma once

#include <cstddef>
#include <cstdint>

namespace phi3tune::quant {

// Offsets in bytes; each part starts at a multiple of 256.
struct Nf4Layout {
  size_t codes = 0;          // [ceil(n / 2)] uint8
  size_t absmax = 0;         // [blocks] float, single quantisation
  size_t nested_codes = 0;   // [blocks] uint8, double quantisation, as the next three
  size_t nested_absmax = 0;  // [ceil(blocks / 256)] float
  size_t nested_map = 0;     // [256] float
  size_t offset = 0;         // [1] float
  size_t code_values = 0;    // [16] float
  size_t bytes = 0;
};
Nf4Layout nf4_layout(int64_t rows, int64_t cols, int64_t block_size, bool double_quant) noexcept;

}  // namespace phi3tune::quant
