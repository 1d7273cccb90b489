// phi3-tune merge: a model folder and an adapter become a model folder.
#include "phi3tune/checkpoint/merge.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <cstdio>

#include "entry.h"
#include "output_dtype.h"
#include "phi3tune/commands/engine_api.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/json.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/phi3/adapter_origin.h"

namespace phi3tune::commands {
namespace {

void print_json(const checkpoint::MergeReport& report) {
  io::Json event{{"event", "result"},
                 {"out", report.out},
                 {"dtype", io::torch_name(report.dtype)},
                 {"parameters", report.parameters},
                 {"bytes", report.bytes},
                 {"shards", report.shards},
                 {"merged_modules", report.modules},
                 {"tied_head", report.tied},
                 {"files", report.files}};
  if (const auto& check = report.check) {
    event["max_logit_difference"] = check->max_difference;
    event["max_logit"] = check->max_logit;
    event["compared_tokens"] = check->tokens;
    event["compared_in"] = check->compute_dtype;
  }
  fmt::print("{}\n", event.dump(-1, ' ', false, io::Json::error_handler_t::replace));
}

void print_text(const checkpoint::MergeReport& report) {
  if (const auto& check = report.check) {
    fmt::print("largest difference of a logit from base and adapter: {:.3g} of {:.3g} ({} tokens, {})\n",
               check->max_difference, check->max_logit, check->tokens, check->compute_dtype);
  }
  fmt::print("{}: {} modules merged, {} parameters in {}, {} in {} file{}\n", report.out, report.modules,
             report.parameters, io::torch_name(report.dtype), format_bytes(report.bytes), report.shards,
             report.shards == 1 ? "" : "s");
}

int merge(const MergeRequest& request, const EngineContext& context) {
  if (request.model.load_in_4bit) {
    throw ConfigError("--load-in-4bit: a merged folder holds whole weights; --quantized-base merges into those of NF4");
  }
  ops::choose_backend(ops::cpu_backend());
  if (request.model.threads > 0) {
    at::set_num_threads(request.model.threads);
  }
  const auto base = phi3::ModelFolder::open(request.model.model);
  phi3::require_base(request.model.adapter, base, request.model.any_base);
  checkpoint::MergeOptions options;
  options.out = request.out;
  options.dtype = output_dtype(request.model.dtype);
  options.shard_size = request.shard_size;
  options.quantized_base = request.quantized_base;
  options.verify = request.verify;
  options.free_memory = ops::backend().memory.room().free;
  const auto report = checkpoint::merge(base, request.model.adapter, options);
  context.json ? print_json(report) : print_text(report);
  std::fflush(stdout);
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace
}  // namespace phi3tune::commands

extern "C" int phi3tune_engine_merge(const phi3tune::commands::MergeRequest& request,
                                     const phi3tune::commands::EngineContext& context) {
  return phi3tune::commands::entered(
      "the check of the result takes most of it: it loads the base and the result; --no-verify leaves it out",
      [&] { return phi3tune::commands::merge(request, context); });
}
