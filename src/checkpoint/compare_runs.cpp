#include "phi3tune/checkpoint/compare_runs.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "phi3tune/config/settings.h"
#include "phi3tune/core/text.h"

namespace phi3tune::checkpoint {
namespace {

// What was asked for; what it came to stands in the settings.
const std::string* asked_for(const RunRecord& run, std::string_view name) {
  const std::string* requested = find_fact(run.requested, name);
  return requested != nullptr ? requested : find_fact(run.settings, name);
}

std::string shown(const std::string* text) { return text == nullptr ? "not given" : *text; }

std::vector<std::string> names_of(const Facts& then, const Facts& now) {
  std::vector<std::string> names;
  for (const Facts* facts : {&then, &now}) {
    for (const auto& [name, text] : *facts) {
      if (std::find(names.begin(), names.end(), name) == names.end()) {
        names.push_back(name);
      }
    }
  }
  return names;
}

void compare_settings(const RunRecord& then, const RunRecord& now, RunDifferences& differences) {
  for (const std::string& name : names_of(then.settings, now.settings)) {
    const std::string* before = asked_for(then, name);
    const std::string* after = asked_for(now, name);
    if (before != nullptr && after != nullptr && *before == *after) {
      continue;
    }
    const std::string text = fmt::format("{}: {} then, {} now", name, shown(before), shown(after));
    // A setting that an older or newer version does not know has its default there.
    const bool free = config::on_resume(name) != config::OnResume::kSame;
    (free ? differences.allowed : differences.refused).push_back(text);
  }
}

void compare_hashes(const RunRecord& then, const RunRecord& now, RunDifferences& differences) {
  static constexpr std::pair<std::string_view, std::string_view> kNames[]{
      {"base", "the weights or config.json of base_model are not those the run began with"},
      {"data", "the examples of datasets or test_datasets are not those the run began with"},
      {"tokenizer", "the tokenizer is not the one the run began with"},
      {"template", "the chat template is not the one the run began with"},
      {"adapter_from", "the adapter of lora_model_dir is not the one the run began with"}};
  for (const auto& [name, text] : kNames) {
    const std::string* before = find_fact(then.hashes, name);
    const std::string* after = find_fact(now.hashes, name);
    if (shown(before) != shown(after)) {
      differences.refused.push_back(fmt::format("{} (hash {} then, {} now)", text, shown(before), shown(after)));
    }
  }
}

void compare_machines(const RunRecord& then, const RunRecord& now, RunDifferences& differences) {
  for (const char* name : {"device", "threads", "dtype", "cpu_capability"}) {
    const std::string* before = find_fact(then.compute, name);
    const std::string* after = find_fact(now.compute, name);
    if (before != nullptr && after != nullptr && *before != *after) {
      differences.inexact.push_back(fmt::format("{}: {} then, {} now", name, *before, *after));
    }
  }
  // As settled: the same rows a step in other passes are summed in another order.
  for (const char* name : {"micro_batch_size", "gradient_accumulation_steps"}) {
    const std::string* before = find_fact(then.settings, name);
    const std::string* after = find_fact(now.settings, name);
    if (!now.compute.empty() && shown(before) != shown(after) &&
        shown(asked_for(then, name)) == shown(asked_for(now, name))) {
      differences.inexact.push_back(fmt::format("{}: {} then, {} now", name, shown(before), shown(after)));
    }
  }
  for (const std::string& name : names_of(then.versions, now.versions)) {
    const std::string before = shown(find_fact(then.versions, name));
    const std::string after = shown(find_fact(now.versions, name));
    if (before != after) {
      differences.inexact.push_back(fmt::format("{}: {} then, {} now", name, before, after));
    }
  }
  const std::string before = shown(find_fact(then.hashes, "program"));
  const std::string after = shown(find_fact(now.hashes, "program"));
  if (before != after) {
    differences.inexact.push_back(fmt::format("the program: another build (hash {} then, {} now)", before, after));
  }
}

// num_epochs is not looked at beside max_steps, so a run may change from one to the other.
void compare_lengths(const RunRecord& then, const RunRecord& now, int64_t steps, RunDifferences& differences) {
  const std::string* after = find_fact(now.settings, "max_steps");
  const auto wanted = after == nullptr ? std::nullopt : parse_int(*after);
  if (wanted && *wanted < steps && shown(find_fact(then.settings, "max_steps")) != *after) {
    differences.refused.push_back(fmt::format("max_steps: {} now, and the checkpoint is of step {}", *after, steps));
  }
}

}  // namespace

RunDifferences compare_runs(const RunRecord& then, const RunRecord& now, int64_t steps) {
  RunDifferences differences;
  compare_hashes(then, now, differences);
  compare_settings(then, now, differences);
  compare_lengths(then, now, steps, differences);
  compare_machines(then, now, differences);
  return differences;
}

}  // namespace phi3tune::checkpoint
