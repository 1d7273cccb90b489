// A JSON object being read: its fields by type, with faults that name the field, and what was never looked at.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "phi3tune/io/json.h"

namespace phi3tune::data {

// "an object", "text", "a number", ...
std::string_view kind_of(const io::Json& value);
// The keys in quotes, the first dozen, for messages.
std::string keys_of(const io::Json& object);
bool has(const io::Json& object, std::string_view key);

// Every getter throws DataError without a place.
class Fields {
 public:
  // `where`: "the record", or how messages name the object ("messages[2]").
  Fields(const io::Json& object, std::string where);

  // The value of a key; null counts as absent.
  const io::Json* get(std::string_view key);
  std::string text(std::string_view key);
  std::optional<std::string> optional_text(std::string_view key);
  const io::Json& list(std::string_view key);
  // For what would change the text or the loss and is not supported: refused rather than left out. Empty is fine.
  void refuse(std::string_view key, std::string_view why);
  // Appends the keys that nobody asked for, once each, with `prefix`.
  void add_unseen(std::string_view prefix, std::vector<std::string>& keys) const;
  std::string name(std::string_view key) const;

 private:
  const io::Json& object_;
  std::string where_;
  std::set<std::string, std::less<>> seen_;
};

}  // namespace phi3tune::data
