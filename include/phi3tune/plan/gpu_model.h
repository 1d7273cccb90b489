// What a step would take on a GPU: FLOPs and bytes over the rates that are assumed of it. A calculation, not a
// measurement; every assumption is named.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "phi3tune/plan/flops.h"
#include "phi3tune/plan/run_plan.h"

namespace phi3tune::plan {

struct GpuRates {
  std::string name;     // "h200", as --gpu takes it
  std::string title;    // "NVIDIA H200 SXM"
  uint64_t memory = 0;  // bytes that a process can see
  int64_t multiprocessors = 0;
  // FLOP/s in bf16 with fp32 sums.
  double peak = 0;               // data sheet, dense
  double gemm = 0;               // of products of this model's shapes
  double attention_forward = 0;  // of FlashAttention 2 with lengths in cu_seqlens
  double attention_backward = 0;
  // bytes/s
  double memory_peak = 0;  // data sheet
  double memory_rate = 0;  // of a fused elementwise kernel, read and written
  double bus = 0;          // device to host and back, pinned, each way
  std::vector<std::string> assumptions;
};
std::span<const GpuRates> known_gpus();
const GpuRates* find_gpu(std::string_view name) noexcept;  // null: none of that name

// Seconds of one optimizer step, by what they go to.
struct StepSeconds {
  double gemm = 0;  // frozen linears and lm_head, the repeated ones too
  double attention = 0;
  double elementwise = 0;
  double lora = 0;
  double dequantise = 0;
  double optimizer = 0;
  double offload = 0;  // what the bus takes longer than the computation it runs beside
  double total() const noexcept { return gemm + attention + elementwise + lora + dequantise + optimizer + offload; }
};
// `keys`: mean keys a query sees. Products of the base run one after another, nothing overlaps but the bus.
StepSeconds modelled_step(const phi3::ModelConfig& config, const RunShape& shape, double keys, const GpuRates& gpu);
double tokens_per_second(const RunShape& shape, const StepSeconds& seconds) noexcept;

}  // namespace phi3tune::plan
