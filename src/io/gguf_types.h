// ggml's types: a block of so many values takes so many bytes.
#pragma once

#include <cstdint>

namespace phi3tune::io {

struct GgmlTypeSize {
  uint32_t type;
  const char* name;
  int64_t block;  // values
  int64_t bytes;  // of a block
};

// Null for a number that is not known. Sizes: GGML_QUANT_SIZES of the gguf package.
const GgmlTypeSize* find_ggml_type(uint32_t type) noexcept;

}  // namespace phi3tune::io
