// Every launcher of this folder on one page: pointers, sizes and a stream.
//
// T is the compute dtype, bf16 or float; both are instantiated for every template here. Matrices are row-major;
// `ld_x` is the distance between rows of x in elements, where it may be larger than the row. Statistics, sums and
// products inside a kernel are float32, losses and norms float64. Every kernel is deterministic: no sum depends on the
// order in which blocks or threads run. A pointer that is read or written 16 bytes at a time need not be aligned: a
// launcher looks, and takes the element-wise path where a pointer, width or distance does not allow vectors.
// An empty size is cudaSuccess without a launch. A launcher returns the status of its launch and never waits.
//
// Axes: M tokens, D hidden size, F intermediate size, N heads, G key/value heads, H head width, V vocabulary, R rows,
// K inputs and O outputs of a linear, r LoRA rank.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace phi3tune::kernels {

using bf16 = __nv_bfloat16;

// ---- NF4 (bitsandbytes' format; nf4_dequantize.cu, nf4_quantize.cu) ----

// The dtype a weight had before it was quantised: a dequantised value is rounded to it, then converted to T.
enum class Source { kFloat32, kBfloat16, kFloat16 };

// A quantised matrix [rows, cols] on the device.
struct Nf4View {
  const uint8_t* codes;      // [ceil(rows * cols / 2)], the even element in the high nibble
  const float* code_values;  // [16]
  int block_size;            // elements that share a scale: a power of two, 32 to 4096
  // Double quantisation: absmax = map[nested_codes] * nested_absmax + offset, each step rounded to float32, as
  // bitsandbytes does (no fused multiply-add).
  const uint8_t* nested_codes;  // [blocks]; null: `absmax` holds the scales
  const float* nested_absmax;   // [ceil(blocks / 256)]
  const float* nested_map;      // [256]
  const float* offset;          // [1]
  const float* absmax;          // [blocks], single quantisation
  int64_t rows, cols;
  Source source;
};

// weight [rows, cols], ld_weight >= cols: float32(code * absmax) rounded to the source dtype, then to T. One launch.
template <typename T>
[[nodiscard]] cudaError_t nf4_dequantize(T* weight, int64_t ld_weight, const Nf4View& quantized, cudaStream_t stream);

// What nf4_quantize writes; the places a Nf4View reads. `absmax` is always written: with double quantisation it is the
// scratch of the nested pass.
struct Nf4Target {
  uint8_t* codes;
  float* absmax;          // [blocks]
  uint8_t* nested_codes;  // [blocks]; null: single quantisation
  float* nested_absmax;   // [ceil(blocks / 256)]
  float* offset;          // [1]: the float64 mean of absmax in index order, rounded to float32
  const float* nested_map;
  int block_size;
  // [1], min of its value and the index of the first weight that is not finite; the caller sets it to INT64_MAX.
  long long* first_not_finite;
};
// Quantises `size` elements (row-major, `source` dtype), byte for byte as quant::quantize_nf4 with NestedRule::kCuda:
// absmax = max |w| of a block, x = w * (1 / absmax), code = number of thresholds below x; a block of zeros is code 0.
// An odd size pads the last low nibble as quantize_nf4 does.
[[nodiscard]] cudaError_t nf4_quantize(const Nf4Target& target, const void* weights, Source source, int64_t size,
                                       cudaStream_t stream);

// ---- norms (rms_norm.cu) ----

// y = weight * round_T(x * rstd), rstd = 1 / sqrt(mean(x^2) + eps): transformers' Phi3RMSNorm. x [M, D], y [M, D] with
// ld_y, rstd [M].
template <typename T>
[[nodiscard]] cudaError_t rms_norm(T* y, int64_t ld_y, float* rstd, const T* x, int64_t ld_x, const T* weight,
                                   int64_t rows, int64_t dim, float eps, cudaStream_t stream);
// sum = round_T(residual + delta), then its norm as above. sum may be residual or delta. All [M, D]; only y has a
// distance of its own.
template <typename T>
[[nodiscard]] cudaError_t add_rms_norm(T* y, int64_t ld_y, float* rstd, T* sum, const T* residual, const T* delta,
                                       const T* weight, int64_t rows, int64_t dim, float eps, cudaStream_t stream);
// dx += gradient with respect to x, given dy of y: rstd * (w dy - x rstd^2 mean(w dy x)), rounded once with the old dx.
template <typename T>
[[nodiscard]] cudaError_t rms_norm_backward(T* dx, int64_t ld_dx, const T* dy, int64_t ld_dy, const T* x, int64_t ld_x,
                                            const float* rstd, const T* weight, int64_t rows, int64_t dim,
                                            cudaStream_t stream);

// ---- rotary embedding (rope.cu) ----

// Rotates the first num_rotated heads (q and k: N + G) of each row of qkv [M, ld], in place; element i of a head turns
// with i + rotary_dim / 2, the rest of the head passes. cosine, sine [M, rotary_dim / 2]. inverse: the transpose.
template <typename T>
[[nodiscard]] cudaError_t rope(T* qkv, int64_t ld, const float* cosine, const float* sine, int64_t rows,
                               int num_rotated, int head_dim, int rotary_dim, bool inverse, cudaStream_t stream);

// ---- SwiGLU (swiglu.cu) ----

// hidden [M, F] = up * silu(gate), gate_up [M, 2F] with the gate first. silu is rounded to T before the product, as
// the definition in ATen calls does.
template <typename T>
[[nodiscard]] cudaError_t swiglu(T* hidden, int64_t ld_hidden, const T* gate_up, int64_t ld_gate_up, int64_t rows,
                                 int64_t dim, cudaStream_t stream);
// d_gate_up [M, 2F] from d_hidden [M, F]; d_gate_up may be gate_up. hidden, if not null, is written as swiglu() writes
// it, and may be d_hidden: the backward of down_proj's adapter wants it next.
template <typename T>
[[nodiscard]] cudaError_t swiglu_backward(T* d_gate_up, int64_t ld_d_gate_up, T* hidden, int64_t ld_hidden,
                                          const T* d_hidden, int64_t ld_d_hidden, const T* gate_up, int64_t ld_gate_up,
                                          int64_t rows, int64_t dim, cudaStream_t stream);

// ---- rows (rows.cu) ----

// out [R, D] = table [V, D] at ids [R]. Serves the embedding, rows of the trained tokens and rotary tables (T = float).
template <typename T>
[[nodiscard]] cudaError_t gather_rows(T* out, int64_t ld_out, const T* table, int64_t ld_table, const int64_t* ids,
                                      int64_t rows, int64_t dim, cudaStream_t stream);
// out [M, D] = 0 except out[ids] = x [R, D]; ids ascending. One launch writes every row of out once.
template <typename T>
[[nodiscard]] cudaError_t scatter_rows(T* out, int64_t ld_out, const T* x, int64_t ld_x, const int64_t* ids,
                                       int64_t rows, int64_t out_rows, int64_t dim, cudaStream_t stream);
// sum = round_T(a + b) over [M, D]; sum may be a or b.
template <typename T>
[[nodiscard]] cudaError_t add(T* sum, int64_t ld_sum, const T* a, int64_t ld_a, const T* b, int64_t ld_b, int64_t rows,
                              int64_t dim, cudaStream_t stream);
// out = round_Out(scale * in) over [rows, cols], for (Out, In) of {bf16, float}^2: copies, casts, the adapter's B
// scaled into the weight buffer.
template <typename Out, typename In>
[[nodiscard]] cudaError_t convert(Out* out, int64_t ld_out, const In* in, int64_t ld_in, int64_t rows, int64_t cols,
                                  float scale, cudaStream_t stream);

// ---- cross-entropy (cross_entropy.cu) ----

// Per row of logits [R, V]: loss [R] = log-sum-exp - logit of the target (not weighted), correct [R] = 1 where the
// target's logit is the largest (the rule for ties is that of the CPU's kernel), else 0. With `gradient`, logits
// become weights[row] * gradient_scale * (softmax - onehot).
template <typename T>
[[nodiscard]] cudaError_t cross_entropy(float* loss, float* correct, T* logits, int64_t ld_logits,
                                        const int64_t* targets, const float* weights, double gradient_scale,
                                        bool gradient, int64_t rows, int64_t vocab, cudaStream_t stream);
// sums[0] += sum of weights * loss, sums[1] += sum of correct, in float64 by a fixed order. One block.
[[nodiscard]] cudaError_t add_losses(double* sums, const float* loss, const float* correct, const float* weights,
                                     int64_t rows, cudaStream_t stream);

// ---- dropout (dropout.cu); the chain of Philox keys is that of ops/philox.h ----

struct DropoutView {
  const int32_t* cu_seqlens;   // [documents + 1] on the device
  const uint64_t* sample_ids;  // [documents] on the device
  int documents;
  uint64_t seed, step;
  uint32_t layer, module;
  uint32_t threshold;  // an element is dropped when its bits are below
  float keep_scale;    // 1 / (1 - p)
};
// out [M, K] = keep ? round_T(x * keep_scale) : 0.
template <typename T>
[[nodiscard]] cudaError_t dropout(T* out, int64_t ld_out, const T* x, int64_t ld_x, const DropoutView& key,
                                  int64_t rows, int64_t cols, cudaStream_t stream);
// dx [M, K] += keep ? x * keep_scale : 0, rounded once.
template <typename T>
[[nodiscard]] cudaError_t dropout_add(T* dx, int64_t ld_dx, const T* x, int64_t ld_x, const DropoutView& key,
                                      int64_t rows, int64_t cols, cudaStream_t stream);

// x [M, K] += m u, rounded once, with u the element's word as a signed fraction and m = alpha / sqrt(T K), T the tokens
// of the row's document (NEFTune); the key's threshold and scale are not read.
template <typename T>
[[nodiscard]] cudaError_t noise_add(T* x, int64_t ld_x, const DropoutView& key, double alpha, int64_t rows,
                                    int64_t cols, cudaStream_t stream);

// ---- the optimizer's step (adamw.cu): two launches for the norm, one for the update ----

// Elements of one float64 partial sum, summed in index order; `partials` of step_norm needs ceil(n / this).
constexpr int64_t kNormBlock = 16384;
// What the device decides about a step, and what the host reads later. All float64.
struct StepControl {
  double* control;       // [2]: gradient scale of this step (clipping), and 1 from the first bad step on ("halted")
  double* norm;          // [1]: the gradients' L2 norm, written
  const double* losses;  // [micro_batches, 2]: sums of add_losses
  int micro_batches;
  double max_norm;  // <= 0: no clipping; else scale = min(1, max_norm / (norm + 1e-6))
};
// norm = sqrt(sum of squares of gradients [n]); halted becomes 1 if it, or a loss, is not finite, and stays.
[[nodiscard]] cudaError_t step_norm(const StepControl& step, double* partials, const float* gradients, int64_t n,
                                    cudaStream_t stream);

struct AdamWConstants {
  double decay;  // 1 - learning rate * weight decay
  double one_minus_beta1;
  double beta2, one_minus_beta2;
  double inverse_sqrt_correction2;  // 1 / sqrt(1 - beta2^t)
  double epsilon;
  double rate;  // learning rate / (1 - beta1^t)
};
// torch.optim.AdamW over flat buffers [n], gradients times control[0]; nothing is written when control[1] is not 0.
// copy, if not null, gets the new parameters rounded to bf16. The arithmetic is the CPU kernel's (ops/cpu), float32.
[[nodiscard]] cudaError_t adamw(float* parameters, const float* gradients, float* moment1, float* moment2, bf16* copy,
                                int64_t n, const AdamWConstants& constants, const double* control, cudaStream_t stream);

}  // namespace phi3tune::kernels
