// The CPU back end's functions: the table of backend.h, one by one. Arguments have been checked.
#pragma once

#include "phi3tune/ops/ops.h"

namespace phi3tune::ops::cpu {

decltype(ops::gather_rows) gather_rows;
decltype(ops::scatter_rows) scatter_rows;
decltype(ops::rms_norm) rms_norm;
decltype(ops::add_rms_norm) add_rms_norm;
decltype(ops::rms_norm_backward) rms_norm_backward;
decltype(ops::add) add;
decltype(ops::rope) rope;
decltype(ops::attention) attention;
decltype(ops::attention_backward) attention_backward;
decltype(ops::append_to_cache) append_to_cache;
decltype(ops::cached_attention) cached_attention;
decltype(ops::swiglu) swiglu;
decltype(ops::swiglu_backward) swiglu_backward;
decltype(ops::dropout) dropout;
decltype(ops::add_noise) add_noise;
decltype(ops::linear) linear;
decltype(ops::quantized_linear) quantized_linear;
decltype(ops::linear_input_gradient) linear_input_gradient;
decltype(ops::adapted_linear) adapted_linear;
decltype(ops::add_low_rank) add_low_rank;
decltype(ops::lora_output_gradient) lora_output_gradient;
decltype(ops::adapted_input_gradient) adapted_input_gradient;
decltype(ops::lora_input_weight_gradient) lora_input_weight_gradient;
decltype(ops::write_extension) write_extension;
decltype(ops::weight_gradient) weight_gradient;
decltype(ops::embedding_gradient) embedding_gradient;
decltype(ops::cross_entropy) cross_entropy;
decltype(ops::dequantize) dequantize;
decltype(ops::step_norm) step_norm;
decltype(ops::adamw) adamw;
decltype(ops::convert) convert;

}  // namespace phi3tune::ops::cpu
