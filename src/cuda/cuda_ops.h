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
using ops::NoiseKey;

decltype(ops::gather_rows) gather_rows;
decltype(ops::scatter_rows) scatter_rows;
decltype(ops::rms_norm) rms_norm;
decltype(ops::add_rms_norm) add_rms_norm;
decltype(ops::rms_norm_backward) rms_norm_backward;
decltype(ops::add) add;
decltype(ops::rope) rope;
decltype(ops::attention) attention;
decltype(ops::attention_backward) attention_backward;
decltype(ops::swiglu) swiglu;
decltype(ops::swiglu_backward) swiglu_backward;
decltype(ops::dropout) dropout;
// dx += dropout(x) by the same key.
void dropout_add(const Tensor& dx, const Tensor& x, const Documents& documents, const DropoutKey& key);
decltype(ops::add_noise) add_noise;
decltype(ops::linear) linear;
decltype(ops::linear_input_gradient) linear_input_gradient;
decltype(ops::adapted_linear) adapted_linear;
decltype(ops::lora_output_gradient) lora_output_gradient;
decltype(ops::adapted_input_gradient) adapted_input_gradient;
decltype(ops::lora_input_weight_gradient) lora_input_weight_gradient;
decltype(ops::write_extension) write_extension;
decltype(ops::cross_entropy) cross_entropy;
decltype(ops::dequantize) dequantize;
int64_t quantize(const Tensor& block, const Tensor& absmax, const Tensor& weights, const quant::Nf4Tensor& weight);
decltype(ops::step_norm) step_norm;
decltype(ops::adamw) adamw;
decltype(ops::convert) convert;

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
