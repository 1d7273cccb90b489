#include "commands/front/plan_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "phi3tune/core/text.h"

namespace phi3tune::commands {
namespace {

using io::Json;
using plan::Part;

constexpr double kGiga = 1e9;

struct Line {
  std::string name;
  std::string key;  // in JSON
  size_t bytes;
};

std::string key_of(std::string name) {
  std::replace(name.begin(), name.end(), ' ', '_');
  return name;
}

// The parts of the device's memory that add up to Candidate::device_bytes().
std::vector<Line> memory_lines(const PlanReport& report) {
  const auto& candidate = report.candidate;
  std::vector<Line> lines;
  for (size_t i = 0; i < plan::kParts; ++i) {
    const auto part = static_cast<Part>(i);
    if (candidate.plan.bytes[i] > 0) {
      lines.push_back({plan::part_name(part), key_of(plan::part_name(part)), candidate.plan.bytes[i]});
    }
  }
  if (candidate.weights.held > 0) {
    lines.insert(lines.begin(), {"weights", "weights", candidate.weights.held});
  }
  if (!report.context.device.gpu && candidate.plan.host_bytes > 0) {
    lines.push_back({"offloaded activations", "offloaded_activations", candidate.plan.host_bytes});
  }
  if (report.context.device.gpu) {
    lines.push_back({"attention's own buffers", "attention_library", candidate.libraries.attention});
    lines.push_back({"cuBLASLt workspace", "cublaslt_workspace", candidate.libraries.workspace});
    lines.push_back({"CUDA context", "cuda_context", candidate.libraries.context});
  }
  return lines;
}

// One unit for the whole report.
struct Unit {
  double bytes;
  const char* name;
  double of(size_t value) const { return static_cast<double>(value) / bytes; }
};
Unit unit_of(const PlanReport& report) {
  constexpr size_t kMiB = 1024 * 1024;
  return report.candidate.device_bytes() < 1024 * kMiB ? Unit{kMiB, "MiB"} : Unit{1024.0 * kMiB, "GiB"};
}

int64_t rows_of(const PlanReport& report) {
  return report.candidate.shape.step.tokens / std::max<int64_t>(1, report.context.rows.longest);
}

plan::StepFlops flops_of(const PlanReport& report, const plan::StepShape& step) {
  return plan::step_flops(report.context.model, step, report.context.keys);
}

double per_token(const plan::StepShape& step, double flops) { return flops / static_cast<double>(step.tokens); }

std::vector<std::pair<const char*, double>> time_parts(const plan::StepSeconds& seconds) {
  return {{"matrix products", seconds.gemm},       {"attention", seconds.attention},
          {"elementwise", seconds.elementwise},    {"adapters", seconds.lora},
          {"dequantising", seconds.dequantise},    {"optimizer", seconds.optimizer},
          {"waiting for the bus", seconds.offload}};
}

const char* dtype_name(size_t element_size) { return element_size == 4 ? "float32" : "bfloat16"; }

std::string run_text(const PlanReport& report) {
  const auto& model = report.context.model;
  const auto& shape = report.candidate.shape;
  const auto& step = shape.step;
  const int64_t rows = rows_of(report);
  std::string text = fmt::format("base       {} layers of {} hidden, {} in {} ({})\n", model.num_layers,
                                 model.hidden_size, shape.weights.quantize ? "NF4, computed" : "held",
                                 dtype_name(step.element_size), report.run.model.base_model);
  text += fmt::format("adapter    {} parameters\n", shape.parameters);
  text +=
      fmt::format("step       {} x {} row{} of {} tokens: {} tokens a pass, {} a step{}\n", shape.micro_batches, rows,
                  rows == 1 ? "" : "s", report.context.rows.longest, step.tokens, step.tokens * shape.micro_batches,
                  report.run.schedule.micro_batch_size == 0 ? " (micro_batch_size: auto)" : "");
  const bool chosen = report.run.compute.saved_activations == plan::SavedActivations::kAuto;
  text += fmt::format("saved      gradient_checkpointing: {}{}\n", chosen ? "auto, that is " : "",
                      plan::describe_saved(step));
  return text;
}

std::string memory_text(const PlanReport& report) {
  const auto& candidate = report.candidate;
  const Unit unit = unit_of(report);
  std::string text = "\nmemory (computed)\n";
  const auto add = [&](const std::string& name, size_t bytes) {
    text += fmt::format("  {:<28} {:>9.3f} {}\n", name, unit.of(bytes), unit.name);
  };
  for (const auto& line : memory_lines(report)) {
    add(line.name, line.bytes);
  }
  add("total", candidate.device_bytes());
  if (report.context.device.gpu && candidate.plan.host_bytes > 0) {
    add("of the host, pinned", candidate.plan.host_bytes);
  }
  if (candidate.weights.mapped > 0) {
    add("weights mapped from the file", candidate.weights.mapped);
  }
  if (!report.limit.empty()) {
    text += fmt::format("{} {} ({})\n", report.fits ? "fits into" : "does not fit into",
                        format_bytes(report.context.memory), report.limit);
  }
  return text;
}

std::string flops_text(const PlanReport& report) {
  const auto& step = report.candidate.shape.step;
  const auto flops = flops_of(report, step);
  std::string text = fmt::format("\nGFLOP a token   {:>9} {:>9} {:>9} {:>9} {:>9}\n", "linears", "lm_head", "adapters",
                                 "attention", "total");
  for (const auto& [name, part] : {std::pair("forward", flops.forward), std::pair("backward", flops.backward),
                                   std::pair("recompute", flops.recompute)}) {
    text += fmt::format("  {:<13}", name);
    for (const double value : {part.linear, part.head, part.lora, part.attention, part.total()}) {
      text += fmt::format(" {:>9.3f}", per_token(step, value) / kGiga);
    }
    text += "\n";
  }
  const double step_flops = flops.total() * static_cast<double>(report.candidate.shape.micro_batches);
  return text + fmt::format("  together {:.2f} GFLOP a token, {:.2f} TFLOP a step\n",
                            per_token(step, flops.total()) / kGiga, step_flops / 1e12);
}

std::string policies_text(const PlanReport& report) {
  const Unit unit = unit_of(report);
  const bool limited = !report.limit.empty();
  std::string text = fmt::format("\n{:<23} {:>11} {:>11}", "gradient_checkpointing", "memory", "recomputed");
  text += limited ? fmt::format(" {:>5} {:>14}", "fits", "largest batch") : "";
  text += report.timed ? fmt::format(" {:>13}", "tokens/s") : "";
  text += "\n";
  for (const auto& row : report.policies) {
    const auto& step = row.candidate.shape.step;
    text += fmt::format("  {:<21} {:>7.2f} {} {:>8.2f} GF", plan::policy_name(row.saved),
                        unit.of(row.candidate.device_bytes()), unit.name,
                        per_token(step, flops_of(report, step).recompute.total()) / kGiga);
    if (limited) {
      text += fmt::format(" {:>5} {:>14}", plan::fits(report.context, row.candidate) ? "yes" : "no",
                          fmt::format("{} rows", *row.largest_micro_batch));
    }
    text += report.timed ? fmt::format(" {:>13.0f}", row.candidate.tokens_per_second()) : "";
    text += "\n";
  }
  return text;
}

std::string time_text(const PlanReport& report) {
  if (!report.timed) {
    return {};
  }
  const auto& gpu = *report.context.gpu;
  const auto& seconds = report.candidate.seconds;
  std::string text = fmt::format("\ntime of a step on one {} (computed, never measured)\n", gpu.title);
  for (const auto& [name, part] : time_parts(seconds)) {
    if (part > 0) {
      text += fmt::format("  {:<28} {:>9.1f} ms {:>6.1f} %\n", name, part * 1e3, part / seconds.total() * 100);
    }
  }
  return text + fmt::format("  {:<28} {:>9.1f} ms, {:.0f} tokens/s\n", "total", seconds.total() * 1e3,
                            report.candidate.tokens_per_second());
}

std::vector<std::string> all_assumptions(const PlanReport& report) {
  auto list = report.assumptions;
  if (report.timed) {
    list.insert(list.end(), report.context.gpu->assumptions.begin(), report.context.gpu->assumptions.end());
  } else if (report.context.gpu != nullptr) {
    list.emplace_back("no time is told: rates are known for bf16 alone");
  }
  return list;
}

Json flops_json(const plan::StepShape& step, const plan::PartFlops& part) {
  return {{"linears", per_token(step, part.linear)},
          {"lm_head", per_token(step, part.head)},
          {"adapters", per_token(step, part.lora)},
          {"attention", per_token(step, part.attention)},
          {"total", per_token(step, part.total())}};
}

Json memory_json(const PlanReport& report) {
  Json json = Json::object();
  for (const auto& line : memory_lines(report)) {
    json[line.key] = line.bytes;
  }
  json["total"] = report.candidate.device_bytes();
  json["host"] = report.candidate.plan.host_bytes;
  json["mapped"] = report.candidate.weights.mapped;
  return json;
}

Json policies_json(const PlanReport& report) {
  Json list = Json::array();
  for (const auto& row : report.policies) {
    const auto& step = row.candidate.shape.step;
    Json one{{"name", plan::policy_name(row.saved)},
             {"memory", row.candidate.device_bytes()},
             {"host", row.candidate.plan.host_bytes},
             {"recompute_flops_per_token", per_token(step, flops_of(report, step).recompute.total())}};
    one["fits"] = report.limit.empty() ? Json(nullptr) : Json(plan::fits(report.context, row.candidate));
    one["largest_micro_batch"] = row.largest_micro_batch ? Json(*row.largest_micro_batch) : Json(nullptr);
    one["tokens_per_second"] = report.timed ? Json(row.candidate.tokens_per_second()) : Json(nullptr);
    list.push_back(std::move(one));
  }
  return list;
}

Json time_json(const PlanReport& report) {
  if (!report.timed) {
    return nullptr;
  }
  Json parts = Json::object();
  for (const auto& [name, part] : time_parts(report.candidate.seconds)) {
    parts[key_of(name)] = part;
  }
  return {{"gpu", report.context.gpu->title},
          {"computed", true},
          {"seconds_per_step", report.candidate.seconds.total()},
          {"tokens_per_second", report.candidate.tokens_per_second()},
          {"parts", parts}};
}

}  // namespace

std::string plan_text(const PlanReport& report) {
  std::string text =
      run_text(report) + memory_text(report) + flops_text(report) + policies_text(report) + time_text(report);
  text += "\nassumed\n";
  for (const auto& assumption : all_assumptions(report)) {
    text += fmt::format("  - {}\n", assumption);
  }
  return text;
}

Json plan_json(const PlanReport& report) {
  const auto& shape = report.candidate.shape;
  const auto& step = shape.step;
  const auto flops = flops_of(report, step);
  Json json = Json::object();
  json["device"] = report.context.device.gpu ? "cuda" : "cpu";
  json["dtype"] = dtype_name(step.element_size);
  json["micro_batch_size"] = rows_of(report);
  json["micro_batches"] = shape.micro_batches;
  json["tokens_per_micro_batch"] = step.tokens;
  json["adapter_parameters"] = shape.parameters;
  json["gradient_checkpointing"] = plan::describe_saved(step);
  json["memory"] = memory_json(report);
  json["limit"] = report.limit.empty() ? Json(nullptr) : Json(report.context.memory);
  json["fits"] = report.limit.empty() ? Json(nullptr) : Json(report.fits);
  json["flops_per_token"] = {{"forward", flops_json(step, flops.forward)},
                             {"backward", flops_json(step, flops.backward)},
                             {"recompute", flops_json(step, flops.recompute)},
                             {"total", per_token(step, flops.total())}};
  json["flops_per_step"] = flops.total() * static_cast<double>(shape.micro_batches);
  json["policies"] = policies_json(report);
  json["time"] = time_json(report);
  json["would_fit"] = Json::array();
  for (const auto& remedy : report.remedies.changes) {
    json["would_fit"].push_back({{"change", remedy.change}, {"memory", remedy.device_bytes}, {"fits", remedy.fits}});
  }
  json["would_fit_together"] = report.remedies.together;
  json["assumed"] = all_assumptions(report);
  return json;
}

std::string plan_refusal(const PlanReport& report) {
  const auto needs =
      fmt::format("memory: the run needs {} and {} gives {}", format_bytes(report.candidate.device_bytes()),
                  report.limit, format_bytes(report.context.memory));
  std::vector<std::string> changes;
  for (const auto& remedy : report.remedies.changes) {
    changes.push_back(fmt::format("{} ({})", remedy.change, format_bytes(remedy.device_bytes)));
  }
  if (changes.empty() || !report.remedies.changes.back().fits) {
    return fmt::format("{}; no setting makes it fit{}", needs,
                       changes.empty() ? "" : fmt::format(", not even {}", fmt::join(changes, ", then ")));
  }
  return report.remedies.together ? fmt::format("{}; it fits with {}", needs, fmt::join(changes, ", then "))
                                  : fmt::format("{}; it fits with {}", needs, fmt::join(changes, ", or with "));
}

}  // namespace phi3tune::commands
