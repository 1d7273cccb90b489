// A small run to save: adapters, moments and a loop's state with every field set to something of its own.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "phi3tune/checkpoint/checkpoint.h"
#include "tiny.h"

namespace phi3tune::test {

inline train::EvalMetrics an_evaluation(const std::string& name, int64_t step) {
  return {name, step, 0.1 * static_cast<double>(step), 1.0 / 3.0, 1234, 0.1, 2.5e-7};
}

inline checkpoint::SavedState a_state(int64_t step) {
  checkpoint::SavedState state;
  state.optimizer_step = step;
  state.metrics_bytes = (uint64_t{1} << 63) + 5;
  train::LoopState& loop = state.loop;
  loop.result.ended_early = true;
  loop.result.steps = step;
  loop.result.epoch = 1.0 + 1e-15;
  loop.result.trained_tokens = 123456789012345;
  loop.result.tokens = 223456789012345;
  loop.result.seconds = 0.1 + 0.2;
  loop.result.training_seconds = 3.0;
  loop.result.last_loss = 5e-324;
  loop.result.first_evaluation = {an_evaluation("validation", 0), an_evaluation("\"general\" \u00e9", 0)};
  loop.result.last_evaluation = {an_evaluation("validation", step)};
  loop.evaluated_at = step - 1;
  loop.best = train::BestEvaluation{step - 2, -0.0};
  loop.stale_evaluations = 2;
  loop.steps_above = 7;
  return state;
}

inline checkpoint::RunRecord a_record() {
  checkpoint::RunRecord record;
  record.run_name = "tickets";
  record.settings = {
      {"learning_rate", "0.0002"}, {"base_model", "\"models/tiny\""}, {"datasets", "[{\"path\":\"a\"}]"}};
  record.requested = {{"device", "\"auto\""}};
  record.versions = {{"phi3-tune", "0.1.0"}, {"libtorch", "2.11.0"}};
  record.hashes = {{"base", "00"}, {"data", "11"}};
  record.compute = {{"threads", "2"}, {"device", "cpu"}};
  return record;
}

// Moments beside the adapters, on the host.
inline train::AdamWState moments_of(const model::LoraAdapters& adapters, int64_t step) {
  return {at::zeros_like(adapters.parameters()), at::zeros_like(adapters.parameters()), step};
}

struct SmallRun {
  explicit SmallRun(int64_t step, at::ScalarType dtype = at::kFloat)
      : adapters(tiny_adapters(dtype)), moments(moments_of(adapters, step)), state(a_state(step)) {
    at::manual_seed(step);
    adapters.parameters().normal_();
    moments.moment1.normal_();
    moments.moment2.uniform_();
  }
  void save(const std::string& folder) const {
    checkpoint::save_checkpoint(folder, adapters, moments, state, a_record());
  }
  model::LoraAdapters adapters;
  train::AdamWState moments;
  checkpoint::SavedState state;
};

}  // namespace phi3tune::test
