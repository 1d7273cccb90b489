// What a user asks of the commands that use a model, as plain values: filled by the command line, read by the engine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "phi3tune/config/options.h"

namespace phi3tune::commands {

// A model folder with an adapter, and how they compute.
struct ModelRequest {
  std::string model;
  std::string adapter;         // PEFT folder or a run's checkpoint; empty: the base alone
  bool any_base = false;       // an adapter that names another base is taken all the same
  bool load_in_4bit = false;   // NF4 the linears on the way in
  std::string dtype = "auto";  // auto | float32 | bfloat16
  std::string chat_template = "auto";
  int threads = 0;  // 0: all cores this process may use
};

struct GenerateRequest {
  ModelRequest model;
  std::string prompt;        // text of the one prompt; "-": standard input
  std::string prompts_path;  // JSONL, instead: {"prompt": text} or {"messages": [...]} a line
  std::optional<std::string> system;
  bool raw = false;  // prompts are text to continue, without the chat template
  config::GenerationOptions generation;
};

struct ChatRequest {
  ModelRequest model;
  std::optional<std::string> system;
  config::GenerationOptions generation;
};

struct EvalRequest {
  config::RunOptions run;
  std::string adapter;  // empty: the run's own, output_dir/adapter
  bool any_base = false;
  std::vector<std::string> metrics;  // empty: eval_metrics of the settings, else all
  int64_t samples = 50;              // rows of each set that are answered; losses are of all rows
  int64_t max_new_tokens = 0;        // 0: from the longest reference
  std::string out;                   // folder of the report; empty: output_dir/eval
};

struct MergeRequest {
  ModelRequest model;  // dtype: of the result; "auto": the base's
  std::string out;
  uint64_t shard_size = 50'000'000'000;
  bool quantized_base = false;  // into the weights as NF4 holds them, which a QLoRA adapter was trained over
  // Run base + adapter and the result on the same tokens, and say how far they differ; nothing: where NF4 is merged.
  std::optional<bool> verify;
};

struct ExportRequest {
  std::string adapter;
  std::string model;  // base; empty: the one that the adapter names
  bool any_base = false;
  std::string format;  // peft-fused | peft-split | gguf | merged
  std::string out;
  std::string dtype = "auto";  // of the file: auto (F32; the base's with merged) | float32 | bfloat16 | float16
};

}  // namespace phi3tune::commands
