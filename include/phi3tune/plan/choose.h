// Chooses what a run keeps in memory and how many rows a pass takes, so that it fits and is as fast as the model of the
// GPU says it can be; and, where it does not fit, says what would. Pure arithmetic over shapes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "phi3tune/plan/gpu_model.h"
#include "phi3tune/plan/library_memory.h"
#include "phi3tune/plan/run_shape.h"

namespace phi3tune::plan {

// What does not change while a choice is made.
struct PlanContext {
  phi3::ModelConfig model;
  RowFacts rows;
  DeviceShape device;
  double keys = 0;                // mean keys a query sees
  const GpuRates* gpu = nullptr;  // null: not known; speeds are compared as on an H200
  size_t memory = SIZE_MAX;       // that the run may take on its device, everything included
  bool opened = false;            // `memory` is beside a CUDA context that is there already
};

// A run with everything settled, and what it takes.
struct Candidate {
  RunShape shape;
  RunPlan plan;
  LibraryMemory libraries;  // zero on the CPU
  HostWeights weights;      // zero on a GPU
  size_t outside = 0;  // of the arena, in the device's memory: libraries'; on the CPU weights and what is offloaded
  StepSeconds seconds;
  size_t device_bytes() const noexcept { return plan.total() + outside; }
  double tokens_per_second() const noexcept { return plan::tokens_per_second(shape, seconds); }
};
Candidate evaluate(const PlanContext& context, RunShape shape);
bool fits(const PlanContext& context, const Candidate& candidate) noexcept;

// The fastest saved activations for this micro-batch that fit, of all ways to give none, gate_up, attention and block
// to the layers; offload where not even block fits (which on the CPU takes no less). Upper layers keep less, and the
// last one least: it is never recomputed. Nullopt: nothing fits.
std::optional<Candidate> choose_saved_activations(const PlanContext& context, const RunShape& shape);

// The most rows of a micro-batch that fit with this policy in all layers (kAuto: with any), up to `most`; 0: not even
// one.
int64_t largest_micro_batch(const PlanContext& context, const RunShape& shape, SavedActivations saved, int64_t most);

// `rows_per_step` rows in equal micro-batches, the fastest way that fits with `saved` (kAuto: chosen too); of two that
// are within half a per cent the larger micro-batch. Nullopt: not even one row fits.
std::optional<Candidate> choose_micro_batch(const PlanContext& context, const RunShape& shape, SavedActivations saved,
                                            int64_t rows_per_step);

// What a run as configured comes to: `saved` kAuto is chosen for the memory there is, and where nothing fits it is what
// takes least. rows_per_step > 0: the micro-batch is chosen too.
Candidate settle(const PlanContext& context, const RunShape& shape, SavedActivations saved, int64_t rows_per_step);

// A change to the settings, and what the run takes then.
struct Remedy {
  std::string change;  // "gradient_checkpointing: block"
  size_t device_bytes = 0;
  bool fits = false;
};
// For a run that does not fit.
struct Remedies {
  // Each of these alone is enough, or (`together`) one is made after the other until it is.
  std::vector<Remedy> changes;
  bool together = false;
};
Remedies what_would_fit(const PlanContext& context, const RunShape& shape);

// "none", or "none in layers 0-11, block in layers 12-31".
std::string describe_saved(const StepShape& step);

}  // namespace phi3tune::plan
