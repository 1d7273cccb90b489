#include "phi3tune/plan/gpu_model.h"

#include <fmt/format.h>

#include <algorithm>

namespace phi3tune::plan {
namespace {

constexpr double kTera = 1e12;
constexpr double kGiga = 1e9;
constexpr uint64_t kMiB = 1024 * 1024;

// Shares of the data sheet that are taken for granted everywhere, because they are what the H200 is assumed to do:
// 720 of 989 TFLOP/s in products of 3072 to 35840 columns (others measured 790 at 8192 cubed), 3.6 of 4.8 TB/s in
// elementwise kernels (others measured 4.3 for a copy).
constexpr double kGemmShare = 720.0 / 989.0;
constexpr double kMemoryShare = 3.6 / 4.8;
constexpr double kBusShare = 0.8;

GpuRates from_data_sheet(std::string name, std::string title, uint64_t mebibytes, int64_t multiprocessors,
                         double peak_tera, double memory_giga, double bus_giga) {
  GpuRates gpu;
  gpu.name = std::move(name);
  gpu.title = std::move(title);
  gpu.memory = mebibytes * kMiB;
  gpu.multiprocessors = multiprocessors;
  gpu.peak = peak_tera * kTera;
  gpu.gemm = gpu.peak * kGemmShare;
  gpu.memory_peak = memory_giga * kGiga;
  gpu.memory_rate = gpu.memory_peak * kMemoryShare;
  gpu.bus = bus_giga * kGiga * kBusShare;
  return gpu;
}

void name_assumptions(GpuRates& gpu, bool reference, const std::string& attention) {
  gpu.assumptions = {
      fmt::format("products: {:.0f} of {:.0f} TFLOP/s in bf16 ({})", gpu.gemm / kTera, gpu.peak / kTera,
                  reference ? "others measured 790 at 8192 cubed; these shapes are smaller"
                            : "the share of the data sheet that is assumed of the H200"),
      fmt::format("attention: {:.0f} TFLOP/s forward, {:.0f} backward, counting the keys that are seen ({})",
                  gpu.attention_forward / kTera, gpu.attention_backward / kTera, attention),
      fmt::format(
          "memory: {:.2f} of {:.2f} TB/s in fused kernels ({})", gpu.memory_rate / kTera, gpu.memory_peak / kTera,
          reference ? "others measured 4.3 for a copy" : "the share of the data sheet that is assumed of the H200"),
      fmt::format("bus: {:.0f} GB/s each way to pinned memory (80 % of the data sheet), beside the computation",
                  gpu.bus / kGiga),
      "nothing else overlaps; launches, data, logging and the fixed order of attention's sums cost nothing",
  };
}

std::vector<GpuRates> make_gpus() {
  std::vector<GpuRates> gpus{
      from_data_sheet("h200", "NVIDIA H200 SXM", 143771, 132, 989, 4800, 64),
      from_data_sheet("h100", "NVIDIA H100 SXM", 81559, 132, 989, 3350, 64),
      from_data_sheet("a100", "NVIDIA A100 SXM 80 GB", 81920, 108, 312, 2039, 32),
      from_data_sheet("4090", "NVIDIA GeForce RTX 4090", 24564, 128, 165.2, 1008, 32),
      from_data_sheet("l40s", "NVIDIA L40S", 46068, 142, 362, 864, 32),
  };
  for (auto& gpu : gpus) {
    const bool hopper = gpu.name == "h200" || gpu.name == "h100";
    // FlashAttention 2 does not use Hopper's own instructions, so its share of the peak is smaller there.
    gpu.attention_forward = hopper ? 350 * kTera : 0.50 * gpu.peak;
    gpu.attention_backward = hopper ? 290 * kTera : 0.42 * gpu.peak;
    name_assumptions(gpu, gpu.name == "h200",
                     hopper ? "FlashAttention 2 on Hopper"
                            : "FlashAttention 2: the lower end of the 50 to 73 % of peak its paper gives for the A100");
  }
  return gpus;
}

}  // namespace

std::span<const GpuRates> known_gpus() {
  static const std::vector<GpuRates> gpus = make_gpus();
  return gpus;
}

const GpuRates* find_gpu(std::string_view name) noexcept {
  const auto gpus = known_gpus();
  const auto found = std::find_if(gpus.begin(), gpus.end(), [&](const GpuRates& gpu) { return gpu.name == name; });
  return found == gpus.end() ? nullptr : &*found;
}

StepSeconds modelled_step(const phi3::ModelConfig& config, const RunShape& shape, double keys, const GpuRates& gpu) {
  const auto flops = step_flops(config, shape.step, keys);
  const auto bytes = step_bytes(config, shape);
  const auto times = static_cast<double>(shape.micro_batches);
  const auto products = [](const PartFlops& part) { return part.linear + part.head; };
  StepSeconds seconds;
  seconds.gemm = times * (products(flops.forward) + products(flops.backward) + products(flops.recompute)) / gpu.gemm;
  seconds.attention = times * ((flops.forward.attention + flops.recompute.attention) / gpu.attention_forward +
                               flops.backward.attention / gpu.attention_backward);
  seconds.elementwise = times * bytes.elementwise / gpu.memory_rate;
  seconds.lora = times * bytes.lora / gpu.memory_rate;
  seconds.dequantise = times * bytes.dequantise / gpu.memory_rate;
  seconds.optimizer = bytes.optimizer / gpu.memory_rate;
  if (bytes.offload_out > 0) {
    // The forward is a third of the products, and half of the dequantisation.
    const double forward =
        times * (products(flops.forward) / gpu.gemm + flops.forward.attention / gpu.attention_forward) +
        seconds.dequantise / 2;
    const double backward = seconds.total() - seconds.optimizer - forward;
    seconds.offload = std::max(0.0, times * bytes.offload_out / gpu.bus - forward) +
                      std::max(0.0, times * bytes.offload_in / gpu.bus - backward);
  }
  return seconds;
}

double tokens_per_second(const RunShape& shape, const StepSeconds& seconds) noexcept {
  const double total = seconds.total();
  return total > 0 ? static_cast<double>(shape.micro_batches * shape.step.tokens) / total : 0;
}

}  // namespace phi3tune::plan
