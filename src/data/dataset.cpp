#include "phi3tune/data/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "data/dataset_reader.h"
#include "data/split.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/hash.h"
#include "phi3tune/data/records.h"

namespace phi3tune::data {
namespace {

using config::DataOptions;
using config::DatasetOptions;

// Moves a record's examples to their side and counts them there.
void take(KeptRecord&& record, std::vector<Example>& examples, DatasetReport& report,
          std::unordered_set<uint64_t>& ids) {
  ++report.formats[std::string(format_name(record.format))];
  report.duplicates += ids.insert(record.hash.low).second ? 0 : 1;
  for (Example& example : record.examples) {
    const auto tokens = static_cast<int64_t>(example.input_ids.size());
    ++report.examples;
    report.tokens += tokens;
    report.trained_tokens += example.trained_tokens();
    report.longest = std::max(report.longest, tokens);
    examples.push_back(std::move(example));
  }
}

void check_options(const DataOptions& options, const ChatTemplate& chat_template) {
  if (options.datasets.empty()) {
    throw ConfigError("datasets is empty; name at least one");
  }
  if (options.val_set_size > 0.0 && !options.test_datasets.empty()) {
    throw ConfigError("val_set_size and test_datasets both say what to validate on; give one of them");
  }
  if (options.val_set_size >= 1.0 && options.val_set_size != std::floor(options.val_set_size)) {
    throw ConfigError("val_set_size {} is neither a fraction below 1 nor a whole number of records",
                      options.val_set_size);
  }
  for (const auto* datasets : {&options.datasets, &options.test_datasets}) {
    for (const DatasetOptions& dataset : *datasets) {
      for (const std::string& role : dataset.roles_to_train) {
        if (role != "system" && role != "user" && role != "assistant" && role != "tool") {
          throw ConfigError("roles_to_train of {} names \"{}\"; wanted system, user, assistant or tool", dataset.path,
                            role);
        }
      }
    }
  }
  if (options.default_system_message && !chat_template.holds_system_messages()) {
    throw ConfigError("default_system_message is set, and the chat template {} has no place for system messages",
                      chat_template.name());
  }
}

}  // namespace

int64_t Example::trained_tokens() const noexcept {
  return static_cast<int64_t>(labels.size()) - std::count(labels.begin(), labels.end(), kIgnoreLabel);
}

std::string Dataset::place(const Source& source) const {
  return fmt::format("{}:{}", files.at(source.file), source.line);
}

std::string Dataset::fingerprint() const {
  StreamHash hash;
  const auto add = [&](const auto& values) {
    const uint64_t size = values.size();
    hash.update({reinterpret_cast<const char*>(&size), sizeof(size)});
    hash.update({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(values[0])});
  };
  for (const auto* side : {&train, &validation}) {
    const uint64_t count = side->size();
    hash.update({reinterpret_cast<const char*>(&count), sizeof(count)});
    for (const Example& example : *side) {
      hash.update({reinterpret_cast<const char*>(&example.sample_id), sizeof(example.sample_id)});  // keys its dropout
      add(example.input_ids);
      add(example.labels);
      add(example.weights);
    }
  }
  return hash.digest().hex();
}

Dataset read_dataset(const DataOptions& options, const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                     int64_t vocab_size) {
  check_options(options, chat_template);
  Dataset dataset;
  auto records =
      read_records(options.datasets, options, tokenizer, chat_template, vocab_size, dataset, dataset.train_report);
  std::vector<Hash128> hashes;
  for (const KeptRecord& record : records) {
    hashes.push_back(record.hash);
  }
  const auto out = held_out(hashes, options.val_set_size);
  std::unordered_set<uint64_t> train_ids;
  std::unordered_set<uint64_t> validation_ids;
  for (size_t i = 0; i < records.size(); ++i) {
    if (out[i]) {
      --dataset.train_report.records;
      ++dataset.validation_report.records;
      take(std::move(records[i]), dataset.validation, dataset.validation_report, validation_ids);
    } else {
      take(std::move(records[i]), dataset.train, dataset.train_report, train_ids);
    }
  }
  if (dataset.train.empty()) {
    throw DataError("no record is left to train on: {} read, {} too long, {} held out for validation",
                    dataset.train_report.records + dataset.validation_report.records,
                    dataset.train_report.dropped_too_long, dataset.validation_report.records);
  }
  if (options.val_set_size > 0.0 && dataset.validation.empty()) {
    throw DataError("val_set_size {} holds out none of the {} records; give a larger fraction, or a number of records",
                    options.val_set_size, records.size());
  }
  if (!options.test_datasets.empty()) {
    auto tests = read_records(options.test_datasets, options, tokenizer, chat_template, vocab_size, dataset,
                              dataset.validation_report);
    for (KeptRecord& record : tests) {
      dataset.validation_report.also_in_training += train_ids.contains(record.hash.low) ? 1 : 0;
      take(std::move(record), dataset.validation, dataset.validation_report, validation_ids);
    }
    if (dataset.validation.empty()) {
      throw DataError("no record of test_datasets is left: {} read, {} too long", dataset.validation_report.records,
                      dataset.validation_report.dropped_too_long);
    }
  }
  return dataset;
}

}  // namespace phi3tune::data
