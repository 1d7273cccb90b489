// The CPU back end's functions: the table of backend.h, one by one. Arguments have been checked.
#pragma once

#include "phi3tune/ops/ops.h"

namespace phi3tune::ops::cpu {

void embed(const at::Tensor& out, const at::Tensor& ids, const at::Tensor& table);
void rms_norm(const at::Tensor& y, const at::Tensor& rstd, const at::Tensor& x, const at::Tensor& weight, double eps);
void add_rms_norm(const at::Tensor& y, const at::Tensor& rstd, const at::Tensor& residual, const at::Tensor& delta,
                  const at::Tensor& weight, double eps);
void rms_norm_backward(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& rstd,
                       const at::Tensor& weight);
void add(const at::Tensor& residual, const at::Tensor& delta);
void rope(const at::Tensor& qkv, const at::Tensor& cosine, const at::Tensor& sine, const HeadShape& heads,
          bool inverse);
void attention(const at::Tensor& out, const at::Tensor& lse, const at::Tensor& qkv, const Documents& documents,
               const HeadShape& heads, int64_t window);
void attention_backward(const at::Tensor& dqkv, const at::Tensor& dout, const at::Tensor& out, const at::Tensor& lse,
                        const at::Tensor& qkv, const Documents& documents, const HeadShape& heads, int64_t window);
void swiglu(const at::Tensor& hidden, const at::Tensor& gate_up);
void swiglu_backward(const at::Tensor& d_gate_up, const at::Tensor& d_hidden, const at::Tensor& gate_up);
void linear(const at::Tensor& y, const at::Tensor& x, const at::Tensor& weight);
void linear_input_gradient(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& weight, bool accumulate);
void dropout(const at::Tensor& out, const at::Tensor& x, const Documents& documents, const DropoutKey& key);
void lora_forward(const at::Tensor& y, const at::Tensor& u, const at::Tensor& x, const at::Tensor& a,
                  const at::Tensor& b, double scale);
void lora_weight_gradients(const at::Tensor& grad_a, const at::Tensor& grad_b, const at::Tensor& du,
                           const at::Tensor& dy, const at::Tensor& x, const at::Tensor& u, const at::Tensor& b,
                           double scale);
void lora_input_gradient(const at::Tensor& dx, const at::Tensor& du, const at::Tensor& a, const Documents& documents,
                         const DropoutKey& key);
void gather_rows(const at::Tensor& out, const at::Tensor& x, const at::Tensor& rows);
void scatter_rows(const at::Tensor& out, const at::Tensor& x, const at::Tensor& rows);
LossSums cross_entropy(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& weights,
                       double gradient_scale, bool gradient);
void dequantize(const at::Tensor& out, const quant::Nf4Tensor& weight);
void adamw(const at::Tensor& parameters, const at::Tensor& gradients, const at::Tensor& moment1,
           const at::Tensor& moment2, const AdamWStep& step);
double sum_of_squares(const at::Tensor& values);
void convert(const at::Tensor& out, const at::Tensor& in);

}  // namespace phi3tune::ops::cpu
