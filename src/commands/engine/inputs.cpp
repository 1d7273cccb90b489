#include "inputs.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "phi3tune/core/log.h"
#include "phi3tune/core/text.h"

namespace phi3tune::commands {
namespace {

void report_side(const char* side, const data::DatasetReport& report) {
  if (report.records == 0) {
    return;
  }
  log_info("{}: {} examples from {} records, {} tokens of which {} trained, the longest {}", side, report.examples,
           report.records, report.tokens, report.trained_tokens, report.longest);
  const std::pair<const char*, int64_t> counts[] = {
      {"malformed records left out", report.malformed},
      {"records left out as longer than sequence_len", report.dropped_too_long},
      {"records truncated to sequence_len", report.truncated},
      {"more examples made by splitting over-long records", report.split_pieces},
      {"pieces of split records without a trained token left out", report.untrained_pieces},
      {"records left out as no token of theirs is trained", report.without_trained_token},
      {"blank lines between records", report.blank_lines},
      {"records that were there before", report.duplicates},
      {"validation records that are in the training data too", report.also_in_training},
      {"system messages left out, as the template has no place for them", report.system_messages_dropped},
      {"prompts whose tokens merge with their completion's first", report.prompt_not_prefix},
      {"chats that do not end with a trained role", report.ends_without_answer},
      {"records whose own text spells a special token", report.special_tokens_in_text},
  };
  for (const auto& [what, count] : counts) {
    if (count > 0) {
      log_warning("{}: {} {}", side, count, what);
    }
  }
  for (const auto& [key, count] : report.ignored_keys) {
    log_info("{}: key \"{}\" of {} records is not used", side, key, count);
  }
  for (const auto& note : report.notes) {
    log_info("{}: {}", side, note);
  }
  for (const auto& fault : report.faults) {
    log_warning("{}", fault);
  }
}

}  // namespace

Inputs read_inputs(const config::RunOptions& run) {
  auto folder = phi3::ModelFolder::open(run.model.base_model);
  const auto& config = folder.config();
  log_info("base: {}, {} layers, width {}, {} of weights", run.model.base_model, config.num_layers, config.hidden_size,
           format_bytes(folder.total_bytes()));
  auto tokenizer =
      data::Tokenizer::open(run.model.tokenizer_path.empty() ? run.model.base_model : run.model.tokenizer_path);
  std::vector<std::string> notes;
  auto chat_template = data::ChatTemplate::choose(run.data.chat_template, tokenizer, notes);
  for (const auto& note : notes) {
    log_info("{}", note);
  }
  log_info("chat template: {}", chat_template.name());
  auto dataset = data::read_dataset(run.data, tokenizer, chat_template, config.vocab_size);
  report_side("training data", dataset.train_report);
  report_side("validation data", dataset.validation_report);
  const int64_t longest = std::max(dataset.train_report.longest, dataset.validation_report.longest);
  if (config.max_position_embeddings > 0 && longest > config.max_position_embeddings) {
    log_warning(
        "the longest example has {} tokens, and the model knows {} positions (max_position_embeddings): it will do "
        "badly "
        "beyond them; a smaller sequence_len cuts or refuses such examples",
        longest, config.max_position_embeddings);
  }
  return {std::move(folder), std::move(tokenizer), std::move(chat_template), std::move(dataset)};
}

}  // namespace phi3tune::commands
