// The table of functions that a back end fills: the CPU's, or the CUDA plug-in's. Chosen once per run; a tensor is
// never asked for its device.
#pragma once

#include <cstddef>

#include "phi3tune/ops/ops.h"

namespace phi3tune::ops {

// The memory that a back end computes in, and the ways into it and out of it.
struct Memory {
  at::Device device;  // of every tensor the ops are given
  // Uninitialised bytes, uint8 [bytes], aligned to 256. Throws ResourceError.
  at::Tensor (*allocate)(size_t bytes);
  // Contiguous bytes into a tensor that is contiguous, or a matrix whose rows are further apart than they are wide. The
  // host's bytes may change as soon as it returns.
  void (*upload)(const at::Tensor& to, const void* from);
  // A contiguous tensor's bytes out; everything before has been done when it returns. The one wait of a step.
  void (*download)(void* to, const at::Tensor& from);
  // Host memory for offloaded activations that a device copies from and to without the CPU.
  at::Tensor (*allocate_host)(size_t bytes);
  // Copies a contiguous tensor to the host, or back, beside the computing: after all ops before it, and before any op
  // that follows await(slot). Slots 0 to 3.
  void (*offload)(const at::Tensor& host, const at::Tensor& from, int slot);
  void (*fetch)(const at::Tensor& to, const at::Tensor& host, int slot);
  void (*await)(int slot);
  // What libraries took beside the tensors they were given, at its largest (attention, workspaces): bytes.
  size_t (*library_bytes)();
  // Total and free bytes of the device, and how many multiprocessors it has; the CPU's: of the machine, and none.
  struct Room {
    size_t total, free;
    int64_t multiprocessors = 0;
  };
  Room (*room)();
};

struct Backend {
  const char* name;
  bool extended;      // base and adapter in one product: rows with room for the adapter
  bool asynchronous;  // ops return before they are done; a step's numbers are read later
  bool strided;       // rows may be further apart than they are wide
  Memory memory;
  decltype(&ops::gather_rows) gather_rows;
  decltype(&ops::scatter_rows) scatter_rows;
  decltype(&ops::rms_norm) rms_norm;
  decltype(&ops::add_rms_norm) add_rms_norm;
  decltype(&ops::rms_norm_backward) rms_norm_backward;
  decltype(&ops::add) add;
  decltype(&ops::rope) rope;
  decltype(&ops::attention) attention;
  decltype(&ops::attention_backward) attention_backward;
  decltype(&ops::append_to_cache) append_to_cache;    // null: does not generate
  decltype(&ops::cached_attention) cached_attention;  // null: does not generate
  decltype(&ops::swiglu) swiglu;
  decltype(&ops::swiglu_backward) swiglu_backward;
  decltype(&ops::dropout) dropout;
  decltype(&ops::add_noise) add_noise;
  decltype(&ops::linear) linear;
  decltype(&ops::quantized_linear) quantized_linear;  // null where 4-bit weights are always dequantised first
  decltype(&ops::linear_input_gradient) linear_input_gradient;
  decltype(&ops::adapted_linear) adapted_linear;
  decltype(&ops::add_low_rank) add_low_rank;  // null: does not generate
  decltype(&ops::lora_output_gradient) lora_output_gradient;
  decltype(&ops::adapted_input_gradient) adapted_input_gradient;
  decltype(&ops::lora_input_weight_gradient) lora_input_weight_gradient;
  decltype(&ops::write_extension) write_extension;
  // Null: weights are not trained whole on this back end.
  decltype(&ops::weight_gradient) weight_gradient;
  decltype(&ops::embedding_gradient) embedding_gradient;
  decltype(&ops::cross_entropy) cross_entropy;
  decltype(&ops::dequantize) dequantize;
  // Quantises a dense weight `weights` (contiguous bytes of source dtype, in the back end's memory) into `block`.
  // `absmax`: float scratch [blocks]. weight: shape and options; its vectors stay empty. Returns the index of the first
  // weight that is not finite, or -1. Null where weights are quantised on the host.
  int64_t (*quantize)(const at::Tensor& block, const at::Tensor& absmax, const at::Tensor& weights,
                      const quant::Nf4Tensor& weight);
  decltype(&ops::step_norm) step_norm;
  decltype(&ops::adamw) adamw;
  decltype(&ops::convert) convert;
};

// The CPU's table: ATen and oneDNN, and vector kernels of our own.
const Backend& cpu_backend() noexcept;
// The back end of this run; cpu_backend() until another is chosen.
const Backend& backend() noexcept;
void choose_backend(const Backend& backend) noexcept;

}  // namespace phi3tune::ops
