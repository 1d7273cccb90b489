// phi3-tune export: an adapter as other programs read it.
#include "phi3tune/checkpoint/export.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "entry.h"
#include "output_dtype.h"
#include "phi3tune/commands/engine_api.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/io/json.h"
#include "phi3tune/phi3/adapter_config.h"
#include "phi3tune/phi3/adapter_origin.h"
#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::commands {
namespace {

namespace fs = std::filesystem;

// Where the base's config.json is.
std::string base_folder(const ExportRequest& request) {
  if (!request.model.empty()) {
    return request.model;
  }
  const auto name = phi3::read_adapter_config(request.adapter).base_model_name_or_path;
  std::error_code code;
  if (name.empty() || !fs::exists(name + "/config.json", code)) {
    throw ConfigError(
        "export: {} names {} as its base, where there is no config.json; name the base's folder with --model (its "
        "weights are not needed)",
        request.adapter, name.empty() ? "nothing" : io::Json(name).dump());
  }
  return name;
}

// A folder with its weights is compared with the one the adapter was trained over.
void check_base(const std::string& folder, const ExportRequest& request) {
  std::error_code code;
  if (fs::exists(folder + "/model.safetensors", code) || fs::exists(folder + "/model.safetensors.index.json", code)) {
    phi3::require_base(request.adapter, phi3::ModelFolder::open(folder), request.any_base);
  } else {
    log_info("{}: without weights, so only the shapes of the adapter are compared with it", folder);
  }
}

int export_adapter(const ExportRequest& request, const EngineContext& context) {
  const auto base = base_folder(request);
  if (request.format == "merged") {
    MergeRequest merge;
    merge.model.model = base;
    merge.model.adapter = request.adapter;
    merge.model.any_base = request.any_base;
    merge.model.dtype = request.dtype;
    merge.out = request.out;
    return phi3tune_engine_merge(merge, context);
  }
  checkpoint::ExportOptions options;
  if (request.format == "gguf") {
    options.format = checkpoint::ExportFormat::kGguf;
  } else if (request.format == "peft-split") {
    options.format = checkpoint::ExportFormat::kPeftSplit;
  } else if (request.format == "peft-fused") {
    options.format = checkpoint::ExportFormat::kPeftFused;
  } else {
    throw ConfigError("--format {}: wanted peft-fused, peft-split, gguf or merged", request.format);
  }
  options.out = request.out;
  options.dtype = output_dtype(request.dtype).value_or(io::DType::kF32);
  check_base(base, request);
  const auto report = checkpoint::export_adapter(phi3::read_model_config(base), request.adapter, options);
  for (const auto& note : report.notes) {
    log_info("{}", note);
  }
  if (context.json) {
    const io::Json event{{"event", "result"},         {"out", report.out},
                         {"format", request.format},  {"dtype", io::torch_name(options.dtype)},
                         {"modules", report.modules}, {"files", report.files},
                         {"notes", report.notes}};
    fmt::print("{}\n", event.dump(-1, ' ', false, io::Json::error_handler_t::replace));
  } else {
    fmt::print("{}: {} modules as {}, {}\n", report.out, report.modules, request.format, io::torch_name(options.dtype));
  }
  std::fflush(stdout);
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace
}  // namespace phi3tune::commands

extern "C" int phi3tune_engine_export(const phi3tune::commands::ExportRequest& request,
                                      const phi3tune::commands::EngineContext& context) {
  return phi3tune::commands::entered("export where there is more memory",
                                     [&] { return phi3tune::commands::export_adapter(request, context); });
}
