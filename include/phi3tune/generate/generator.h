// Prompts to answers, as tokens.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/model/decode.h"
#include "phi3tune/model/phi3_model.h"

namespace phi3tune::generate {

enum class Finish { kStop, kLength, kInterrupted };

struct Answer {
  std::vector<int32_t> tokens;            // without the stop id that ended it
  std::vector<double> log_probabilities;  // of each, and of the stop id where there is one; if asked for
  Finish finish = Finish::kLength;
  std::optional<int32_t> stop_id;
};

struct Timing {
  int64_t prompt_tokens = 0;  // read, not counting what the cache held
  int64_t new_tokens = 0;     // stop ids included
  int64_t first_tokens = 0;   // of these, the first of each answer, which the prompt's pass gives
  double prompt_seconds = 0.0;
  double new_seconds = 0.0;

  double prompt_tokens_per_second() const noexcept;  // 0 where there is none
  double new_tokens_per_second() const noexcept;     // without the first of each answer
};

// Called for every new token but stop ids, in order for each prompt; false ends that answer (Finish::kInterrupted).
using OnToken = std::function<bool(size_t prompt, int32_t token)>;
// Called when an answer is whole, as answers end.
using OnAnswer = std::function<void(size_t prompt, const Answer& answer)>;

class Generator {
 public:
  // `stop_ids` end an answer. The model must outlive the generator.
  Generator(model::Phi3Model& model, const config::GenerationOptions& options, std::vector<int64_t> stop_ids);

  // An answer for each prompt, options.batch_size of them side by side: when one ends the next takes its place. Prompts
  // are token ids, none empty. The random stream of a prompt is `first_stream` + its index. When the stop flag is seen,
  // answers end as they are (kInterrupted), and those not begun are empty. The cache keeps what it read: a prompt that
  // begins with what place 0 holds reads only the rest (a conversation). An answer also ends (kLength) where the model
  // has no position left (max_position_embeddings). Throws ResourceError when the cache cannot grow, NumericsError.
  std::vector<Answer> run(std::span<const std::vector<int32_t>> prompts, const OnToken& on_token = {},
                          uint64_t first_stream = 0, const OnAnswer& on_answer = {});
  // After another adapter was attached.
  void forget();

  const Timing& timing() const noexcept { return timing_; }  // of all runs so far

 private:
  model::Phi3Model& model_;
  config::GenerationOptions options_;
  std::vector<int64_t> stop_ids_;
  model::Decoder decoder_;
  Timing timing_;
};

}  // namespace phi3tune::generate
