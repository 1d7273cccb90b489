// The commands and their options, as CLI11 parses them.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "cli/arguments.h"
#include "commands/front/config_commands.h"
#include "commands/front/data_preview.h"
#include "commands/front/init_model.h"
#include "commands/front/inspect.h"
#include "commands/front/plan.h"
#include "commands/front/use.h"

namespace phi3tune::cli {

class CommandLine {
 public:
  CommandLine();

  // Parses the words behind the program's name and does what they ask for; returns the exit code. Throws
  // phi3tune::Error.
  int run(Words words);

  const CLI::App& app() const noexcept { return app_; }
  // Whether a command takes settings as options.
  bool takes_settings(const CLI::App* command) const;

 private:
  CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& does, const std::string& example);
  void add_sources(CLI::App* command);
  void add_train();
  void add_plan();
  void add_data();
  void add_config();
  void add_model_commands();
  void add_model_options(CLI::App* command, commands::ModelRequest& model, bool needs_adapter);
  void add_compute_options(CLI::App* command, commands::ModelRequest& model);
  void add_generation_options(CLI::App* command, config::GenerationOptions& generation);
  void add_generate();
  void add_chat();
  void add_eval();
  void add_merge();
  void add_export();
  void add_completion();
  CLI::App* find_command(const Words& words, size_t& depth);

  CLI::App app_;
  std::vector<const CLI::App*> with_settings_;
  std::function<int()> action_;

  bool json_ = false;
  bool version_ = false;
  config::SettingsSources sources_;
  std::vector<std::string> sets_;  // --set key=value
  commands::PlanOptions plan_;
  commands::DataPreviewOptions preview_;
  commands::InitModelOptions init_;
  commands::InspectOptions inspect_;
  commands::GenerateRequest generate_;
  commands::ChatRequest chat_;
  commands::EvalOptions eval_;
  commands::MergeRequest merge_;
  commands::ExportRequest export_;
  std::string explained_;
  std::string shell_;
};

}  // namespace phi3tune::cli
