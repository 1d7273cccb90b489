// The CPU back end's functions: the table of backend.h, one by one. Arguments have been checked.
#pragma once

#include "phi3tune/ops/ops.h"

namespace phi3tune::ops::cpu {

void gather_rows(const at::Tensor& out, const at::Tensor& table, const at::Tensor& ids);
void scatter_rows(const at::Tensor& out, const at::Tensor& x, const at::Tensor& rows);
void rms_norm(const at::Tensor& y, const at::Tensor& rstd, const at::Tensor& x, const at::Tensor& weight, double eps);
void add_rms_norm(const at::Tensor& y, const at::Tensor& rstd, const at::Tensor& sum, const at::Tensor& residual,
                  const at::Tensor& delta, const at::Tensor& weight, double eps);
void rms_norm_backward(const at::Tensor& dx, const at::Tensor& dy, const at::Tensor& x, const at::Tensor& rstd,
                       const at::Tensor& weight);
void add(const at::Tensor& sum, const at::Tensor& residual, const at::Tensor& delta);
void rope(const at::Tensor& qkv, const at::Tensor& cosine, const at::Tensor& sine, const HeadShape& heads,
          bool inverse);
void attention(const at::Tensor& out, const at::Tensor& lse, const at::Tensor& qkv, const Documents& documents,
               const HeadShape& heads, int64_t window);
void attention_backward(const at::Tensor& dqkv, const at::Tensor& dout, const at::Tensor& out, const at::Tensor& lse,
                        const at::Tensor& qkv, const Documents& documents, const HeadShape& heads, int64_t window);
void swiglu(const at::Tensor& hidden, const at::Tensor& gate_up);
void swiglu_backward(const at::Tensor& d_gate_up, const at::Tensor& hidden, const at::Tensor& d_hidden,
                     const at::Tensor& gate_up);
void dropout(const at::Tensor& out, const at::Tensor& x, const Documents& documents, const DropoutKey& key);
void linear(const at::Tensor& y, const at::Tensor& x, const LinearWeight& weight);
void linear_input_gradient(const at::Tensor& dx, const at::Tensor& dy, const LinearWeight& weight);
void adapted_linear(const at::Tensor& y, const at::Tensor& u, const at::Tensor& x, const at::Tensor& branch,
                    const LinearWeight& weight, const LowRank& adapter);
void lora_output_gradient(const at::Tensor& grad_b, const at::Tensor& du, const at::Tensor& dy, const at::Tensor& u,
                          const LinearWeight& weight, const LowRank& adapter);
void adapted_input_gradient(const at::Tensor& dx, const at::Tensor& scratch, const at::Tensor& dy, const at::Tensor& du,
                            const LinearWeight& weight, const LowRank& adapter, const Documents& documents,
                            const DropoutKey& key);
void lora_input_weight_gradient(const at::Tensor& grad_a, const at::Tensor& du, const at::Tensor& branch);
void write_extension(const LinearWeight& weight, const at::Tensor& a, const at::Tensor& b, double scale);
void cross_entropy(const at::Tensor& sums, const at::Tensor& row_losses, const at::Tensor& logits,
                   const at::Tensor& targets, const at::Tensor& weights, double gradient_scale, bool gradient);
void dequantize(const at::Tensor& out, const quant::Nf4Tensor& weight, const at::Tensor& block);
void step_norm(const at::Tensor& control, const at::Tensor& norm, const at::Tensor& losses, const at::Tensor& partials,
               const at::Tensor& gradients, double max_norm);
void adamw(const at::Tensor& parameters, const at::Tensor& gradients, const at::Tensor& moment1,
           const at::Tensor& moment2, const at::Tensor& copy, const AdamWStep& step, const at::Tensor& control);
void convert(const at::Tensor& out, const at::Tensor& in);

}  // namespace phi3tune::ops::cpu
