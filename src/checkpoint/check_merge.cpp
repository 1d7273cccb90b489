#include "checkpoint/check_merge.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "phi3tune/checkpoint/adapter.h"
#include "phi3tune/core/error.h"
#include "phi3tune/model/phi3_model.h"
#include "phi3tune/phi3/fused_adapter.h"
#include "phi3tune/phi3/state_dict.h"

namespace phi3tune::checkpoint {
namespace {

constexpr int64_t kTokens = 32;

// Spread over the vocabulary, the same in every run.
model::TokenBatch fixed_tokens(const phi3::ModelConfig& config) {
  model::TokenBatch batch;
  batch.input_ids = at::empty({kTokens}, at::kLong);
  auto* ids = batch.input_ids.data_ptr<int64_t>();
  for (int64_t i = 0; i < kTokens; ++i) {
    ids[i] = (1 + i * 7919) % config.vocab_size;
  }
  batch.cu_seqlens = {0, static_cast<int32_t>(kTokens)};
  batch.target_rows = at::empty({0}, at::kLong);
  batch.targets = at::empty({0}, at::kLong);
  batch.weights = at::empty({0}, at::kFloat);
  batch.sample_ids = {0};
  return batch;
}

at::Tensor logits_of(model::Phi3Model& model, const phi3::ModelFolder& folder) {
  auto logits = model.logits(fixed_tokens(folder.config())).to(at::kDouble);
  if (!at::isfinite(logits).all().item<bool>()) {
    throw NumericsError("{}: its logits are not finite", folder.path());
  }
  return logits;
}

}  // namespace

MergeCheck check_merge(const phi3::ModelFolder& base, const std::string& adapter,
                       const std::optional<phi3::HeldInNf4>& held, const phi3::ModelFolder& merged,
                       uint64_t free_memory) {
  const auto& config = base.config();
  int64_t parameters = 0;
  for (const auto& spec : phi3::state_dict(config)) {
    parameters += spec.numel();
  }
  // float32 of a 16-bit folder takes memory of its own.
  const bool fits = static_cast<double>(parameters) * sizeof(float) < 0.8 * static_cast<double>(free_memory);
  model::Phi3Options options;
  options.compute_dtype = fits ? at::kFloat : at::kBFloat16;

  MergeCheck check;
  check.compute_dtype = fits ? "float32" : "bfloat16";
  check.tokens = kTokens;
  at::Tensor expected;
  {
    auto with_nf4 = options;
    if (held) {
      with_nf4.quantize = true;
      with_nf4.nf4.block_size = held->block_size;
      with_nf4.nf4.double_quant = held->double_quant;
    }
    const auto adapter_config = phi3::read_fused_config(adapter, config);
    with_nf4.ranks = model::ranks_of(config, adapter_config);
    auto model = model::Phi3Model::load(base, with_nf4);
    model::LoraAdapters adapters(config, adapter_config, options.compute_dtype, 0, false);
    load_adapter(adapter, config, adapters);
    model.attach(&adapters);
    expected = logits_of(model, base);
  }
  auto model = model::Phi3Model::load(merged, options);
  const auto found = logits_of(model, merged);
  check.max_difference = (found - expected).abs().max().item<double>();
  check.max_logit = expected.abs().max().item<double>();
  return check;
}

}  // namespace phi3tune::checkpoint
