// What an adapter says of the base it was trained over, so that it is not used over another one.
//
// It stands in the metadata of adapter_model.safetensors, beside {"format": "pt"}, where PEFT, transformers and vLLM
// leave it alone. A checkpoint of a run says it in its manifest.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::phi3 {

// The base's linears as NF4 held them in training.
struct HeldInNf4 {
  int64_t block_size = 64;
  bool double_quant = true;
};

// PiSSA's result is for the weights before their principal part was taken out; what NF4 held was the rest of them.
struct AdapterOrigin {
  std::string base;                      // ModelFolder::fingerprint(); empty: it does not say
  std::optional<HeldInNf4> held_in_nf4;  // nothing: as the base has them, or it does not say
};

// For the writer of the file: {"format": "pt", ...}. Without a base: the format alone.
std::map<std::string, std::string> origin_metadata(const AdapterOrigin& origin);

// Of an adapter folder or a checkpoint; one whose manifest is damaged says nothing. Throws CheckpointError when the
// weights cannot be opened.
AdapterOrigin read_adapter_origin(const std::string& adapter_folder);

// Throws CheckpointError, naming both and the way out, when the adapter says that it was trained over another base;
// with `any_base` that is a warning. An adapter that says nothing passes: its shapes are compared where it is loaded.
void require_base(const std::string& adapter_folder, const ModelFolder& base, bool any_base);

}  // namespace phi3tune::phi3
