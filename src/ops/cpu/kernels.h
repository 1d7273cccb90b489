// The CPU's own vector kernels: pointers and sizes, one thread, rows [0, rows).
//
// The same source is compiled for AVX-512, AVX2 and the portable baseline; the best that this processor has is chosen
// once. T is the compute type in memory, W its wide type.
#pragma once

#include <cstdint>

namespace phi3tune::ops::cpu {

// Keeps elements whose 32 random bits are >= threshold; random bits from `words` of one document (see philox.h).
struct DropoutRow {
  uint32_t words[4];   // the document's key and the two fixed counter words
  uint32_t position;   // in the document
  uint32_t threshold;  // p * 2^32
  double scale;        // 1 / (1 - p)
};

// Scores of some keys (rows, whole vectors wide) against the queries (columns) of one head and document.
struct ScoreTile {
  int64_t key;  // the first key's and query's position in the document
  int64_t query;
  int64_t keys;
  int64_t queries;
  int64_t stride;  // elements of a row: queries, padded to a multiple of 32
  int64_t window;  // a query sees that many keys, itself included; 0: all before it
  double scale;
};

// The newest tokens of one sequence, and the query heads that share a key/value head.
struct CachedQueries {
  int64_t first;  // the first token's position
  int64_t tokens;
  int64_t group;  // query heads, side by side
  int64_t head_dim;
  int64_t q_stride;  // elements from token to token
  int64_t out_stride;
  int64_t window;  // a query sees that many keys, itself included; 0: all before it
  double scale;
};
// Elements that cached_attention() works in.
int64_t cached_attention_scratch(const CachedQueries& queries) noexcept;

// An NF4 weight's parts; see quant::Nf4Tensor. `source`: what the weight was before.
enum class Nf4Source { kFloat, kBf16, kHalf };
struct Nf4Blocks {
  const uint8_t* packed;
  const float* code;            // [16]
  const float* absmax;          // [blocks]; null: double quantisation
  const uint8_t* nested_codes;  // [blocks]
  const float* nested_absmax;   // [ceil(blocks / 256)]
  const float* nested_map;      // [256]
  float offset;
  int64_t block_size;  // a multiple of 64 that divides a row
  Nf4Source source;
};
// Columns [first, last) of y [rows, outputs] = x [rows, inputs] weight^T; rows of y are y_stride apart. `operand` is
// what prepare() made of x, operand_bytes() long and aligned to 64.
//
// In float32 the weight's values are those of quant::dequantize_nf4. In bfloat16 they are absmax times the code, not
// rounded to the source's dtype; the code and x are kept in 15 bits, within 2^-15 of the largest of the code and of
// each 64 elements of x. A value of x that is not finite makes its row NaN.
template <typename T>
struct Nf4Kernel {
  int64_t (*operand_bytes)(int64_t rows, int64_t inputs) = nullptr;  // null: no such kernel; dequantise, then few_rows
  void (*prepare)(void* operand, const T* x, int64_t rows, int64_t inputs) = nullptr;
  void (*product)(T* y, const void* operand, const Nf4Blocks& weight, int64_t rows, int64_t inputs, int64_t first,
                  int64_t last, int64_t y_stride) = nullptr;
};

template <typename T, typename W>
struct Kernels {
  void (*rms_norm)(T* y, W* rstd, const T* x, const T* weight, int64_t rows, int64_t dim, double eps);
  void (*add_rms_norm)(T* y, W* rstd, T* sum, const T* residual, const T* delta, const T* weight, int64_t rows,
                       int64_t dim, double eps);
  void (*rms_norm_backward)(T* dx, const T* dy, const T* x, const W* rstd, const T* weight, int64_t rows, int64_t dim);
  void (*add)(T* sum, const T* residual, const T* delta, int64_t n);
  // `heads` heads of `head_dim` at the front of each row of `stride` elements.
  void (*rope)(T* qkv, const W* cosine, const W* sine, int64_t rows, int64_t stride, int64_t heads, int64_t head_dim,
               int64_t half, bool inverse);
  void (*swiglu)(T* hidden, const T* gate_up, int64_t rows, int64_t dim);
  void (*swiglu_backward)(T* d_gate_up, const T* d_hidden, const T* gate_up, int64_t rows, int64_t dim);
  // losses: cross-entropy of each row, unweighted. With gradient: logits = factors[row] * (softmax - onehot).
  void (*cross_entropy)(T* logits, double* losses, uint8_t* correct, const int64_t* targets, const double* factors,
                        int64_t rows, int64_t vocabulary, bool gradient);
  // out = sums rounded.
  void (*round_sum)(T* out, const W* sums, int64_t n);
  void (*dropout)(T* out, const T* x, int64_t columns, const DropoutRow& row);
  // dx += masked and scaled (du A) for one row: du [rank], a [rank, columns].
  void (*lora_input_gradient_dropout)(T* dx, const T* du, const T* a, int64_t columns, int64_t rank,
                                      const DropoutRow& row);
  // sums [rank, columns] = s^T x over `rows` rows: x has rows of `x_stride` elements, s [rows, rank]. In the order of
  // the rows, whatever the columns beside.
  void (*weight_gradient)(W* sums, const T* x, const W* s, int64_t rows, int64_t columns, int64_t x_stride,
                          int64_t rank);
  // Of a tile, with the largest score and the sum of shares of each query [stride] over the tiles before, which are
  // brought up to date: shares = exp(scale scores - largest), 0 where a query does not see a key; shrink [stride] is
  // what earlier shares are to be multiplied by. Overwrites hidden scores. `maxima` starts finite and very low.
  void (*attention_shares)(T* shares, W* maxima, W* sums, W* shrink, W* scores, const ScoreTile& tile);
  // rows [count, dim] *= factors [count].
  void (*scale_rows)(W* rows, const W* factors, int64_t count, int64_t dim);
  // Of a tile: shares = exp(scale scores - lse), d_scores = scale shares (d_shares - dots); 0 where a query does not
  // see a key. lse and dots [stride], of the queries.
  void (*attention_gradients)(T* shares, T* d_scores, const W* scores, const W* d_shares, const W* lse, const W* dots,
                              const ScoreTile& tile);
  // dots[row] = sum of a b.
  void (*row_dots)(W* dots, const T* a, const T* b, int64_t rows, int64_t dim, int64_t a_stride, int64_t b_stride);
  // keys, values [positions, head_dim] of one key/value head; q and out of its first query head.
  void (*cached_attention)(T* out, const T* q, const T* keys, const T* values, W* scratch,
                           const CachedQueries& queries);
  // dots[i] = x . rows[i], rows [count, dim].
  void (*vector_dots)(T* dots, const T* x, const T* rows, int64_t count, int64_t dim);
  // y[i] += scale * (x . rows[i]), rounded once.
  void (*add_vector_dots)(T* y, const T* x, const T* rows, int64_t count, int64_t dim, double scale);
  // y [rows, outputs] = x [rows, inputs] weight^T, for few rows; rows of y are y_stride apart. A result depends on its
  // row of x and of the weight alone.
  void (*few_rows)(T* y, const T* x, const T* weight, int64_t rows, int64_t inputs, int64_t outputs, int64_t y_stride);
  Nf4Kernel<T> nf4_rows;
};

struct KernelSet {
  const char* isa;
  Kernels<float, float> f32;
  Kernels<uint16_t, float> bf16;
  Kernels<double, double> f64;
  // Flat AdamW and sums over the wide types; see ops.h.
  void (*adamw_f32)(float* p, const float* g, float* m, float* v, int64_t n, const double* constants);
  void (*adamw_f64)(double* p, const double* g, double* m, double* v, int64_t n, const double* constants);
  double (*sum_of_squares_f32)(const float* values, int64_t n);
  double (*sum_of_squares_f64)(const double* values, int64_t n);
};

extern const KernelSet kKernelsAvx512;
extern const KernelSet kKernelsAvx2;
extern const KernelSet kKernelsPortable;

// The best this processor has. For tests, force one by name ("avx512", "avx2", "portable"); false: not available.
const KernelSet& kernels() noexcept;
bool force_kernels(const char* isa) noexcept;

}  // namespace phi3tune::ops::cpu
