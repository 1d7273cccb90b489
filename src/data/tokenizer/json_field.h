// Fields of a JSON object, with errors that name file and field.
#pragma once

#include <string>
#include <string_view>

#include "phi3tune/core/error.h"
#include "phi3tune/io/json.h"

namespace phi3tune::data {

// A value and where it stands: "path/tokenizer.json: model.vocab".
struct JsonField {
  const io::Json* value = nullptr;
  std::string place;

  // Null value if the key is absent; `null` counts as absent.
  JsonField member(std::string_view key) const;
  JsonField item(size_t index) const;
  // Throws ModelError "PLACE: found X, wanted Y".
  [[noreturn]] void refuse(std::string_view wanted) const;
  explicit operator bool() const noexcept { return value != nullptr; }

  // These throw ModelError when the field is absent or of another type.
  const io::Json& object() const;
  const io::Json& array() const;
  const std::string& text() const;
  int64_t integer(int64_t low, int64_t high) const;
  // Absent: the default.
  bool boolean(bool absent) const;
};

// The start of a JSON value as text, for messages.
std::string shown(const io::Json& value);
// `text` as a JSON string.
std::string json_quoted(std::string_view text);

}  // namespace phi3tune::data
