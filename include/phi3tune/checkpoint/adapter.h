// A LoRA adapter as a folder that PEFT, vLLM and llama.cpp read: in and out.
//
// Names and shapes are PEFT's: base_model.model.model.layers.{i}.self_attn.qkv_proj.lora_A.weight [rank, in],
// .lora_B.weight [out, rank]; the fused linears of Phi-3 stay fused. No pickle is read or written.
#pragma once

#include <string>
#include <vector>

#include "phi3tune/checkpoint/model_card.h"
#include "phi3tune/io/safetensors.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/phi3/adapter_origin.h"
#include "phi3tune/phi3/model_config.h"

namespace phi3tune::checkpoint {

// What travels with the tensors.
struct AdapterFiles {
  io::DType dtype = io::DType::kF32;         // F32, BF16 or F16
  std::vector<std::string> tokenizer_files;  // paths; copied under their own names
  std::string chat_template;                 // Jinja text, written as chat_template.jinja; empty: the base's own files
  ModelCard card;
  phi3::AdapterOrigin origin;  // the base it was trained over, in the file's metadata; empty: not said
};

// Names save_adapter writes inside its folder, sorted.
std::vector<std::string> adapter_file_names(const AdapterFiles& files);

// Writes adapter_config.json (of adapters.config()), adapter_model.safetensors, tokenizer files, chat_template.jinja
// and README.md into `folder`, which must not exist: staged as ".<name>.partial" beside it, every file fsynced, opened
// again and compared (tensor names, shapes, bytes; texts), then renamed. Throws NumericsError when a value is not
// finite in the dtype of the file, ResourceError (disk; the folder exists), CheckpointError when what was read back
// differs; then nothing is left behind.
// `replaces`: an earlier result may stand there; it is moved to ".<name>.trash" when the new one is whole, and deleted
// when that is in place.
void save_adapter(const std::string& folder, const model::LoraAdapters& adapters, const AdapterFiles& files,
                  bool replaces = false);

// Throws ConfigError when something that save_adapter did not write is in `folder`: before a run that will replace it.
void require_own_adapter(const std::string& folder, const AdapterFiles& files);

// Fills the adapters from a PEFT folder whose configuration they were made with (phi3::read_adapter_config). F32, F16
// and BF16 tensors. Either all are taken or none: missing, unexpected, mis-shaped, mistyped and non-finite tensors and
// scales that differ come in one CheckpointError. So does a folder that holds pickles only.
void load_adapter(const std::string& folder, model::LoraAdapters& adapters);
// The same for a folder that may hold split pairs (q_proj, k_proj, v_proj, gate_proj, up_proj) of the base's linears;
// the adapters were made with phi3::read_fused_config. Says in the log what became of them. Does not check the base:
// phi3::require_base.
void load_adapter(const std::string& folder, const phi3::ModelConfig& base, model::LoraAdapters& adapters);

// The start of an adapter that was saved beside it (PiSSA): flat, for LoraAdapters::start_from_base. Throws
// CheckpointError.
at::Tensor read_start(const std::string& folder, const model::LoraAdapters& adapters);

}  // namespace phi3tune::checkpoint
