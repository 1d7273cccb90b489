// Records of a data file, one at a time: JSON Lines, or one JSON array, told apart by the first character.
//
// Strict and streaming: memory is bounded by one record. One byte order mark at the very start and CRLF line ends are
// fine; NUL, bytes that are not UTF-8, a byte order mark further in, repeated keys and over-long records are faults
// with line and column. A fault costs its record only; the reader goes on behind it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "phi3tune/config/options.h"
#include "phi3tune/io/json.h"

namespace phi3tune::data {

inline constexpr size_t kMaxRecordBytes = size_t{64} << 20;

struct RawRecord {
  uint64_t line = 0;  // where it starts, from 1
  io::Json value;
  // Not empty: what is wrong, with its own place.
  std::string fault;
  uint64_t fault_line = 0;
  uint64_t fault_column = 0;  // in bytes, from 1
};

class RecordReader {
 public:
  // Throws DataError when the file cannot be opened or is not a regular file.
  explicit RecordReader(std::string path, size_t max_record_bytes = kMaxRecordBytes);
  ~RecordReader();
  RecordReader(const RecordReader&) = delete;
  RecordReader& operator=(const RecordReader&) = delete;

  // False at the end. Throws DataError when reading fails.
  bool next(RawRecord& record);
  // Blank lines passed that have a record after them (JSON Lines only).
  uint64_t blank_lines() const noexcept { return blank_lines_; }

 private:
  enum class Mode { kUnknown, kLines, kArray };

  bool fill();
  int peek();
  void skip();  // past the byte that peek() saw
  void skip_blanks();
  void start();
  bool next_line(RawRecord& record);
  bool next_element(RawRecord& record);
  bool end_array(RawRecord& record);
  void parse(std::string_view text, uint64_t line, uint64_t column, RawRecord& record) const;

  std::string path_;
  size_t max_bytes_;
  int descriptor_ = -1;
  std::vector<char> buffer_;
  size_t at_ = 0;
  size_t size_ = 0;
  Mode mode_ = Mode::kUnknown;
  uint64_t line_ = 1;
  uint64_t column_ = 1;
  uint64_t blank_lines_ = 0;
  bool first_element_ = true;
  bool closed_ = false;  // the array's closing bracket is passed
  bool ended_ = false;
  std::string text_;  // of the record being read
};

// The files a dataset's `path` means, in byte order: a file, a glob, or a folder (its *.jsonl and *.json, not those of
// folders inside). Throws DataError when there is none. left_out gets the names of what else stands in that folder, in
// byte order, those that begin with a dot excepted; a folder's name ends with a slash.
std::vector<std::string> expand_data_path(const std::string& path, std::vector<std::string>* left_out = nullptr);

}  // namespace phi3tune::data
