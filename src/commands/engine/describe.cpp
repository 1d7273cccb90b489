// The engine's half of `phi3-tune env`.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/headeronly/version.h>

#include "compute.h"
#include "cuda_plugin.h"
#include "phi3tune/commands/engine_api.h"
#include "phi3tune/core/error.h"
#include "phi3tune/quant/nf4.h"

namespace {

// The GPUs, or why this machine computes on its CPU.
void describe_gpus(phi3tune::commands::EngineFacts& facts) {
  using namespace phi3tune;
  const auto& plugin = commands::CudaPlugin::of_process();
  if (!plugin.missing().empty()) {
    facts.emplace_back("CUDA", plugin.missing() + ": computing on the CPU");
    return;
  }
  try {
    plugin.describe(facts);
    facts.emplace_back("CUDA", "ready");
  } catch (const Error& error) {
    facts.emplace_back("CUDA", std::string(error.what()) + ": computing on the CPU");
  }
}

}  // namespace

extern "C" void phi3tune_engine_describe(phi3tune::commands::EngineFacts& facts) {
  using namespace phi3tune;
  facts.emplace_back("libtorch", TORCH_VERSION);
  facts.emplace_back("cpu capability of ATen", at::get_cpu_capability());
  facts.emplace_back("threads of ATen", std::to_string(at::get_num_threads()));
  facts.emplace_back("oneDNN", at::globalContext().hasMKLDNN() ? "yes" : "no");
  facts.emplace_back("MKL", at::hasMKL() ? "yes" : "no");
  facts.emplace_back("NF4 dequantisation", quant::dequantize_isa());
  facts.emplace_back("compute dtype by bf16: auto", commands::has_fast_bfloat16() ? "bfloat16" : "float32");
  describe_gpus(facts);
}
