#include "commands/front/use.h"

#include <filesystem>

#include "commands/front/engine.h"
#include "commands/front/folders.h"
#include "phi3tune/config/eval_metrics.h"
#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/text.h"
#include "phi3tune/core/version.h"
#include "phi3tune/io/output.h"
#include "phi3tune/phi3/adapter_config.h"
#include "phi3tune/phi3/model_config.h"

namespace phi3tune::commands {
namespace {

namespace fs = std::filesystem;

EngineContext context_of(bool json) { return {.json = json, .program_version = kVersion}; }

// Small files alone: what they say is checked before libtorch is loaded.
void check_model(const ModelRequest& request) {
  require_model_folder("--model", request.model);
  (void)phi3::read_model_config(request.model);
  if (!request.adapter.empty()) {
    require_adapter_folder("--adapter", request.adapter);
    (void)phi3::read_adapter_config(request.adapter);
  }
}

void check_system(const std::optional<std::string>& system) {
  const size_t bad = system ? find_invalid_utf8(*system) : std::string_view::npos;
  if (bad != std::string_view::npos) {
    throw ConfigError("--system: byte {} is not UTF-8", bad + 1);
  }
}

void require_adapter(const EvalRequest& request, bool named) {
  std::error_code code;
  if (fs::exists(request.adapter, code)) {
    require_adapter_folder("--adapter", request.adapter);
    return;
  }
  if (named && (request.adapter == "lora" || request.adapter == "qlora")) {
    throw ConfigError("--adapter names a folder here, and there is no {0}; the setting is --set adapter={0}",
                      request.adapter);
  }
  throw CheckpointError("{}: there is no adapter; {}", request.adapter,
                        named ? "name a folder with adapter_config.json"
                              : "train with these settings first, or name one with --adapter DIR");
}

}  // namespace

int run_generate(const GenerateRequest& request, bool json) {
  check_system(request.system);
  check_model(request.model);
  std::error_code code;
  if (!request.prompts_path.empty() && !fs::is_regular_file(request.prompts_path, code)) {
    throw DataError("{}: there is no such file", request.prompts_path);
  }
  return Engine::load().generate(request, context_of(json));
}

int run_chat(const ChatRequest& request, bool json) {
  check_system(request.system);
  check_model(request.model);
  return Engine::load().chat(request, context_of(json));
}

int run_eval(EvalOptions options, bool json) {
  auto& request = options.request;
  request.run = config::load_settings(options.sources);
  for (const auto& note : request.run.notes) {
    log_info("{}", note);
  }
  const bool named = !request.adapter.empty();
  if (!named) {
    request.adapter = request.run.output.output_dir + "/" + config::kAdapterFolder;
  }
  if (request.out.empty()) {
    request.out = request.run.output.output_dir + "/" + config::kReportFolder;
  }
  io::require_writable(request.out);
  (void)config::eval_metrics_of(request.metrics, "--metrics");
  require_adapter(request, named);
  require_model_folder("base_model:", request.run.model.base_model);
  (void)phi3::read_model_config(request.run.model.base_model);
  (void)phi3::read_adapter_config(request.adapter);
  return Engine::load().eval(request, context_of(json));
}

int run_merge(const MergeRequest& request, bool json) {
  io::require_free_output(request.out, {request.model.model, request.model.adapter});
  check_model(request.model);
  return Engine::load().merge(request, context_of(json));
}

int run_export(const ExportRequest& request, bool json) {
  io::require_free_output(request.out, {request.adapter});
  require_adapter_folder("--adapter", request.adapter);
  (void)phi3::read_adapter_config(request.adapter);
  return Engine::load().export_adapter(request, context_of(json));
}

}  // namespace phi3tune::commands
