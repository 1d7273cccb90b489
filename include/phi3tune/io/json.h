// Strict JSON: one value, well-formed UTF-8, no duplicate keys, bounded depth; faults carry line and column.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace phi3tune::io {

// Keys keep the order of the file.
using Json = nlohmann::ordered_json;

struct JsonFault {
  size_t line = 1;    // from 1
  size_t column = 1;  // from 1, in bytes
  std::string what;   // found and wanted, no place
};

struct JsonLimits {
  size_t depth = 64;
  size_t values = 1'000'000;         // in all; each takes some 50 bytes, whatever it says
  size_t members = size_t{1} << 19;  // of one object
  size_t token = size_t{64} << 20;   // bytes of one text or number, and of one stretch of blanks
};

// Parses exactly one value; on a fault returns false and fills `fault`. A leading byte order mark is a fault here
// (readers of whole files strip it first). Numbers that overflow a double, NUL bytes, lone surrogates, trailing bytes
// and repeated keys within one object are faults.
[[nodiscard]] bool parse_json(std::string_view text, Json& value, JsonFault& fault, const JsonLimits& limits = {});

// Far above every configuration, and little enough to be refused at once.
inline constexpr size_t kMostJsonBytes = size_t{4} << 20;

// The same, for a file read whole (one leading byte order mark allowed). Throws ErrorType("path:line:column: what").
template <typename ErrorType>
Json read_json_file(const std::string& path, size_t max_bytes = kMostJsonBytes, const JsonLimits& limits = {});

// Text of a file, whole. Throws ErrorType naming the path when it cannot be read or is larger than max_bytes.
template <typename ErrorType>
std::string read_text_file(const std::string& path, size_t max_bytes = size_t{256} << 20);

// Both are instantiated for ConfigError, DataError, ModelError and CheckpointError.

}  // namespace phi3tune::io
