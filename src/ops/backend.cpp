#include "phi3tune/ops/backend.h"

#include <atomic>

#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/memory.h"

namespace phi3tune::ops {
namespace {

// A function's own, not a global: it holds the memory's table, which is initialised elsewhere.
const Backend& cpu_table() noexcept {
  static const Backend table{.name = "cpu",
                             .extended = false,
                             .asynchronous = false,
                             .strided = false,
                             .memory = cpu::kMemory,
                             .gather_rows = cpu::gather_rows,
                             .scatter_rows = cpu::scatter_rows,
                             .rms_norm = cpu::rms_norm,
                             .add_rms_norm = cpu::add_rms_norm,
                             .rms_norm_backward = cpu::rms_norm_backward,
                             .add = cpu::add,
                             .rope = cpu::rope,
                             .attention = cpu::attention,
                             .attention_backward = cpu::attention_backward,
                             .append_to_cache = cpu::append_to_cache,
                             .cached_attention = cpu::cached_attention,
                             .swiglu = cpu::swiglu,
                             .swiglu_backward = cpu::swiglu_backward,
                             .dropout = cpu::dropout,
                             .add_noise = cpu::add_noise,
                             .linear = cpu::linear,
                             .quantized_linear = cpu::quantized_linear,
                             .linear_input_gradient = cpu::linear_input_gradient,
                             .adapted_linear = cpu::adapted_linear,
                             .add_low_rank = cpu::add_low_rank,
                             .lora_output_gradient = cpu::lora_output_gradient,
                             .adapted_input_gradient = cpu::adapted_input_gradient,
                             .lora_input_weight_gradient = cpu::lora_input_weight_gradient,
                             .write_extension = cpu::write_extension,
                             .weight_gradient = cpu::weight_gradient,
                             .embedding_gradient = cpu::embedding_gradient,
                             .cross_entropy = cpu::cross_entropy,
                             .dequantize = cpu::dequantize,
                             .quantize = nullptr,
                             .step_norm = cpu::step_norm,
                             .adamw = cpu::adamw,
                             .convert = cpu::convert};
  return table;
}

std::atomic<const Backend*> chosen{nullptr};

}  // namespace

const Backend& cpu_backend() noexcept { return cpu_table(); }
const Backend& backend() noexcept {
  const Backend* table = chosen.load(std::memory_order_relaxed);
  return table != nullptr ? *table : cpu_table();
}
void choose_backend(const Backend& backend) noexcept { chosen.store(&backend, std::memory_order_relaxed); }

}  // namespace phi3tune::ops
