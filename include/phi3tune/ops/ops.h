// Every tensor operation of the network, forward and backward.
//
// Each writes into tensors its caller gives and allocates nothing that scales with the model beyond what its comment
// says. The compute dtype is float32, bfloat16 or float64 and the same for all activations of a call; statistics,
// losses and accumulated gradients are in the "wide" dtype: float32, or float64 when the compute dtype is float64. All
// tensors are contiguous unless a comment says otherwise; views with a larger row stride are named. Shapes that
// disagree throw InternalError.
//
// Axes: M tokens of a micro-batch (flat, documents one after the other), D hidden size, F intermediate size, N heads,
// G key/value heads, H head width, V vocabulary, R trained rows, r LoRA rank, K inputs and O outputs of a linear layer.
#pragma once

#include <cstdint>
#include <span>

#include "phi3tune/quant/nf4.h"

namespace at {
class Tensor;
}

namespace phi3tune::ops {

// float32 for float32 and bfloat16, float64 for float64 is the wide dtype of every comment below.

// out_MD = table_VD[ids_M]; ids int64.
void embed(const at::Tensor& out, const at::Tensor& ids, const at::Tensor& table);

// y = weight * round(x * rstd) with rstd = 1/sqrt(mean(x^2) + eps) in the wide dtype (transformers' Phi3RMSNorm). x, y
// [M, D], rstd [M] wide, weight [D] of the compute dtype.
void rms_norm(const at::Tensor& y, const at::Tensor& rstd, const at::Tensor& x, const at::Tensor& weight, double eps);
// residual += delta, then the norm of the new residual.
void add_rms_norm(const at::Tensor& y, const at::Tensor& rstd, const at::Tensor& residual, const at::Tensor& delta,
                  const at::Tensor& weight, double eps);
// dx += gradient of rms_norm with respect to x. dx and dy [M, D].
void rms_norm_backward(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& rstd,
                       const at::Tensor& weight);
// residual += delta (both [M, D]).
void add(const at::Tensor& residual, const at::Tensor& delta);

// Rotates q and k inside the fused qkv [M, (N + 2G) H], in place. cosine, sine: [M, rotary_dim / 2] of the wide dtype,
// the attention factor multiplied in, values already rounded to the compute dtype. Halves are rotated, not neighbours:
// element i turns with i + rotary_dim/2; the rest of the head passes. inverse: the transposed rotation (the backward).
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
// scores).
struct Documents {
  std::span<const int32_t> cu_seqlens;  // [documents + 1], from 0 to M
};
void attention(const at::Tensor& out, const at::Tensor& lse, const at::Tensor& qkv, const Documents& documents,
               const HeadShape& heads, int64_t window);
// dqkv [M, (N + 2G) H] is written whole (gradient before the inverse rotation).
void attention_backward(const at::Tensor& dqkv, const at::Tensor& dout, const at::Tensor& out, const at::Tensor& lse,
                        const at::Tensor& qkv, const Documents& documents, const HeadShape& heads, int64_t window);

// hidden [M, F] = up * silu(gate), gate_up [M, 2F] with the gate first.
void swiglu(const at::Tensor& hidden, const at::Tensor& gate_up);
// d_gate_up [M, 2F] from d_hidden [M, F]; d_gate_up may be gate_up itself.
void swiglu_backward(const at::Tensor& d_gate_up, const at::Tensor& d_hidden, const at::Tensor& gate_up);

// y [M, O] = x [M, K] W^T with W [O, K]; all of the compute dtype.
void linear(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight);
// dx [M, K] (=, or += with accumulate) dy [M, O] W.
void linear_input_gradient(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& weight, bool accumulate);

// What a dropout mask depends on: never the place in a buffer, so packed, split and recomputed runs agree.
struct DropoutKey {
  double p = 0.0;  // 0: no dropout
  uint64_t seed = 0;
  uint64_t step = 0;  // optimizer step
  uint32_t layer = 0;
  uint32_t module = 0;  // the linear's kind
  // Per document: sample ids [documents]; positions restart at 0 in each.
  std::span<const uint64_t> sample_ids;
};
// out [M, K] = keep ? x / (1 - p) : 0, per element by Philox4x32-10 of (seed, step, layer, module, sample id, position,
// column).
void dropout(const at::Tensor& out, const at::Tensor& x, const Documents& documents, const DropoutKey& key);

// LoRA beside a linear: y += scale * (x A^T) B^T. A [r, K], B [O, r] of the compute dtype; u [M, r] = x A^T is written
// for the backward. x is already dropped out.
void lora_forward(const at::Tensor& y, const at::Tensor& u, const at::Tensor& x, const at::Tensor& a,
                  const at::Tensor& b, double scale);
// With du = scale * dy B: grad_b [O, r] += scale * dy^T u, grad_a [r, K] += du^T x (both wide), and du [M, r] is
// written. dx is not touched: lora_input_gradient.
void lora_weight_gradients(const at::Tensor& grad_a, const at::Tensor& grad_b, const at::Tensor& du,
                           const at::Tensor& dy, const at::Tensor& x, const at::Tensor& u, const at::Tensor& b,
                           double scale);
// dx [M, K] += du A; with dropout the product is masked and scaled as dropout() does, by the same key.
void lora_input_gradient(const at::Tensor& dx, const at::Tensor& du, const at::Tensor& a, const Documents& documents,
                         const DropoutKey& key);

// out [R, D] = x [M, D] at rows [R] (int64, ascending).
void gather_rows(const at::Tensor& out, const at::Tensor& x, const at::Tensor& rows);
// out [M, D] = 0 except out[rows] = x [R, D].
void scatter_rows(const at::Tensor& out, const at::Tensor& x, const at::Tensor& rows);

struct LossSums {
  double weighted_loss = 0.0;  // sum of weight * cross-entropy, in fp64 over rows in order
  double weight = 0.0;         // sum of weights
  int64_t targets = 0;
  int64_t correct = 0;  // rows whose largest logit is the target
  LossSums& operator+=(const LossSums& other) noexcept;
};
// Cross-entropy of logits [C, V] (compute dtype; softmax in the wide dtype) against targets [C] (int64) with weights
// [C] (wide). With gradient: logits are overwritten by weight * gradient_scale * (softmax - onehot).
LossSums cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights,
                       double gradient_scale, bool gradient);

// out [O, K] of the compute dtype.
void dequantize(const at::Tensor& out, const quant::Nf4Tensor& weight);

// AdamW (torch's definition: decay before the step) over flat buffers of the wide dtype, all [n]: gradient is
// multiplied by gradient_scale first (clipping). step counts from 1.
struct AdamWStep {
  double learning_rate = 0.0;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;
  int64_t step = 1;
  double gradient_scale = 1.0;
};
void adamw(const at::Tensor& parameters, const at::Tensor& gradients, const at::Tensor& moment1,
           const at::Tensor& moment2, const AdamWStep& step);
// Sum of squares in fp64 by a fixed order, whatever the thread count; not finite if any element is not.
double sum_of_squares(const at::Tensor& values);
// out = in, with rounding to out's dtype (masters to compute copies).
void convert(const at::Tensor& out, const at::Tensor& in);

}  // namespace phi3tune::ops
