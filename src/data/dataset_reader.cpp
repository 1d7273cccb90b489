#include "data/dataset_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "data/excess.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/data/encoding.h"
#include "phi3tune/data/record_reader.h"
#include "phi3tune/data/records.h"

namespace phi3tune::data {
namespace {

using config::DataOptions;
using config::DatasetOptions;
using config::ExcessLength;
using config::RecordFormat;

constexpr size_t kMaxFaults = 50;
constexpr size_t kMaxIgnoredKeys = 100;
constexpr size_t kNamesShown = 5;

uint64_t piece_id(uint64_t record, size_t piece) {
  if (piece == 0) {
    return record;
  }
  const uint64_t both[2] = {record, piece};
  return hash_bytes({reinterpret_cast<const char*>(both), sizeof(both)}).low;
}

Example make_example(Piece&& piece, uint64_t sample_id, Source source) {
  Example example;
  example.sample_id = sample_id;
  example.source = source;
  example.input_ids = std::move(piece.input_ids);
  example.labels.resize(example.input_ids.size());
  bool weighted = false;
  for (size_t t = 0; t < example.labels.size(); ++t) {
    const bool trained = piece.weights[t] > 0.0F;
    example.labels[t] = trained ? example.input_ids[t] : kIgnoreLabel;
    weighted = weighted || (trained && piece.weights[t] != 1.0F);
  }
  if (weighted) {
    example.weights = std::move(piece.weights);
  }
  return example;
}

// Reads the datasets of one list (training, or test_datasets) into records and a report.
class Reader {
 public:
  Reader(const DataOptions& options, const Tokenizer& tokenizer, const ChatTemplate& chat_template, int64_t vocab_size,
         Dataset& dataset, DatasetReport& report)
      : options_(options),
        tokenizer_(tokenizer),
        chat_template_(chat_template),
        vocab_size_(vocab_size),
        dataset_(dataset),
        report_(report) {}

  std::vector<KeptRecord> read(const std::vector<DatasetOptions>& datasets) {
    for (const DatasetOptions& dataset : datasets) {
      read_one(dataset);
    }
    if (fatal_ || report_.fault_count > options_.max_bad_rows) {
      refuse();
    }
    return std::move(kept_);
  }

 private:
  void read_one(const DatasetOptions& dataset) {
    RecordFormat format = dataset.format;
    std::string detected_at;
    int64_t seen = 0;
    std::vector<std::string> left_out;
    const auto files = expand_data_path(dataset.path, &left_out);
    note_left_out(dataset.path, left_out);
    for (const std::string& path : files) {
      source_ = {static_cast<uint32_t>(dataset_.files.size()), 0};
      dataset_.files.push_back(path);
      RecordReader reader(path);
      RawRecord raw;
      bool any = false;
      while ((!dataset.samples || seen < *dataset.samples) && reader.next(raw)) {
        any = true;
        ++seen;
        if (stop_requested()) {
          throw Interrupted("stopped while reading data; nothing was written: run the same command again");
        }
        source_.line = raw.line;
        ++report_.records;
        if (!raw.fault.empty()) {
          ++report_.malformed;
          fault(fmt::format("{}:{}:{}", path, raw.fault_line, raw.fault_column), raw.fault);
          continue;
        }
        if (format == RecordFormat::kAuto && !detect(raw, dataset, format, detected_at)) {
          return;
        }
        if (format != RecordFormat::kAuto) {
          add(raw, format, detected_at, dataset);
        }
      }
      report_.blank_lines += static_cast<int64_t>(reader.blank_lines());
      if (!any && !(dataset.samples && seen >= *dataset.samples)) {
        ++report_.malformed;
        std::error_code code;
        fault(path, std::filesystem::file_size(path, code) == 0 && !code
                        ? "the file is empty; wanted records, one a line"
                        : "the file holds no record");
      }
    }
  }

  // A folder may hold data under a name that is not looked at.
  void note_left_out(const std::string& folder, std::vector<std::string> names) {
    if (names.empty()) {
      return;
    }
    const size_t count = names.size();
    names.resize(std::min(count, kNamesShown));
    report_.notes.push_back(fmt::format("{}: {} not read, only *.jsonl and *.json of the folder itself are: {}{}",
                                        folder, count == 1 ? "1 entry is" : fmt::format("{} entries are", count),
                                        fmt::join(names, ", "),
                                        count > kNamesShown ? fmt::format(" and {} more", count - kNamesShown) : ""));
  }

  // False: the records can be read in two ways, and the dataset is left there.
  bool detect(const RawRecord& raw, const DatasetOptions& dataset, RecordFormat& format, std::string& detected_at) {
    const auto matching = matching_formats(raw.value, dataset);
    if (matching.size() == 1) {
      format = matching.front();
      detected_at = dataset_.place(source_);
      return true;
    }
    ++report_.malformed;
    fault(dataset_.place(source_), describe_undetected(raw.value, matching, dataset));
    fatal_ = fatal_ || matching.size() > 1;
    return matching.empty();
  }

  void add(const RawRecord& raw, RecordFormat format, const std::string& detected_at, const DatasetOptions& dataset) {
    const std::string place = dataset_.place(source_);
    Record record;
    EncodedRecord encoded;
    try {
      record = parse_record(raw.value, format, dataset);
      encoded = encode_record(
          record, tokenizer_, chat_template_,
          {dataset.roles_to_train, dataset.train_on_eos, options_.train_on_inputs, options_.default_system_message});
    } catch (const DataError& error) {
      ++report_.malformed;
      fault(place, detected_at.empty() || detected_at == place
                       ? std::string(error.what())
                       : fmt::format("{} (read as {}, like the record at {})", error.what(), format_name(format),
                                     detected_at));
      return;
    }
    check_ids(encoded, place);
    note(record, encoded);
    keep(std::move(encoded), record, place);
  }

  void check_ids(const EncodedRecord& encoded, const std::string& place) const {
    for (const int32_t id : encoded.input_ids) {
      if (id < 0 || (vocab_size_ > 0 && id >= vocab_size_)) {
        throw DataError(
            "{}: token id {} (\"{}\") is not below the model's vocab_size {}: tokenizer and model do not belong "
            "together",
            place, id, tokenizer_.token_text(id), vocab_size_);
      }
    }
  }

  void note(const Record& record, const EncodedRecord& encoded) {
    report_.system_messages_dropped += encoded.system_messages_dropped;
    report_.prompt_not_prefix += encoded.prompt_not_prefix ? 1 : 0;
    report_.ends_without_answer += encoded.ends_without_answer ? 1 : 0;
    report_.special_tokens_in_text += encoded.special_token_in_text ? 1 : 0;
    for (const std::string& key : record.ignored_keys) {
      if (report_.ignored_keys.size() < kMaxIgnoredKeys || report_.ignored_keys.contains(key)) {
        ++report_.ignored_keys[key];
      }
    }
  }

  void keep(EncodedRecord&& encoded, const Record& record, const std::string& place) {
    const size_t length = encoded.input_ids.size();
    const bool trains = std::any_of(encoded.weights.begin(), encoded.weights.end(), [](float w) { return w > 0.0F; });
    FittedRow fitted = fit_row(std::move(encoded), options_.sequence_len, options_.excess_length);
    if (fitted.pieces.empty()) {
      too_long(length, place);
      return;
    }
    KeptRecord kept{{}, content_hash(record), record.format};
    int64_t untrained = 0;
    for (size_t i = 0; i < fitted.pieces.size(); ++i) {
      Example example = make_example(std::move(fitted.pieces[i]), piece_id(kept.hash.low, i), source_);
      if (example.trained_tokens() > 0) {
        kept.examples.push_back(std::move(example));
      } else {
        ++untrained;
      }
    }
    if (kept.examples.empty()) {
      ++report_.without_trained_token;
      fault(place, trains ? fmt::format("no trained token is left after cutting {} tokens to sequence_len {}", length,
                                        options_.sequence_len)
                          : std::string("no token of the record is trained (see roles_to_train, train_on_inputs and "
                                        "the messages' weights)"));
      return;
    }
    report_.truncated += fitted.truncated ? 1 : 0;
    report_.untrained_pieces += untrained;
    report_.split_pieces += static_cast<int64_t>(kept.examples.size()) - 1;
    kept_.push_back(std::move(kept));
  }

  void too_long(size_t length, const std::string& place) {
    ++report_.dropped_too_long;
    if (options_.excess_length != ExcessLength::kDrop) {
      const bool prompt = options_.excess_length == ExcessLength::kTruncatePrompt;
      fault(place,
            fmt::format("{} tokens{}, and sequence_len is {}; raise it, or set excess_length_strategy to drop, {}"
                        "truncate_end or split",
                        length, prompt ? ", too many even without prompt text" : "", options_.sequence_len,
                        prompt ? "" : "truncate_prompt, "));
    }
  }

  void fault(const std::string& place, const std::string& what) {
    ++report_.fault_count;
    if (report_.faults.size() < kMaxFaults) {
      report_.faults.push_back(fmt::format("{}: {}", place, what));
    }
  }

  [[noreturn]] void refuse() const {
    std::string message;
    for (const std::string& line : report_.faults) {
      message += line + "\n";
    }
    const auto shown = static_cast<int64_t>(report_.faults.size());
    if (report_.fault_count > shown) {
      message += fmt::format("... and {} more\n", report_.fault_count - shown);
    }
    if (report_.records == 0) {
      message.pop_back();
      throw DataError("{}", message);
    }
    throw DataError("{}{} fault{} in {} records{}", message, report_.fault_count, report_.fault_count == 1 ? "" : "s",
                    report_.records,
                    fatal_ ? std::string() : fmt::format("; max_bad_rows allows {}", options_.max_bad_rows));
  }

  const DataOptions& options_;
  const Tokenizer& tokenizer_;
  const ChatTemplate& chat_template_;
  int64_t vocab_size_;
  Dataset& dataset_;
  DatasetReport& report_;
  std::vector<KeptRecord> kept_;
  Source source_;
  bool fatal_ = false;
};

}  // namespace

std::vector<KeptRecord> read_records(const std::vector<DatasetOptions>& datasets, const DataOptions& options,
                                     const Tokenizer& tokenizer, const ChatTemplate& chat_template, int64_t vocab_size,
                                     Dataset& dataset, DatasetReport& report) {
  return Reader(options, tokenizer, chat_template, vocab_size, dataset, report).read(datasets);
}

}  // namespace phi3tune::data
