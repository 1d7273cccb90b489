#include "data/tokenizer/json_field.h"

namespace phi3tune::data {

std::string shown(const io::Json& value) {
  if (value.is_object()) {
    return value.contains("type") && value["type"].is_string() ? value["type"].get<std::string>() : "an object";
  }
  if (value.is_array()) {
    return fmt::format("an array of {}", value.size());
  }
  constexpr size_t kMost = 60;
  std::string text = value.dump(-1, ' ', true);
  if (text.size() > kMost) {
    text.resize(kMost);
    text += "...";
  }
  return text;
}

std::string json_quoted(std::string_view text) { return io::Json(std::string(text)).dump(); }

JsonField JsonField::member(std::string_view key) const {
  JsonField field{nullptr, place.ends_with(": ") ? fmt::format("{}{}", place, key) : fmt::format("{}.{}", place, key)};
  if (value != nullptr && value->is_object()) {
    const auto found = value->find(key);
    if (found != value->end() && !found->is_null()) {
      field.value = &*found;
    }
  }
  return field;
}

JsonField JsonField::item(size_t index) const { return {&(*value)[index], fmt::format("{}[{}]", place, index)}; }

void JsonField::refuse(std::string_view wanted) const {
  if (value == nullptr) {
    throw ModelError("{}: not there, wanted {}", place, wanted);
  }
  throw ModelError("{}: found {}, wanted {}", place, shown(*value), wanted);
}

const io::Json& JsonField::object() const {
  if (value == nullptr || !value->is_object()) {
    refuse("an object");
  }
  return *value;
}

const io::Json& JsonField::array() const {
  if (value == nullptr || !value->is_array()) {
    refuse("an array");
  }
  return *value;
}

const std::string& JsonField::text() const {
  if (value == nullptr || !value->is_string()) {
    refuse("a string");
  }
  return value->get_ref<const std::string&>();
}

int64_t JsonField::integer(int64_t low, int64_t high) const {
  if (value == nullptr || !value->is_number_integer() ||
      (value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(high)) ||
      value->get<int64_t>() < low || value->get<int64_t>() > high) {
    refuse(fmt::format("an integer from {} to {}", low, high));
  }
  return value->get<int64_t>();
}

bool JsonField::boolean(bool absent) const {
  if (value == nullptr) {
    return absent;
  }
  if (!value->is_boolean()) {
    refuse("true or false");
  }
  return value->get<bool>();
}

}  // namespace phi3tune::data
