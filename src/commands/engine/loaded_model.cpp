#include "loaded_model.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <filesystem>

#include "compute.h"
#include "phi3tune/checkpoint/adapter.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/text.h"
#include "phi3tune/data/folder_template.h"
#include "phi3tune/data/jinja.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/phi3/adapter_origin.h"
#include "phi3tune/phi3/fused_adapter.h"

namespace phi3tune::commands {
namespace {

bool holds_tokenizer(const std::string& folder) {
  std::error_code code;
  return std::filesystem::exists(folder + "/tokenizer.json", code) ||
         std::filesystem::exists(folder + "/tokenizer.model", code);
}

// Ids that stand for other words give nonsense, and no fault. Files of one size are taken for the same.
void compare_vocabularies(const data::Tokenizer& theirs, const ModelRequest& request) {
  std::error_code code;
  const auto size_in = [&](const std::string& folder) {
    return std::filesystem::file_size(folder + "/tokenizer.json", code);
  };
  if (!holds_tokenizer(request.model) || (size_in(request.adapter) == size_in(request.model) && !code)) {
    return;
  }
  const auto own = data::Tokenizer::open(request.model);
  if (own.max_id() != theirs.max_id()) {
    log_warning("tokenizer: the adapter's is used, whose ids go up to {}; those of {} go up to {}: is it its base?",
                theirs.max_id(), request.model, own.max_id());
  }
}

// What an adapter was trained with comes first.
data::Tokenizer open_tokenizer(const ModelRequest& request) {
  if (request.adapter.empty() || !holds_tokenizer(request.adapter)) {
    return data::Tokenizer::open(request.model);
  }
  auto tokenizer = data::Tokenizer::open(request.adapter);
  compare_vocabularies(tokenizer, request);
  const auto& theirs = tokenizer.chat_template();
  const auto own = data::read_folder_template(request.model);
  if (theirs && (!own || data::canonical_jinja(*own) != data::canonical_jinja(*theirs))) {
    log_info("chat template: the adapter's is used, which {}",
             own ? "is not the base's" : "the base's folder does not have");
  } else if (!theirs && own && request.chat_template == "auto") {
    log_info("tokenizer: the adapter's is used; its folder holds no chat template");
  }
  return tokenizer;
}

void check_vocabulary(const data::Tokenizer& tokenizer, const ModelRequest& request, const phi3::ModelConfig& config) {
  if (tokenizer.max_id() >= config.vocab_size) {
    throw ModelError(
        "{}: its tokenizer has ids up to {}, and the model in {} knows {} tokens (vocab_size); tokenizer and weights "
        "are "
        "not of the same model",
        request.adapter.empty() || !holds_tokenizer(request.adapter) ? request.model : request.adapter,
        tokenizer.max_id(), request.model, config.vocab_size);
  }
}

data::ChatTemplate choose_template(const ModelRequest& request, const data::Tokenizer& tokenizer) {
  constexpr const char* kWayOut = "--chat-template NAME says which, --raw continues the prompt's text without one";
  if (request.chat_template == "auto" && !tokenizer.chat_template()) {
    throw ModelError("{}: the folder holds no chat template; {}", request.model, kWayOut);
  }
  std::vector<std::string> notes;
  try {
    auto chosen = data::ChatTemplate::choose(request.chat_template, tokenizer, notes);
    for (const auto& note : notes) {
      log_info("{}", note);
    }
    return chosen;
  } catch (const ModelError& fault) {
    throw ModelError("{}: {}; here: {}", request.model, fault.what(), kWayOut);
  }
}

at::ScalarType dtype_for(const std::string& wanted, const phi3::ModelConfig& config) {
  if (wanted == "float32" || wanted == "bfloat16") {
    return wanted == "float32" ? at::kFloat : at::kBFloat16;
  }
  require(wanted == "auto", "a dtype that the command line does not know");
  return config.torch_dtype == "float32" ? at::kFloat : settle_dtype(config::ComputeDType::kAuto, /*on_gpu=*/false);
}

}  // namespace

std::vector<int64_t> stop_ids_of(const phi3::ModelFolder& folder, const data::Tokenizer& tokenizer,
                                 const data::ChatTemplate* chat_template) {
  auto ids = phi3::read_stop_ids(folder.path(), folder.config());
  if (chat_template != nullptr) {
    const auto end = chat_template->end_of_turn();
    const auto id = end.empty() ? std::nullopt : tokenizer.token_id(end);
    if (id && std::find(ids.begin(), ids.end(), *id) == ids.end()) {
      ids.push_back(*id);
    }
  }
  return ids;
}

OpenedModel open_model(const ModelRequest& request, bool raw) {
  auto folder = phi3::ModelFolder::open(request.model);
  std::optional<phi3::AdapterConfig> adapter;
  if (!request.adapter.empty()) {
    phi3::require_base(request.adapter, folder, request.any_base);
    adapter = phi3::read_fused_config(request.adapter, folder.config());
  }
  OpenedModel opened{std::move(folder), open_tokenizer(request), std::nullopt, std::move(adapter), {}};
  check_vocabulary(opened.tokenizer, request, opened.folder.config());
  if (!raw) {
    auto chosen = choose_template(request, opened.tokenizer);
    if (chosen.kind() != data::TemplateKind::kNone) {
      opened.chat_template = std::move(chosen);
    }
  }
  opened.stop_ids =
      stop_ids_of(opened.folder, opened.tokenizer, opened.chat_template ? &*opened.chat_template : nullptr);
  return opened;
}

LoadedModel load_weights(const OpenedModel& opened, const ModelRequest& request) {
  Holding holding;
  holding.dtype = dtype_for(request.dtype, opened.folder.config());
  holding.quantize = request.load_in_4bit;
  holding.threads = request.threads;
  const auto held = request.adapter.empty() ? std::nullopt : phi3::read_adapter_origin(request.adapter).held_in_nf4;
  if (held && holding.quantize) {
    holding.nf4.block_size = held->block_size;
    holding.nf4.double_quant = held->double_quant;
  } else if (held && !opened.folder.config().quantization) {
    log_info(
        "{}: trained over the base in NF4, and used over the weights as the folder has them; --load-in-4bit holds "
        "them as training did",
        request.adapter);
  }
  return load_weights(opened.folder, opened.adapter, request.adapter, holding);
}

LoadedModel load_weights(const phi3::ModelFolder& folder, const std::optional<phi3::AdapterConfig>& adapter,
                         const std::string& adapter_folder, const Holding& holding) {
  const auto& config = folder.config();
  ops::choose_backend(ops::cpu_backend());
  const int threads = holding.threads > 0 ? holding.threads : usable_cores();
  at::set_num_threads(threads);
  model::Phi3Options options;
  options.compute_dtype = holding.dtype;
  options.quantize = holding.quantize;
  options.nf4 = holding.nf4;
  LoadedModel loaded;
  if (adapter) {  // before the base, which takes longer
    options.ranks = model::ranks_of(config, *adapter);
    loaded.adapters = std::make_unique<model::LoraAdapters>(config, *adapter, options.compute_dtype,
                                                            /*seed=*/0, /*gaussian=*/false);
    checkpoint::load_adapter(adapter_folder, config, *loaded.adapters);
  }
  loaded.model = std::make_unique<model::Phi3Model>(model::Phi3Model::load(folder, options));
  loaded.model->attach(loaded.adapters.get());
  log_info("{}: {} layers, width {}, {} of weights as held{}; computes in {} on the CPU with {} threads{}",
           folder.path(), config.num_layers, config.hidden_size, format_bytes(loaded.model->weight_bytes()),
           options.quantize || config.quantization ? ", linears in NF4" : "",
           options.compute_dtype == at::kBFloat16 ? "bfloat16" : "float32", threads,
           loaded.adapters ? fmt::format("; adapter of {} parameters", loaded.adapters->count()) : std::string());
  return loaded;
}

}  // namespace phi3tune::commands
