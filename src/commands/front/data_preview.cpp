#include "commands/front/data_preview.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/data/preview.h"
#include "phi3tune/phi3/model_config.h"

namespace phi3tune::commands {
namespace {

std::string describe(const data::Dataset& dataset, const data::Example& example, const data::Tokenizer& tokenizer,
                     const data::Marks& marks) {
  return fmt::format("{}: {} tokens, {} trained\n{}\n\n{}\n\n", dataset.place(example.source), example.input_ids.size(),
                     example.trained_tokens(), data::preview_text(example, tokenizer, marks),
                     data::preview_tokens(example, tokenizer, marks));
}

std::string json_line(const io::Json& json) {
  return json.dump(-1, ' ', false, io::Json::error_handler_t::replace) + "\n";
}

}  // namespace

int run_data_preview(const DataPreviewOptions& options) {
  const auto& model = options.run.model;
  const auto tokenizer = data::Tokenizer::open(model.tokenizer_path.empty() ? model.base_model : model.tokenizer_path);
  std::vector<std::string> notes;
  const auto chat_template = data::ChatTemplate::choose(options.run.data.chat_template, tokenizer, notes);
  for (const auto& note : notes) {
    log_info("{}", note);
  }
  const auto dataset = data::read_dataset(options.run.data, tokenizer, chat_template,
                                          phi3::read_model_config(model.base_model).vocab_size);
  for (const auto* report : {&dataset.train_report, &dataset.validation_report}) {
    for (const auto& note : report->notes) {
      log_info("{}", note);
    }
  }
  std::vector<const data::Example*> chosen;
  if (options.row.empty()) {
    const auto count = std::clamp<int64_t>(options.n, 0, static_cast<int64_t>(dataset.train.size()));
    for (int64_t i = 0; i < count; ++i) {
      chosen.push_back(&dataset.train[static_cast<size_t>(i)]);
    }
  } else {
    chosen = data::examples_of_row(dataset, options.row);
  }
  const auto marks = isatty(STDOUT_FILENO) == 1 ? data::kColourMarks : data::Marks{};
  for (const auto* example : chosen) {
    const auto text = options.json ? json_line(data::preview_json(dataset, *example, tokenizer))
                                   : describe(dataset, *example, tokenizer, marks);
    std::fputs(text.c_str(), stdout);
  }
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace phi3tune::commands
