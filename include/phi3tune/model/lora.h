// The trained part: a low-rank pair beside some of the frozen linears, in flat buffers that the optimizer walks once.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "phi3tune/model/arena.h"
#include "phi3tune/phi3/adapter_config.h"
#include "phi3tune/phi3/model_config.h"
#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::model {

// Views into the flat buffers; A [rank, in], B [out, rank]. With DoRA, also a magnitude [out] (else undefined).
struct LoraPair {
  std::string module_path;  // "model.layers.3.self_attn.qkv_proj"
  int64_t layer = 0;
  phi3::LinearKind kind{};
  int64_t rank = 0;
  double scale = 0.0;
  at::Tensor a, b;                  // masters: float32, or float64 in a float64 model
  at::Tensor grad_a, grad_b;        // the same dtype
  at::Tensor compute_a, compute_b;  // copies in the compute dtype; the masters themselves where that is the same
  at::Tensor initial_a, initial_b;  // PiSSA: the start, which the base is held without; else undefined. On the host.
  at::Tensor magnitude, grad_magnitude;
  // What the network keeps of DoRA: the rows' norms ||W + scale B A||, magnitude / norm, both wide, and the squares of
  // the base's rows, float64.
  at::Tensor norm, factor, base_square;
};

// A weight trained whole: views into the flat buffers, [V, D].
struct WholeWeight {
  phi3::WholeModule module{};
  at::Tensor value, grad, compute;  // as of a pair
};

// What a run of the flat buffers holds: optimizers treat them differently (LoRA+).
enum class ParameterKind { kA, kB, kWhole };  // kB: magnitudes too, as PEFT's LoRA+ groups them
struct ParameterRun {
  ParameterKind kind;
  int64_t count;
};

using Ranks = std::vector<std::array<int64_t, phi3::kLinearKinds>>;  // per layer; 0: not adapted
Ranks ranks_of(const phi3::ModelConfig& model, const phi3::AdapterConfig& config);
int64_t parameters_of(const phi3::ModelConfig& model, const Ranks& ranks);  // of A and B

class LoraAdapters {
 public:
  // Pairs for every module of the config's targets, layer by layer, in the order qkv, o, gate_up, down; A
  // kaiming-uniform (U(-1/sqrt(in), 1/sqrt(in))) or gaussian (std 1/rank), B zero, from a counter-based stream of
  // (seed, module path, element). The flat buffers are the arena's adapter part.
  LoraAdapters(const phi3::ModelConfig& model, const phi3::AdapterConfig& config, at::ScalarType compute_dtype,
               uint64_t seed, bool gaussian, std::shared_ptr<Arena> arena = std::make_shared<Arena>());

  const phi3::AdapterConfig& config() const noexcept { return config_; }
  // Parameters and start become `flat` (as parameters(), on the host), which the base must then be held without. The
  // magnitudes keep their values.
  void start_from_base(const at::Tensor& flat);
  bool started_from_base() const noexcept { return initial_.defined(); }
  const std::vector<LoraPair>& pairs() const noexcept { return pairs_; }
  const std::vector<WholeWeight>& whole_weights() const noexcept { return whole_; }
  // Null where the base's own is used.
  const WholeWeight* find(phi3::WholeModule module) const noexcept;
  // Null where a linear is not adapted.
  const LoraPair* find(int64_t layer, phi3::LinearKind kind) const noexcept;

  // Fresh magnitudes are the lengths of the base's rows, which the network writes when it is attached. Whoever fills
  // them from a file says so first.
  int64_t magnitudes() const noexcept { return magnitudes_; }
  bool wants_magnitudes() const noexcept { return magnitudes_ > 0 && !magnitudes_given_; }
  void magnitudes_given() noexcept { magnitudes_given_ = true; }

  // Flat, all pairs one after the other (A, B, then the magnitude of each), then the whole weights: [n] of the master
  // dtype.
  const at::Tensor& parameters() const noexcept { return parameters_; }
  const at::Tensor& gradients() const noexcept { return gradients_; }
  // What the flat buffers hold, from their begin to their end.
  const std::vector<ParameterRun>& runs() const noexcept { return runs_; }
  // The parameters rounded to the compute dtype; undefined where that is the masters' own.
  at::Tensor compute_copy() const;
  int64_t count() const noexcept { return parameters_.numel(); }
  // Starts the whole weights at the base's; they are zero before. Nothing else changes.
  void take_base_weights(const phi3::ModelFolder& folder);
  void zero_gradients();
  // After the masters changed.
  void refresh_compute_copies();

 private:
  std::shared_ptr<Arena> arena_;
  phi3::AdapterConfig config_;
  std::vector<LoraPair> pairs_;
  std::vector<WholeWeight> whole_;
  std::vector<std::array<int64_t, phi3::kLinearKinds>> index_;  // per layer; -1: none
  at::Tensor parameters_, gradients_, compute_, initial_;
  std::vector<ParameterRun> runs_;
  int64_t magnitudes_ = 0;
  bool magnitudes_given_ = false;
};

}  // namespace phi3tune::model
