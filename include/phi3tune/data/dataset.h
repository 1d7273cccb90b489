// JSONL records to tokenized examples: formats, templates, masks, over-long rows, the validation split, and what was
// dropped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/data/template.h"
#include "phi3tune/data/tokenizer.h"

namespace phi3tune::data {

inline constexpr int32_t kIgnoreLabel = -100;

// Where a record stands.
struct Source {
  uint32_t file = 0;  // index into Dataset::files
  uint64_t line = 0;  // from 1; for a JSON array the line its element starts on
};

// One tokenized document. labels[i] is input_ids[i] where the token is trained (it is a target), else kIgnoreLabel; the
// first token of a document is never a target. weights is empty when all trained tokens weigh 1.
struct Example {
  std::vector<int32_t> input_ids;
  std::vector<int32_t> labels;
  std::vector<float> weights;  // per token, 0 where not trained
  uint64_t sample_id = 0;      // content hash of the record: names it in dropout streams, splits and logs
  Source source;
  int64_t trained_tokens() const noexcept;
};

struct DatasetReport {
  int64_t records = 0;
  int64_t examples = 0;
  int64_t tokens = 0;
  int64_t trained_tokens = 0;
  int64_t dropped_too_long = 0;
  int64_t truncated = 0;
  int64_t split_pieces = 0;  // extra examples made by `split`
  int64_t without_trained_token = 0;
  int64_t malformed = 0;
  int64_t longest = 0;                     // tokens of the longest kept example
  std::map<std::string, int64_t> formats;  // record format -> records
  std::vector<std::string> faults;         // "file:line[:column]: what", the first 50
  int64_t fault_count = 0;

  // Nothing of what follows stops a run; all of it is worth a line when it is not zero.
  int64_t blank_lines = 0;                      // between records; at the end of a file they are not counted
  int64_t duplicates = 0;                       // records whose content was there before, on this side
  int64_t also_in_training = 0;                 // validation records whose content is in the training data too
  int64_t untrained_pieces = 0;                 // pieces of a split record without a trained token, left out
  int64_t system_messages_dropped = 0;          // by templates that have no place for them
  int64_t prompt_not_prefix = 0;                // prompt tokens are no prefix of prompt + completion: they merge
  int64_t ends_without_answer = 0;              // chats whose last message is not one of roles_to_train
  int64_t special_tokens_in_text = 0;           // records whose own text spells one of the tokenizer's special tokens
  std::map<std::string, int64_t> ignored_keys;  // keys that were there and not looked at -> records
  std::vector<std::string> notes;               // what else is worth a line, in words: "data: 2 entries ..."
};

struct Dataset {
  std::vector<std::string> files;
  std::vector<Example> train;
  std::vector<Example> validation;
  DatasetReport train_report;
  DatasetReport validation_report;
  std::string place(const Source& source) const;  // "file:line"
  // Content hash of all examples in order (ids, labels, weights).
  std::string fingerprint() const;
};

// Reads everything once, in order. Throws DataError with every fault (up to 50, then a count), when more than
// max_bad_rows records are malformed, too long (strategy error), or hold no trained token; when nothing is left; when a
// token id is not below vocab_size (place and id named). vocab_size 0: not checked.
Dataset read_dataset(const config::DataOptions& options, const Tokenizer& tokenizer, const ChatTemplate& chat_template,
                     int64_t vocab_size);

}  // namespace phi3tune::data
