// NF4 with optional double quantisation, byte for byte as bitsandbytes stores it.
//
// A matrix is flattened row-major and cut into blocks of 64; each block is scaled by its largest magnitude (absmax) and
// each element becomes the index of the nearest of 16 fixed values. Byte = (code[2k] << 4) | code[2k + 1]. With double
// quantisation the absmax values, less their mean (the offset), are stored in 8 bits against the signed dynamic map in
// blocks of 256.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "phi3tune/core/large_pages.h"

namespace phi3tune::quant {

enum class FloatType { kF32, kBF16, kF16 };

inline constexpr int64_t kNestedBlock = 256;
extern const std::array<float, 16> kNf4Code;         // ascending, 0 at index 7
const std::array<float, 256>& signed_dynamic_map();  // ascending, M[127] = 0, M[255] = 1

// How an absmax finds its 8-bit code: kCuda is the rule of bitsandbytes' GPU kernels and of the files we write; kLookup
// is its CPU library's 65536-entry table, for tests that compare bytes with a CPU oracle.
enum class NestedRule { kCuda, kLookup };

struct Nf4Options {
  int64_t block_size = 64;
  bool double_quant = true;
  NestedRule nested_rule = NestedRule::kCuda;
};

struct Nf4Tensor {
  int64_t rows = 0;  // out_features
  int64_t cols = 0;  // in_features
  int64_t block_size = 64;
  FloatType source = FloatType::kBF16;  // dtype the weight had; dequantised values are rounded to it
  LargeVector<uint8_t> packed;          // [ceil(rows*cols / 2)]
  bool double_quant = true;
  std::vector<uint8_t> nested_codes;    // [blocks], double quantisation
  std::vector<float> nested_absmax;     // [ceil(blocks / 256)]
  float offset = 0.0F;                  // mean of all absmax
  std::array<float, 256> nested_map{};  // as stored; signed_dynamic_map() for our own
  std::vector<float> absmax;            // [blocks], single quantisation
  std::array<float, 16> code{};         // as stored; kNf4Code for our own

  int64_t numel() const noexcept { return rows * cols; }
  int64_t blocks() const noexcept { return (numel() + block_size - 1) / block_size; }
  size_t bytes() const noexcept;  // of all the vectors
};

// `weights`: rows*cols elements of `source`, row-major (need not be aligned). The offset is the fp64 mean in index
// order, rounded to fp32; or `offset` when given (tests). Threads: 0 = all; the bytes do not depend on them. Throws
// ModelError naming the row and column of the first weight that is not finite.
//
// A block of zeros has code 0 (-1) and absmax 0, as bitsandbytes' GPU kernels write it (its CPU path writes code 7, 0).
// After double quantisation its absmax is restored only nearly, so such a block dequantises to -(that absmax).
Nf4Tensor quantize_nf4(std::span<const std::byte> weights, FloatType source, int64_t rows, int64_t cols,
                       const Nf4Options& options, const float* offset = nullptr, int threads = 0);

// Absmax of every block, as dequantisation uses it: map[code] * nested_absmax + offset in fp32 (no fused multiply-add).
std::vector<float> restored_absmax(const Nf4Tensor& tensor);

// Dequantises elements [begin, end) (multiples of the block size, or the tensor's end) into `out` of type `target`:
// fp32 code * absmax, rounded to `source`, then converted to `target`. Vectorised (AVX-512, AVX2 or portable, chosen
// once at run time), all with equal bits. Not threaded: the caller splits the range.
void dequantize_nf4(const Nf4Tensor& tensor, int64_t begin, int64_t end, FloatType target, void* out);
void dequantize_nf4_f64(const Nf4Tensor& tensor, int64_t begin, int64_t end, double* out);

// The instruction set dequantize_nf4 uses: "avx512", "avx2" or "portable". For tests, force one that this processor
// has.
const char* dequantize_isa() noexcept;
bool force_dequantize_isa(const char* name) noexcept;

// quant_state.bitsandbytes__nf4: the JSON text, members in the reference's order and spacing.
std::string quant_state_json(const Nf4Tensor& tensor);
// Fills block size, source dtype, shape, offset from that text (any member order). Throws ModelError(place: ...) for
// FP4, other block kinds, unknown members, or sizes that disagree with the rows, cols and vectors already there.
void parse_quant_state(const std::string& text, const std::string& place, Nf4Tensor& tensor);

// For a tensor filled from a file. Throws ModelError(place: ...) unless every vector has the length that the shape asks
// for and every value is finite.
void check_nf4(const Nf4Tensor& tensor, const std::string& place);

}  // namespace phi3tune::quant
