#include "config/checks.h"

#include <fmt/format.h>

#include <algorithm>

#include "phi3tune/core/text.h"

namespace phi3tune::config {
namespace {

const Given* find_given(const GivenSettings& given, std::string_view name) {
  const auto entry = given.find(name);
  return entry == given.end() || entry->second.value.kind == io::YamlNode::Kind::kNull ? nullptr : &entry->second;
}

void replaced(const Given& lower, const Given& higher, std::vector<std::string>& notes) {
  notes.push_back(fmt::format("{}: {} is replaced by {} ({})", lower.position.text(), lower.written, higher.written,
                              higher.position.text()));
}

void settle_group(const std::vector<std::string>& names, GivenSettings& given, FaultList& faults,
                  std::vector<std::string>& notes) {
  const Given* winner = nullptr;
  for (const auto& name : names) {
    const auto* one = find_given(given, name);
    if (one == nullptr || !asks_for_something(one->value)) {
      continue;
    }
    if (winner != nullptr && winner->rank == one->rank) {
      const auto& [first, second] = std::tuple(winner->position.line > one->position.line ? *one : *winner,
                                               winner->position.line > one->position.line ? *winner : *one);
      faults.add(second.position, fmt::format("{} and {} ({}) exclude each other; keep one", second.written,
                                              first.written, first.position.text()));
    }
    if (winner == nullptr || one->rank > winner->rank) {
      winner = one;
    }
  }
  if (winner == nullptr) {
    return;
  }
  for (const auto& name : names) {
    const auto* one = find_given(given, name);
    if (one != nullptr && one != winner && (one->rank < winner->rank || !asks_for_something(one->value))) {
      if (asks_for_something(one->value)) {
        replaced(*one, *winner, notes);
      }
      given.erase(name);
    }
  }
}

// adapter: lora of a higher source is not turned into qlora by load_in_4bit of a lower one.
void settle_bits(GivenSettings& given, std::vector<std::string>& notes) {
  const auto* bits = find_given(given, "load_in_4bit");
  const auto* adapter = find_given(given, "adapter");
  if (bits != nullptr && adapter != nullptr && adapter->rank > bits->rank) {
    replaced(*bits, *adapter, notes);
    given.erase("load_in_4bit");
  }
}

// So with activation_offloading and gradient_checkpointing; within one source they are read together.
void settle_offloading(GivenSettings& given, std::vector<std::string>& notes) {
  const auto* offloading = find_given(given, "activation_offloading");
  const auto* checkpointing = find_given(given, "gradient_checkpointing");
  if (offloading == nullptr || checkpointing == nullptr || offloading->rank == checkpointing->rank) {
    return;
  }
  const bool above = offloading->rank > checkpointing->rank;
  replaced(above ? *checkpointing : *offloading, above ? *offloading : *checkpointing, notes);
  given.erase(above ? "gradient_checkpointing" : "activation_offloading");
}

void check_targets(const RunOptions& run, const GivenSettings& given, FaultList& faults) {
  const auto* linear = find_given(given, "lora_target_linear");
  if (linear != nullptr && boolean_value(linear->value) == false &&
      find_given(given, "lora_target_modules") == nullptr && find_given(given, "lora_target_regex") == nullptr) {
    faults.add(linear->position, "lora_target_linear: found false and no lora_target_modules; name the layers");
  }
  const auto& lora = run.lora;
  if (lora.exclude_modules.empty() || !lora.target_regex.empty()) {
    return;
  }
  const std::vector<std::string> every{"qkv_proj", "o_proj", "gate_up_proj", "down_proj"};
  const auto& targets = lora.target_modules == std::vector<std::string>{"all-linear"} ? every : lora.target_modules;
  const auto excluded = [&](const std::string& name) {
    return std::find(lora.exclude_modules.begin(), lora.exclude_modules.end(), name) != lora.exclude_modules.end();
  };
  if (std::all_of(targets.begin(), targets.end(), excluded)) {
    faults.add(find_given(given, "lora_exclude_modules")->position,
               "lora_exclude_modules: every layer of lora_target_modules is excluded; leave one");
  }
}

void check_steps(const RunOptions& run, const GivenSettings& given, FaultList& faults) {
  const auto& schedule = run.schedule;
  const auto* warmup = find_given(given, "warmup_steps");
  if (warmup != nullptr && schedule.max_steps && schedule.warmup_steps.value_or(0) > *schedule.max_steps) {
    faults.add(warmup->position, fmt::format("warmup_steps: found {}; wanted at most max_steps, which is {}",
                                             *schedule.warmup_steps, *schedule.max_steps));
  }
}

void check_data(const RunOptions& run, const GivenSettings& given, FaultList& faults) {
  for (const auto& test : run.data.test_datasets) {
    for (const auto& train : run.data.datasets) {
      if (!test.path.empty() && test.path == train.path) {
        faults.add(
            find_given(given, "test_datasets")->position,
            fmt::format("test_datasets: found {}, which is trained on too; write val_set_size to split it", test.path));
      }
    }
  }
  const auto* datasets = find_given(given, "datasets");
  if (run.data.train_on_inputs && datasets != nullptr) {
    for (const auto& entry : datasets->value.items) {
      if (const auto* roles = entry.find("roles_to_train")) {
        faults.add(roles->position,
                   "roles_to_train: train_on_inputs is true and trains every role; keep one of the two");
      }
    }
  }
}

void check_output(const RunOptions& run, const GivenSettings& given, FaultList& faults) {
  const auto* output = find_given(given, "output_dir");
  if (output == nullptr || run.output.output_dir.empty()) {
    return;
  }
  for (const auto* name : {"base_model", "lora_model_dir"}) {
    const auto& input = std::string_view(name) == "base_model" ? run.model.base_model : run.lora.init_adapter;
    if (input == run.output.output_dir) {
      faults.add(output->position, fmt::format("output_dir: found {}, which is {}; wanted a folder of its own",
                                               run.output.output_dir, name));
    }
  }
}

}  // namespace

void settle_rivals(GivenSettings& given, FaultList& faults, std::vector<std::string>& notes) {
  std::vector<std::pair<std::string, std::vector<std::string>>> groups;
  for (const auto& setting : run_settings()) {
    if (setting.group.empty()) {
      continue;
    }
    auto group =
        std::find_if(groups.begin(), groups.end(), [&](const auto& one) { return one.first == setting.group; });
    if (group == groups.end()) {
      group = groups.insert(groups.end(), {setting.group, {}});
    }
    group->second.push_back(setting.name);
  }
  for (const auto& group : groups) {
    settle_group(group.second, given, faults, notes);
  }
  settle_bits(given, notes);
  settle_offloading(given, notes);
}

void check_together(const RunOptions& run, const GivenSettings& given, FaultList& faults) {
  check_targets(run, given, faults);
  check_steps(run, given, faults);
  check_data(run, given, faults);
  check_output(run, given, faults);
}

}  // namespace phi3tune::config
