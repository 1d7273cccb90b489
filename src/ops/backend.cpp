#include "phi3tune/ops/backend.h"

#include <atomic>

#include "ops/cpu/cpu_ops.h"

namespace phi3tune::ops {
namespace {

constexpr Backend kCpu = {.name = "cpu",
                          .embed = cpu::embed,
                          .rms_norm = cpu::rms_norm,
                          .add_rms_norm = cpu::add_rms_norm,
                          .rms_norm_backward = cpu::rms_norm_backward,
                          .add = cpu::add,
                          .rope = cpu::rope,
                          .attention = cpu::attention,
                          .attention_backward = cpu::attention_backward,
                          .swiglu = cpu::swiglu,
                          .swiglu_backward = cpu::swiglu_backward,
                          .linear = cpu::linear,
                          .linear_input_gradient = cpu::linear_input_gradient,
                          .dropout = cpu::dropout,
                          .lora_forward = cpu::lora_forward,
                          .lora_weight_gradients = cpu::lora_weight_gradients,
                          .lora_input_gradient = cpu::lora_input_gradient,
                          .gather_rows = cpu::gather_rows,
                          .scatter_rows = cpu::scatter_rows,
                          .cross_entropy = cpu::cross_entropy,
                          .dequantize = cpu::dequantize,
                          .adamw = cpu::adamw,
                          .sum_of_squares = cpu::sum_of_squares,
                          .convert = cpu::convert};

std::atomic<const Backend*> chosen{&kCpu};

}  // namespace

const Backend& cpu_backend() noexcept { return kCpu; }
const Backend& backend() noexcept { return *chosen.load(std::memory_order_relaxed); }
void choose_backend(const Backend& backend) noexcept { chosen.store(&backend, std::memory_order_relaxed); }

}  // namespace phi3tune::ops
