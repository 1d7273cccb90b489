// generations.jsonl: what the adapter answers to a few fixed prompts at each evaluation of a run.
//
//   {"step", "prompt", "answer"}      greedy, without special tokens; "prompt", or "messages", as the file has it
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "compute.h"
#include "inputs.h"
#include "phi3tune/config/options.h"
#include "phi3tune/data/tokenizer.h"
#include "phi3tune/io/atomic_file.h"
#include "phi3tune/model/phi3_model.h"
#include "phi3tune/train/metrics.h"
#include "prompts.h"

namespace phi3tune::commands {

// eval_prompts: {"prompt": text} or {"messages": [...]} a line; none where no file is named. Throws DataError with a
// line for every fault.
std::vector<Prompt> read_logged_prompts(const config::RunOptions& run, const Inputs& inputs);
// Throws ConfigError where there are prompts and the run's device cannot answer them.
void require_answers_on(const Compute& compute, const std::vector<Prompt>& prompts);

class PromptLog final : public train::TrainObserver {
 public:
  struct Options {
    std::vector<Prompt> prompts;
    std::vector<int64_t> stop_ids;
    int64_t max_new_tokens = 128;
  };
  // Tells someone a line of text, e.g. the log.
  using Show = std::function<void(const std::string&)>;

  // Keeps the lines of evaluations up to `evaluated_at`; the others are made again. The model, with the adapters
  // attached, and the tokenizer must outlive it. Throws ResourceError.
  PromptLog(const std::string& path, int64_t evaluated_at, Options options, model::Phi3Model& model,
            const data::Tokenizer& tokenizer, Show show);
  bool on_evaluated(int64_t step) override;

 private:
  void write(const std::string& line);

  Options options_;
  model::Phi3Model& model_;
  const data::Tokenizer& tokenizer_;
  Show show_;
  io::LineWriter file_;
};

// Null where there are no prompts. `plain`: answers are lines of the log too.
std::unique_ptr<PromptLog> make_prompt_log(const config::RunOptions& run, const Inputs& inputs,
                                           std::vector<Prompt> prompts, const std::string& path, int64_t evaluated_at,
                                           model::Phi3Model& model, bool plain);

// Bytes of the lines of a file that are of steps up to `step`. 0 where there is no file.
uint64_t bytes_until_step(const std::string& path, int64_t step);

}  // namespace phi3tune::commands
