// This back end's functions, under the names of ops.h; what they do is said there, shapes are checked there.
#pragma once

#include "phi3tune/ops/backend.h"

namespace phi3tune::cuda {

using at::Tensor;
using ops::AdamWStep;
using ops::Documents;
using ops::DropoutKey;
using ops::HeadShape;
using ops::LinearWeight;
using ops::LowRank;

void gather_rows(const Tensor& out, const Tensor& table, const Tensor& ids);
void scatter_rows(const Tensor& out, const Tensor& x, const Tensor& rows);
void rms_norm(const Tensor& y, const Tensor& rstd, const Tensor& x, const Tensor& weight, double eps);
void add_rms_norm(const Tensor& y, const Tensor& rstd, const Tensor& sum, const Tensor& residual, const Tensor& delta,
                  const Tensor& weight, double eps);
void rms_norm_backward(const Tensor& dx, const Tensor& dy, const Tensor& x, const Tensor& rstd, const Tensor& weight);
void add(const Tensor& sum, const Tensor& residual, const Tensor& delta);
void rope(const Tensor& qkv, const Tensor& cosine, const Tensor& sine, const HeadShape& heads, bool inverse);
void attention(const Tensor& out, const Tensor& lse, const Tensor& qkv, const Documents& documents,
               const HeadShape& heads, int64_t window);
void attention_backward(const Tensor& dqkv, const Tensor& dout, const Tensor& out, const Tensor& lse, const Tensor& qkv,
                        const Documents& documents, const HeadShape& heads, int64_t window);
void swiglu(const Tensor& hidden, const Tensor& gate_up);
void swiglu_backward(const Tensor& d_gate_up, const Tensor& hidden, const Tensor& d_hidden, const Tensor& gate_up);
void dropout(const Tensor& out, const Tensor& x, const Documents& documents, const DropoutKey& key);
// dx += dropout(x) by the same key.
void dropout_add(const Tensor& dx, const Tensor& x, const Documents& documents, const DropoutKey& key);
void linear(const Tensor& y, const Tensor& x, const LinearWeight& weight);
void linear_input_gradient(const Tensor& dx, const Tensor& dy, const LinearWeight& weight);
void adapted_linear(const Tensor& y, const Tensor& u, const Tensor& x, const Tensor& branch, const LinearWeight& weight,
                    const LowRank& adapter);
void lora_output_gradient(const Tensor& grad_b, const Tensor& du, const Tensor& dy, const Tensor& u,
                          const LinearWeight& weight, const LowRank& adapter);
void adapted_input_gradient(const Tensor& dx, const Tensor& scratch, const Tensor& dy, const Tensor& du,
                            const LinearWeight& weight, const LowRank& adapter, const Documents& documents,
                            const DropoutKey& key);
void lora_input_weight_gradient(const Tensor& grad_a, const Tensor& du, const Tensor& branch);
void write_extension(const LinearWeight& weight, const Tensor& a, const Tensor& b, double scale);
void cross_entropy(const Tensor& sums, const Tensor& row_losses, const Tensor& logits, const Tensor& targets,
                   const Tensor& weights, double gradient_scale, bool gradient);
void dequantize(const Tensor& out, const quant::Nf4Tensor& weight, const Tensor& block);
int64_t quantize(const Tensor& block, const Tensor& absmax, const Tensor& weights, const quant::Nf4Tensor& weight);
void step_norm(const Tensor& control, const Tensor& norm, const Tensor& losses, const Tensor& partials,
               const Tensor& gradients, double max_norm);
void adamw(const Tensor& parameters, const Tensor& gradients, const Tensor& moment1, const Tensor& moment2,
           const Tensor& copy, const AdamWStep& step, const Tensor& control);
void convert(const Tensor& out, const Tensor& in);

// The functions of ops::Memory.
Tensor allocate(size_t bytes);
void upload(const Tensor& to, const void* from);
void download(void* to, const Tensor& from);
Tensor allocate_host(size_t bytes);
void offload(const Tensor& host, const Tensor& from, int slot);
void fetch(const Tensor& to, const Tensor& host, int slot);
void await(int slot);
size_t library_bytes();
ops::Memory::Room room();

}  // namespace phi3tune::cuda
