#include "commands/front/config_commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string_view>

#include "commands/front/preflight.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/io/json.h"

namespace phi3tune::commands {
namespace {

int print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  return static_cast<int>(ExitCode::kDone);
}

std::string faults_json(std::string_view report) {
  io::Json json{{"good", false}, {"faults", io::Json::array()}};
  while (!report.empty()) {
    const auto end = std::min(report.find('\n'), report.size());
    json["faults"].push_back(report.substr(0, end));
    report.remove_prefix(std::min(end + 1, report.size()));
  }
  return json.dump(-1, ' ', false, io::Json::error_handler_t::replace) + "\n";
}

void print_notes(const config::RunOptions& run) {
  for (const auto& note : run.notes) {
    log_info("{}", note);
  }
}

int check(const ConfigOptions& options) {
  const auto run = config::load_settings(options.sources);
  print_notes(run);
  check_inputs(run);
  if (options.json) {
    return print(io::Json{{"good", true}, {"notes", run.notes}}.dump() + "\n");
  }
  return print(fmt::format("good: {} settings; base model, tokenizer and data files are there\n", run.resolved.size()));
}

}  // namespace

int run_config_check(const ConfigOptions& options) {
  try {
    return check(options);
  } catch (const Error& error) {
    if (options.json) {
      print(faults_json(error.what()));
    }
    throw;
  }
}

int run_config_show(const ConfigOptions& options) {
  const auto settings = config::resolve_settings(options.sources);
  print_notes(settings.options);
  return print(options.json ? config::show_settings_json(settings) : config::show_settings(settings));
}

int run_config_schema() { return print(config::settings_schema()); }

int run_config_explain(const std::string& name, bool json) {
  return print(json ? config::explain_setting_json(name) : config::explain_setting(name));
}

int run_config_table() { return print(config::settings_markdown()); }

}  // namespace phi3tune::commands
