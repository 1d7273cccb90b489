#include "train_report.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "phi3tune/core/stop.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/manifest.h"
#include "progress.h"

namespace phi3tune::commands {
namespace {

std::optional<double> loss_before(const train::TrainResult& result, const std::string& name) {
  for (const auto& evaluation : result.first_evaluation) {
    if (evaluation.name == name) {
      return evaluation.eval_loss;
    }
  }
  return std::nullopt;
}

std::string file_name(const std::string& path) { return std::filesystem::path(path).filename().string(); }

}  // namespace

io::Json results_json(const train::TrainResult& result) {
  io::Json json;
  json["steps"] = result.steps;
  json["epoch"] = result.epoch;
  json["trained_tokens"] = result.trained_tokens;
  json["tokens"] = result.tokens;
  json["last_loss"] = result.last_loss;
  auto& evaluations = json["evaluations"] = io::Json::array();
  for (const auto& last : result.last_evaluation) {
    io::Json one{{"set", last.name}, {"eval_loss", last.eval_loss}, {"eval_tokens", last.eval_tokens}};
    if (const auto before = loss_before(result, last.name)) {
      one["eval_loss_before"] = *before;
    }
    evaluations.push_back(std::move(one));
  }
  return json;
}

checkpoint::ModelCard model_card(const config::RunOptions& run, const EngineContext& context, const Inputs& inputs,
                                 const phi3::AdapterConfig& adapter, const train::TrainResult& result) {
  checkpoint::ModelCard card;
  card.title =
      run.output.run_name.empty() ? "LoRA adapter for " + file_name(run.model.base_model) : run.output.run_name;
  card.base_model = adapter.base_model_name_or_path;
  const std::string method = adapter.use_dora ? "DoRA" : "LoRA";
  card.method = run.method == config::AdapterMethod::kLora ? method
                : run.quant.double_quant                   ? "Q" + method + " (base in NF4 with double quantisation)"
                                                           : "Q" + method + " (base in NF4)";
  card.chat_template = inputs.chat_template.name();
  card.end_of_turn = inputs.chat_template.end_of_turn();
  card.program_version = context.program_version;
  for (const auto& dataset : run.data.datasets) {
    card.data.emplace_back("training", file_name(dataset.path));
  }
  const auto& report = inputs.dataset.train_report;
  card.data.emplace_back("examples", std::to_string(inputs.dataset.train.size()));
  card.data.emplace_back("tokens", std::to_string(report.tokens));
  card.data.emplace_back("trained tokens", std::to_string(report.trained_tokens));
  card.settings = {
      {"rank", std::to_string(adapter.rank)},      {"alpha", format_double(adapter.alpha)},
      {"dropout", format_double(adapter.dropout)}, {"learning rate", format_double(run.schedule.learning_rate)},
      {"steps", std::to_string(result.steps)},     {"seed", std::to_string(run.schedule.seed)}};
  if (run.lora.init == config::LoraOptions::Init::kPissa && run.lora.init_adapter.empty()) {
    card.settings.emplace_back("start", fmt::format("PiSSA; here as a LoRA of rank {} for the base as it was",
                                                    phi3::with_doubled_rank(adapter).rank));
  }
  for (const auto& last : result.last_evaluation) {
    card.losses.push_back({last.name, loss_before(result, last.name), last.eval_loss, last.eval_tokens});
  }
  return card;
}

io::Json measured_files(const std::string& folder, const std::vector<std::string>& names) {
  io::Json files = io::Json::object();
  for (const std::string& name : names) {
    const auto measured = io::measure_file(folder + "/" + name);
    files[name] = {{"bytes", measured.bytes}, {"xxh3_128", measured.hash}};
  }
  return files;
}

void print_stopped(const train::TrainResult& result, const std::string& checkpoint, bool json) {
  const std::string saved = result.steps == 0 ? "" : checkpoint;
  if (json) {
    const io::Json event{{"event", "stopped"},
                         {"steps", result.steps},
                         {"reason", stop_reason()},
                         {"checkpoint", saved.empty() ? io::Json(nullptr) : io::Json(saved)}};
    fmt::print("{}\n", event.dump());
  } else {
    fmt::print("stopped by {} after {} steps; {}; the same command goes on\n", stop_reason(), result.steps,
               saved.empty() ? "nothing was saved for it" : "saved: " + saved);
  }
  std::fflush(stdout);
}

void print_result(const train::TrainResult& result, const std::string& adapter_folder, bool json) {
  if (json) {
    auto line = results_json(result);
    io::Json event{{"event", "result"}, {"adapter", adapter_folder}};
    event.update(line);
    fmt::print("{}\n", event.dump());
    std::fflush(stdout);
    return;
  }
  for (const auto& last : result.last_evaluation) {
    const auto before = loss_before(result, last.name);
    const auto now = fmt::format("{:.4f} (perplexity {:.2f})", last.eval_loss, std::exp(last.eval_loss));
    if (before) {
      fmt::print("{}: loss {:.4f} before training, {} after {} steps\n", last.name, *before, now, result.steps);
    } else {
      fmt::print("{}: loss {} after {} steps\n", last.name, now, result.steps);
    }
  }
  fmt::print("adapter: {}\n", adapter_folder);
  std::fflush(stdout);
}

}  // namespace phi3tune::commands
