#include <cstring>

#include "quant/float_bits.h"
#include "quant/nf4_blocks.h"

namespace phi3tune::quant {
namespace {

float round_to(FloatType type, float value) {
  switch (type) {
    case FloatType::kBF16:
      return bf16_to_float(float_to_bf16(value));
    case FloatType::kF16:
      return f16_to_float(float_to_f16(value));
    case FloatType::kF32:
      break;
  }
  return value;
}

template <typename Word>
void look_up(const BlockRun& run, int64_t block, const Word* table) {
  const int64_t bytes = run.block_size / 2;
  const uint8_t* packed = run.packed + block * bytes;
  auto* out = static_cast<std::byte*>(run.out) + block * run.block_size * static_cast<int64_t>(sizeof(Word));
  for (int64_t i = 0; i < bytes; ++i) {
    const Word pair[2] = {table[packed[i] >> 4], table[packed[i] & 15]};
    std::memcpy(out + i * static_cast<int64_t>(sizeof(pair)), pair, sizeof(pair));
  }
}

}  // namespace

void block_values(const float* code, float absmax, FloatType source, float* values) {
  for (int i = 0; i < 16; ++i) {
    values[i] = round_to(source, code[i] * absmax);
  }
}

void dequantize_blocks_portable(const BlockRun& run) {
  for (int64_t block = 0; block < run.blocks; ++block) {
    float values[16];
    block_values(run.code, run.absmax[block], run.source, values);
    if (run.target == FloatType::kF32) {
      look_up(run, block, values);
      continue;
    }
    uint16_t words[16];
    for (int i = 0; i < 16; ++i) {
      words[i] = run.target == FloatType::kBF16 ? float_to_bf16(values[i]) : float_to_f16(values[i]);
    }
    look_up(run, block, words);
  }
}

}  // namespace phi3tune::quant
