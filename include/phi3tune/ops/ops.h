// Every tensor operation of the network, forward and backward.
//
// Each writes into tensors its caller gives and allocates nothing that scales with the model beyond what its comment
// says. The compute dtype is float32, bfloat16 or float64 and the same for all activations of a call; statistics and
// accumulated gradients are in the "wide" dtype: float32, or float64 when the compute dtype is float64. Sums over rows
// of losses, and norms, are float64. Matrices are row-major with unit column stride; in a back end that extends rows
// (Backend::extended) those marked "strided" may have rows further apart than they are wide, elsewhere all are
// contiguous. Shapes that disagree throw InternalError. On an asynchronous back end an op returns before it is done.
//
// Axes: M tokens of a micro-batch (flat, documents one after the other), D hidden size, F intermediate size, N heads,
// G key/value heads, H head width, V vocabulary, R trained rows, r LoRA rank, K inputs and O outputs of a linear layer.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "phi3tune/quant/nf4.h"

namespace phi3tune::ops {

// float32 for float32 and bfloat16, float64 for float64 is the wide dtype of every comment below.

// The documents of a micro-batch: where each begins. Back ends with memory of their own read the tensor.
struct Documents {
  std::span<const int32_t> cu_seqlens;  // [documents + 1], from 0 to M
  at::Tensor on_device{};               // int32 [documents + 1], the same; undefined: the CPU's back end needs none
};

// out_RD = table_VD[ids_R]; ids int64. Strided: out. The embedding, the trained rows, the rotary table (of the wide
// dtype, whatever the compute dtype).
void gather_rows(const at::Tensor& out, const at::Tensor& table, const at::Tensor& ids);
// out [M, D] = 0 except out[rows] = x [R, D]; rows int64, ascending. Strided: out.
void scatter_rows(const at::Tensor& out, const at::Tensor& x, const at::Tensor& rows);

// y = weight * round(x * rstd) with rstd = 1/sqrt(mean(x^2) + eps) in the wide dtype (transformers' Phi3RMSNorm). x, y
// [M, D], rstd [M] wide, weight [D] of the compute dtype. Strided: y.
void rms_norm(const at::Tensor& y, const at::Tensor& rstd, const at::Tensor& x, const at::Tensor& weight, double eps);
// sum = residual + delta, then its norm. sum may be residual. Strided: y.
void add_rms_norm(const at::Tensor& y, const at::Tensor& rstd, const at::Tensor& sum, const at::Tensor& residual,
                  const at::Tensor& delta, const at::Tensor& weight, double eps);
// dx += gradient of rms_norm with respect to x. dx and dy [M, D]. Strided: dx.
void rms_norm_backward(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& rstd,
                       const at::Tensor& weight);
// sum = residual + delta (all [M, D]); sum may be residual.
void add(const at::Tensor& sum, const at::Tensor& residual, const at::Tensor& delta);

// Rotates q and k inside the fused qkv [M, (N + 2G) H], in place. cosine, sine: [M, rotary_dim / 2] of the wide dtype,
// the attention factor multiplied in, values already rounded to the compute dtype. Halves are rotated, not neighbours:
// element i turns with i + rotary_dim/2; the rest of the head passes. inverse: the transposed rotation (the backward).
// Strided: qkv.
struct HeadShape {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;
};
void rope(const at::Tensor& qkv, const at::Tensor& cosine, const at::Tensor& sine, const HeadShape& heads,
          bool inverse);

// Causal attention inside each document, on the rotated qkv [M, (N + 2G) H]; scale H^-0.5. window: a query sees that
// many positions, itself included; 0: all. out [M, N H] compute dtype; lse [N, M] wide (log-sum-exp of the scaled
// scores). Strided: out.
void attention(const at::Tensor& out, const at::Tensor& lse, const at::Tensor& qkv, const Documents& documents,
               const HeadShape& heads, int64_t window);
// dqkv [M, (N + 2G) H] is written whole (gradient before the inverse rotation). Strided: dqkv, out.
void attention_backward(const at::Tensor& dqkv, const at::Tensor& dout, const at::Tensor& out, const at::Tensor& lse,
                        const at::Tensor& qkv, const Documents& documents, const HeadShape& heads, int64_t window);

// What a cache holds of a sequence: keys and values of its positions, [G, capacity, H] each, of the compute dtype.
struct CachedSequence {
  at::Tensor keys, values;
  int64_t length = 0;  // positions, those of the tokens that are new in a call included
};
// Generation. The documents of the rotated qkv [M, (N + 2G) H] are the newest tokens of the sequences, one each. First
// their keys and values are written to their places in the cache; then each attends to what its sequence holds. out [M,
// N H]. Null where a back end does not generate.
void append_to_cache(const at::Tensor& qkv, const Documents& documents, std::span<const CachedSequence> sequences,
                     const HeadShape& heads);
void cached_attention(const at::Tensor& out, const at::Tensor& qkv, const Documents& documents,
                      std::span<const CachedSequence> sequences, const HeadShape& heads, int64_t window);

// hidden [M, F] = up * silu(gate), gate_up [M, 2F] with the gate first. Strided: both.
void swiglu(const at::Tensor& hidden, const at::Tensor& gate_up);
// d_gate_up [M, 2F] from d_hidden [M, F]; d_gate_up may be gate_up itself. hidden, if defined, is written as swiglu()
// writes it and may be d_hidden. Strided: all.
void swiglu_backward(const at::Tensor& d_gate_up, const at::Tensor& hidden, const at::Tensor& d_hidden,
                     const at::Tensor& gate_up);

// What a dropout mask depends on: never the place in a buffer, so packed, split and recomputed runs agree.
struct DropoutKey {
  double p = 0.0;  // 0: no dropout
  uint64_t seed = 0;
  uint64_t step = 0;  // optimizer step
  uint32_t layer = 0;
  uint32_t module = 0;  // the linear's kind
  // Per document: sample ids [documents]; positions restart at 0 in each.
  std::span<const uint64_t> sample_ids{};
  at::Tensor sample_ids_on_device{};  // int64 [documents], the same bits; undefined: the CPU's back end needs none
};
// out [M, K] = keep ? x / (1 - p) : 0, per element by Philox4x32-10 of (seed, step, layer, module, sample id, position,
// column). Strided: x.
void dropout(const at::Tensor& out, const at::Tensor& x, const Documents& documents, const DropoutKey& key);

// What the noise on the embeddings depends on, as a dropout mask does.
struct NoiseKey {
  double alpha = 0.0;
  uint64_t seed = 0;
  uint64_t step = 0;                      // optimizer step
  static constexpr uint32_t layer = ~0U;  // of no dropout's stream
  static constexpr uint32_t module = ~0U;
  std::span<const uint64_t> sample_ids{};
  at::Tensor sample_ids_on_device{};
};
// x [M, D] += alpha / sqrt(T D) * u with T the tokens of the row's document and u in [-1, 1] (NEFTune, as transformers'
// hook adds it to rows of one document each): the document's stream of Philox words as signed fractions.
void add_noise(const at::Tensor& x, const Documents& documents, const NoiseKey& key);

// A frozen linear's weight. In a back end that extends rows, `extended` is the buffer around it,
//   [ W  sB ]   W [O, K]; sB [O, p] = scale * B, zero beyond the rank; A [p, K], zero below the rank;
//   [ A  .. ]   p = rank rounded up to a multiple of 8,
// so that base and adapter are one product. Undefined elsewhere, and beside a linear without adapter.
struct LinearWeight {
  at::Tensor matrix;      // [O, K] of the compute dtype. Strided.
  at::Tensor extended{};  // [O + p, K + p]
};
// The low-rank pair beside a linear: A [r, K], B [O, r], of the compute dtype.
struct LowRank {
  at::Tensor a, b;
  double scale = 0.0;
};

// y [M, O] = x [M, K] W^T. Strided: all. (lm_head, and linears without adapter.)
void linear(const at::Tensor& y, const at::Tensor& x, const LinearWeight& weight);
// The same with W an NF4 weight, without W in memory: M <= kFewRows, sums in the wide dtype. W is as dequantize() gives
// it; in bfloat16 it may be absmax * code not rounded to the weight's source dtype, with both operands within 2^-15 of
// the largest of the code and of 64 elements of x. The weight's vectors must be there. For generating, on the CPU: null
// in other back ends' tables. On the CPU both ops give a row of x the same bits whatever rows are beside it, M <=
// kFewRows (linear() in bfloat16: 8), on any threads.
inline constexpr int64_t kFewRows = 16;
void quantized_linear(const at::Tensor& y, const at::Tensor& x, const quant::Nf4Tensor& weight);
// dx [M, K] = dy [M, O] W. Strided: all.
void linear_input_gradient(const at::Tensor& dx, const at::Tensor& dy, const LinearWeight& weight);

// y = x W^T + scale * u B^T with u [M, r] = branch A^T, kept for the backward. branch is x, or x dropped out. Strided:
// y, x, branch. Where x has room in its rows, u is written there too.
void adapted_linear(const at::Tensor& y, const at::Tensor& u, const at::Tensor& x, const at::Tensor& branch,
                    const LinearWeight& weight, const LowRank& adapter);
// y += scale * u B^T with u [M, r] = x A^T: the low-rank branch alone, where its linear is not a dense one. Null where
// a back end does not generate.
void add_low_rank(const at::Tensor& y, const at::Tensor& u, const at::Tensor& x, const LowRank& adapter);
// du [M, r] = scale * dy B; grad_b [O, r] (wide) += scale * dy^T u. Strided: dy, du. Where rows of dy have room, du is
// the r columns after dy's.
void lora_output_gradient(const at::Tensor& grad_b, const at::Tensor& du, const at::Tensor& dy, const at::Tensor& u,
                          const LinearWeight& weight, const LowRank& adapter);
// dx = dy W + du A; with dropout the second product is masked and scaled as dropout() does by the same key, and
// `scratch` [M, K] is overwritten (undefined without dropout). Strided: dx, dy, du.
void adapted_input_gradient(const at::Tensor& dx, const at::Tensor& scratch, const at::Tensor& dy, const at::Tensor& du,
                            const LinearWeight& weight, const LowRank& adapter, const Documents& documents,
                            const DropoutKey& key);
// grad_a [r, K] (wide) += du^T branch. Strided: du, branch.
void lora_input_weight_gradient(const at::Tensor& grad_a, const at::Tensor& du, const at::Tensor& branch);
// Writes an adapter into the room of an extended weight: after a step for a dense weight, after dequantising for NF4.
// a, b: the wide masters. Does nothing where there is no room.
void write_extension(const LinearWeight& weight, const at::Tensor& a, const at::Tensor& b, double scale);

// Of a weight that is trained whole: grad [O, K] (wide) += dy^T x, for dy [M, O] and x [M, K]. Strided: dy, x.
void weight_gradient(const at::Tensor& grad, const at::Tensor& dy, const at::Tensor& x);
// Of an embedding that is trained whole: grad [V, D] (wide), row ids[i] += dy[i], but for the row `padding_id`, as
// torch.nn.Embedding's padding_idx (-1: none). dy [M, D], ids int64 [M].
void embedding_gradient(const at::Tensor& grad, const at::Tensor& dy, const at::Tensor& ids, int64_t padding_id);

// Cross-entropy of logits [C, V] (compute dtype; softmax in the wide dtype) against targets [C] (int64) with weights
// [C] (wide). sums, float64 [2]: sums[0] += sum over rows in order of weight * cross-entropy, sums[1] += rows whose
// largest logit is the target. With gradient: logits are overwritten by weight * gradient_scale * (softmax - onehot).
// row_losses [2, at least C], wide: overwritten.
void cross_entropy(const at::Tensor& sums, const at::Tensor& row_losses, const at::Tensor& logits,
                   const at::Tensor& targets, const at::Tensor& weights, double gradient_scale, bool gradient);

// out [O, K] of the compute dtype. `block`: the weight's bytes in the back end's memory, as plan's layout places them;
// undefined: they are in the host tensor's own vectors. Strided: out.
void dequantize(const at::Tensor& out, const quant::Nf4Tensor& weight, const at::Tensor& block);

// What the back end decides about a step. control, float64 [2]: the factor for the gradients (clipping), and 1 from the
// first step on whose loss or norm was not finite. losses, float64 [micro-batches, 2], as cross_entropy leaves them;
// norm, float64 [1], is written: the L2 norm of gradients [n] (wide) by a fixed order. max_norm <= 0: no clipping; else
// the factor is min(1, max_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_. partials: float64
// [ceil(n / kNormBlock)], overwritten.
inline constexpr int64_t kNormBlock = 16384;
void step_norm(const at::Tensor& control, const at::Tensor& norm, const at::Tensor& losses, const at::Tensor& partials,
               const at::Tensor& gradients, double max_norm);

// AdamW (torch's definition: decay before the step) over flat buffers of the wide dtype, all [n]: the gradient is
// multiplied by control[0] first; nothing is written when control[1] is not 0. copy, if defined: [n] of the compute
// dtype, gets the new parameters rounded. step counts from 1.
struct AdamWStep {
  double learning_rate = 0.0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
  int64_t step = 1;
};
void adamw(const at::Tensor& parameters, const at::Tensor& gradients, const at::Tensor& moment1,
           const at::Tensor& moment2, const at::Tensor& copy, const AdamWStep& step, const at::Tensor& control);
// out = in, with rounding to out's dtype (masters to compute copies).
void convert(const at::Tensor& out, const at::Tensor& in);

}  // namespace phi3tune::ops
