// The table of functions that a back end fills: the CPU's, or the CUDA plug-in's. Chosen once per run; a tensor is
// never asked for its device.
#pragma once

#include "phi3tune/ops/ops.h"

namespace phi3tune::ops {

struct Backend {
  const char* name;
  decltype(&ops::embed) embed;
  decltype(&ops::rms_norm) rms_norm;
  decltype(&ops::add_rms_norm) add_rms_norm;
  decltype(&ops::rms_norm_backward) rms_norm_backward;
  decltype(&ops::add) add;
  decltype(&ops::rope) rope;
  decltype(&ops::attention) attention;
  decltype(&ops::attention_backward) attention_backward;
  decltype(&ops::swiglu) swiglu;
  decltype(&ops::swiglu_backward) swiglu_backward;
  decltype(&ops::linear) linear;
  decltype(&ops::linear_input_gradient) linear_input_gradient;
  decltype(&ops::dropout) dropout;
  decltype(&ops::lora_forward) lora_forward;
  decltype(&ops::lora_weight_gradients) lora_weight_gradients;
  decltype(&ops::lora_input_gradient) lora_input_gradient;
  decltype(&ops::gather_rows) gather_rows;
  decltype(&ops::scatter_rows) scatter_rows;
  decltype(&ops::cross_entropy) cross_entropy;
  decltype(&ops::dequantize) dequantize;
  decltype(&ops::adamw) adamw;
  decltype(&ops::sum_of_squares) sum_of_squares;
  decltype(&ops::convert) convert;
};

// The CPU's table: ATen and oneDNN, and vector kernels of our own.
const Backend& cpu_backend() noexcept;
// The back end of this run; cpu_backend() until another is chosen.
const Backend& backend() noexcept;
void choose_backend(const Backend& backend) noexcept;

}  // namespace phi3tune::ops
