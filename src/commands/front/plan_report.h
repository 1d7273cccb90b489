// The plan of a run as text and as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/io/json.h"
#include "phi3tune/plan/choose.h"

namespace phi3tune::commands {

// The run with one policy in every layer, all else as it is.
struct PolicyRow {
  plan::SavedActivations saved;
  plan::Candidate candidate;
  std::optional<int64_t> largest_micro_batch;  // rows; where there is a limit
};

struct PlanReport {
  config::RunOptions run;
  plan::PlanContext context;
  plan::Candidate candidate;  // the run as configured, `auto` settled
  std::vector<PolicyRow> policies;
  std::string limit;  // whose context.memory is: "--device-memory"; empty: there is no limit
  bool fits = true;
  plan::Remedies remedies;  // where it does not fit
  bool timed = false;       // a GPU is named and computes in bf16
  std::vector<std::string> assumptions;
};

std::string plan_text(const PlanReport& report);
io::Json plan_json(const PlanReport& report);
// One line: what it needs, what there is, what would fit.
std::string plan_refusal(const PlanReport& report);

}  // namespace phi3tune::commands
