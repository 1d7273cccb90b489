// The engine's half of `phi3-tune env`.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/headeronly/version.h>

#include "compute.h"
#include "phi3tune/commands/engine_api.h"
#include "phi3tune/quant/nf4.h"

extern "C" void phi3tune_engine_describe(phi3tune::commands::EngineFacts& facts) {
  using namespace phi3tune;
  facts.emplace_back("libtorch", TORCH_VERSION);
  facts.emplace_back("cpu capability of ATen", at::get_cpu_capability());
  facts.emplace_back("threads of ATen", std::to_string(at::get_num_threads()));
  facts.emplace_back("oneDNN", at::globalContext().hasMKLDNN() ? "yes" : "no");
  facts.emplace_back("MKL", at::hasMKL() ? "yes" : "no");
  facts.emplace_back("NF4 dequantisation", quant::dequantize_isa());
  facts.emplace_back("compute dtype by bf16: auto", commands::has_fast_bfloat16() ? "bfloat16" : "float32");
  facts.emplace_back("CUDA", "no plug-in in this build: computing on the CPU");
}
