// README.md of a result folder: what the adapter is, what it was trained on, how well it does and how to load it.
//
// It names nothing that differs between two equal runs (no times, no output folder), so equal runs give equal bytes.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace phi3tune::checkpoint {

struct CardLoss {
  std::string name;              // of the evaluation set
  std::optional<double> before;  // mean over trained tokens, before the first update
  double after = 0.0;
  int64_t tokens = 0;  // trained tokens of the set
};

struct ModelCard {
  std::string title;                                          // e.g. the run's name
  std::string base_model;                                     // as in adapter_config.json
  std::string method;                                         // "LoRA", "QLoRA (base in NF4 with double quantisation)"
  std::string chat_template;                                  // its name, e.g. "phi_3"
  std::string end_of_turn;                                    // e.g. "<|end|>"
  std::string program_version;                                // of phi3-tune
  std::vector<std::pair<std::string, std::string>> data;      // what, how much
  std::vector<std::pair<std::string, std::string>> settings;  // name, value
  std::vector<CardLoss> losses;
};

std::string model_card_text(const ModelCard& card);

}  // namespace phi3tune::checkpoint
