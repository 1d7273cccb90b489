#include "phi3tune/config/run_layout.h"

#include <fmt/format.h>

#include "phi3tune/core/text.h"

namespace phi3tune::config {
namespace {

constexpr std::string_view kStep = "step-";

}  // namespace

std::vector<std::string> checkpoint_parts() {
  return {kAdapterConfigName, kAdapterTensorsName, kOptimizerName, kTrainingStateName};
}

std::vector<std::string> report_names() { return {kReportRowsName, kReportTextName, kReportPageName}; }

std::string checkpoint_name(int64_t step) { return fmt::format("{}{:06}", kStep, step); }

std::optional<int64_t> step_of_checkpoint(std::string_view name) {
  if (!name.starts_with(kStep)) {
    return std::nullopt;
  }
  const std::optional<int64_t> step = parse_int(name.substr(kStep.size()));
  return step && *step >= 0 && checkpoint_name(*step) == name ? step : std::nullopt;
}

std::string staged_name(const std::string& name) { return "." + name + ".partial"; }
std::string trash_name(const std::string& name) { return "." + name + ".trash"; }

}  // namespace phi3tune::config
