// Arithmetic of one micro-batch: FLOPs and bytes moved, by part, from shapes alone. A multiply-add is two FLOPs.
//
// With P the weights of the linears, E = V D those of the head, Q = sum of rank (in + out), and a = 4 N H per key a
// query sees: forward 2P + 2E + 2Q + a; backward 2P + 2E + 4Q + 2.5a, since the base has no weight gradients, less the
// input gradient of layer 0's qkv_proj, below which nothing is trained. Attention's backward computes the scores
// again: 2.5a.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "phi3tune/phi3/model_config.h"
#include "phi3tune/plan/run_plan.h"

namespace phi3tune::plan {

// Mean number of keys that a query of these documents sees, itself included: causal, inside its document, and the last
// `window` positions alone where there is a window. Lengths >= 1.
double mean_keys(std::span<const int64_t> documents, std::optional<int64_t> window);

struct PartFlops {
  double linear = 0;     // the frozen weights' products
  double head = 0;       // lm_head, trained rows alone
  double lora = 0;       // both factors of the adapters
  double attention = 0;  // scores and values
  double total() const noexcept { return linear + head + lora + attention; }
};
struct StepFlops {
  PartFlops forward, backward;
  PartFlops recompute;  // what the backward computes again because it was not saved
  double total() const noexcept { return forward.total() + backward.total() + recompute.total(); }
};
// Of one micro-batch of `step.tokens`. The last layer is never recomputed: its buffers still hold everything.
StepFlops step_flops(const phi3::ModelConfig& config, const StepShape& step, double keys);

// Bytes read and written by what is bound by memory, not arithmetic; one fused kernel each.
struct StepBytes {
  double elementwise = 0;  // norms with their residual adds, RoPE, SwiGLU, the loss over the logits
  double lora = 0;         // the skinny products read what the base's products have read already
  double dequantise = 0;   // NF4: one pass in the forward, one in the backward
  double optimizer = 0;    // of a step, not of a micro-batch
  double offload_out = 0,
         offload_in = 0;  // over the bus: block inputs to the host in the forward, back in the backward
};
StepBytes step_bytes(const phi3::ModelConfig& config, const RunShape& shape);

}  // namespace phi3tune::plan
