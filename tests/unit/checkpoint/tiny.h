// The tiny reference model, adapters on it, and the reference adapter that PEFT wrote.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "phi3tune/checkpoint/adapter.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/phi3/adapter_config.h"
#include "phi3tune/phi3/model_config.h"

namespace phi3tune::test {

inline const char* const kPeftAdapter = PHI3TUNE_SOURCE_DIR "/tests/references/adapters/mha";
inline const char* const kTinyModel = PHI3TUNE_SOURCE_DIR "/tests/references/models/mha";

inline model::LoraAdapters tiny_adapters(at::ScalarType dtype = at::kFloat, uint64_t seed = 3) {
  return {phi3::read_model_config(kTinyModel), phi3::read_adapter_config(kPeftAdapter), dtype, seed, false};
}

inline checkpoint::ModelCard tiny_card() {
  checkpoint::ModelCard card;
  card.title = "Tickets";
  card.base_model = "models/tiny \"quoted\"";
  card.method = "LoRA";
  card.chat_template = "phi_3";
  card.end_of_turn = "<|end|>";
  card.program_version = "0.1.0";
  card.data = {{"examples", "12"}, {"a|b", "x\ny"}};
  card.settings = {{"learning_rate", "0.0002"}};
  card.losses = {{"validation", 3.98, 2.2305, 1234}, {"general", std::nullopt, 1.0, 5}};
  return card;
}

}  // namespace phi3tune::test
