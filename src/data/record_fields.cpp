#include "data/record_fields.h"

#include <fmt/format.h>

#include <algorithm>

#include "phi3tune/core/error.h"

namespace phi3tune::data {
namespace {

using io::Json;

// The value of a key, null like absent.
const Json* find(const Json& object, std::string_view key) {
  const auto at = object.find(std::string(key));
  return at == object.end() || at->is_null() ? nullptr : &*at;
}

}  // namespace

std::string_view kind_of(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "a list";
    case Json::value_t::string:
      return "text";
    case Json::value_t::boolean:
      return "true or false";
    default:
      return "a number";
  }
}

std::string keys_of(const Json& object) {
  constexpr size_t kShown = 12;
  std::string keys;
  size_t count = 0;
  for (const auto& item : object.items()) {
    if (++count <= kShown) {
      keys += fmt::format("{}\"{}\"", keys.empty() ? "" : ", ", item.key().substr(0, 60));
    }
  }
  if (count > kShown) {
    keys += fmt::format(" and {} more", count - kShown);
  }
  return keys.empty() ? "none" : keys;
}

bool has(const Json& object, std::string_view key) { return object.contains(std::string(key)); }

Fields::Fields(const Json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (!object.is_object()) {
    throw DataError("{} is {}; wanted an object", where_, kind_of(object));
  }
}

const Json* Fields::get(std::string_view key) {
  seen_.insert(std::string(key));
  return find(object_, key);
}

std::string Fields::text(std::string_view key) {
  auto value = optional_text(key);
  if (!value) {
    if (has(object_, key)) {
      throw DataError("{} is null; wanted text", name(key));
    }
    throw DataError("{} is missing; found the keys {}", name(key), keys_of(object_));
  }
  return *std::move(value);
}

std::optional<std::string> Fields::optional_text(std::string_view key) {
  const Json* value = get(key);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_string()) {
    throw DataError("{} is {}; wanted text", name(key), kind_of(*value));
  }
  return value->get<std::string>();
}

const Json& Fields::list(std::string_view key) {
  const Json* value = get(key);
  if (value == nullptr) {
    throw DataError("{} is {}; found the keys {}", name(key), has(object_, key) ? "null" : "missing", keys_of(object_));
  }
  if (!value->is_array()) {
    throw DataError("{} is {}; wanted a list", name(key), kind_of(*value));
  }
  return *value;
}

void Fields::refuse(std::string_view key, std::string_view why) {
  const Json* value = get(key);
  if (value != nullptr && !(value->is_array() && value->empty()) && !(value->is_string() && *value == "")) {
    throw DataError("{} is there: {}", name(key), why);
  }
}

void Fields::add_unseen(std::string_view prefix, std::vector<std::string>& keys) const {
  for (const auto& item : object_.items()) {
    const std::string key = std::string(prefix) + item.key();
    if (!item.value().is_null() && !seen_.contains(item.key()) &&
        std::find(keys.begin(), keys.end(), key) == keys.end()) {
      keys.push_back(key);
    }
  }
}

std::string Fields::name(std::string_view key) const {
  return where_ == "the record" ? fmt::format("\"{}\"", key) : fmt::format("{}.{}", where_, key);
}

}  // namespace phi3tune::data
