// A model with its tokenizer, chat template and adapter, for the commands that use what was trained. On the CPU.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "phi3tune/commands/requests.h"
#include "phi3tune/data/template.h"
#include "phi3tune/data/tokenizer.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/model/phi3_model.h"
#include "phi3tune/phi3/adapter_config.h"
#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::commands {

// What is known before a weight is read.
struct OpenedModel {
  phi3::ModelFolder folder;
  data::Tokenizer tokenizer;                        // the adapter's, where its folder holds one; else the base's
  std::optional<data::ChatTemplate> chat_template;  // none: prompts are text to continue
  std::optional<phi3::AdapterConfig> adapter;
  std::vector<int64_t> stop_ids;  // of generation_config.json, or the config's, and the template's end of turn
};

// Opens and checks base, adapter, tokenizer and template; says on the log what is chosen where base and adapter
// differ. `raw`: without a template, as chat_template none. Throws ModelError (with the way out for a folder without a
// template that is known), CheckpointError (an adapter that is not this base's), ConfigError.
OpenedModel open_model(const ModelRequest& request, bool raw);

std::vector<int64_t> stop_ids_of(const phi3::ModelFolder& folder, const data::Tokenizer& tokenizer,
                                 const data::ChatTemplate* chat_template);

struct LoadedModel {
  std::unique_ptr<model::LoraAdapters> adapters;  // null: the base alone
  std::unique_ptr<model::Phi3Model> model;        // the adapters are attached
};

// Chooses the CPU as back end, sets the thread count, reads the weights. dtype auto: float32 where the weights are, or
// where the processor does not multiply bf16 faster; else bfloat16. `opened` must outlive what is returned. Throws
// ModelError, CheckpointError, ResourceError.
LoadedModel load_weights(const OpenedModel& opened, const ModelRequest& request);

// How weights are held and computed with.
struct Holding {
  at::ScalarType dtype = at::kFloat;
  bool quantize = false;
  quant::Nf4Options nf4;
  int threads = 0;  // 0: all cores this process may use
};
// The same, said exactly. adapter_folder: of `adapter`.
LoadedModel load_weights(const phi3::ModelFolder& folder, const std::optional<phi3::AdapterConfig>& adapter,
                         const std::string& adapter_folder, const Holding& holding);

}  // namespace phi3tune::commands
