// What lies where in a run's output_dir: the names alone.
//
//   run.json, metrics.jsonl, checkpoints/step-000200/..., adapter/, generations.jsonl, eval/
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace phi3tune::config {

inline constexpr const char* kRecordName = "run.json";
inline constexpr const char* kMetricsName = "metrics.jsonl";
inline constexpr const char* kAdapterFolder = "adapter";
inline constexpr const char* kCheckpointsFolder = "checkpoints";

inline constexpr const char* kAdapterConfigName = "adapter_config.json";
inline constexpr const char* kAdapterTensorsName = "adapter_model.safetensors";
inline constexpr const char* kOptimizerName = "optimizer.safetensors";
inline constexpr const char* kTrainingStateName = "training_state.json";

// eval_prompts: what the adapter answers at each evaluation.
inline constexpr const char* kGenerationsName = "generations.jsonl";

// What `phi3-tune eval` writes.
inline constexpr const char* kReportFolder = "eval";
inline constexpr const char* kReportRowsName = "rows.jsonl";
inline constexpr const char* kReportTextName = "report.md";
inline constexpr const char* kReportPageName = "report.html";
std::vector<std::string> report_names();

inline constexpr const char* kCheckpointKind = "checkpoint";  // in its manifest

// Files of a checkpoint that its manifest lists, sorted.
std::vector<std::string> checkpoint_parts();

std::string checkpoint_name(int64_t step);  // "step-000200"; more digits from a million steps on
// The step of such a name; nothing for any other spelling.
std::optional<int64_t> step_of_checkpoint(std::string_view name);

// The name of a folder while it is being filled (".adapter.partial") and while it is being deleted (".adapter.trash").
std::string staged_name(const std::string& name);
std::string trash_name(const std::string& name);

}  // namespace phi3tune::config
