// The table as JSON Schema, for editors.
#include <fmt/format.h>

#include <cmath>

#include "config/table.h"
#include "phi3tune/config/settings.h"

namespace phi3tune::config {
namespace {

void add_range(io::Json& json, const Range& range) {
  if (std::isfinite(range.low)) {
    json[range.low_open ? "exclusiveMinimum" : "minimum"] = range.low;
  }
  if (std::isfinite(range.high)) {
    json[range.high_open ? "exclusiveMaximum" : "maximum"] = range.high;
  }
}

io::Json number_schema(const char* type, const Range& range) {
  io::Json json{{"type", type}};
  add_range(json, range);
  return json;
}

io::Json records_schema();

io::Json type_schema(const ValueType& type) {
  const io::Json text{{"type", "string"}};
  switch (type.kind) {
    case Kind::kInteger:
      return number_schema("integer", type.range);
    case Kind::kNumber:
      return number_schema("number", type.range);
    case Kind::kBoolean:
      return {{"type", "boolean"}};
    case Kind::kText:
    case Kind::kInputPath:
    case Kind::kOutputPath:
      return text;
    case Kind::kChoice: {
      io::Json values = io::Json::array();
      for (const auto& choice : type.choices) {
        values.push_back(choice_json(choice));
      }
      const auto other = type.integers ? number_schema("integer", type.range) : text;
      return type.open ? io::Json{{"anyOf", {{{"enum", values}}, other}}} : io::Json{{"enum", values}};
    }
    case Kind::kTextList:
      return {{"anyOf", {text, {{"type", "array"}, {"items", type.integers ? io::Json{{"type", "integer"}} : text}}}}};
    case Kind::kMap:
      return {{"type", "object"},
              {"additionalProperties",
               std::isfinite(type.range.low) ? number_schema(type.integers ? "integer" : "number", type.range) : text}};
    case Kind::kRecords:
      return records_schema();
  }
  return io::Json::object();
}

io::Json translated(const Alias& alias, io::Json type) {
  switch (alias.translation) {
    case Translation::kBits:
      return {{"enum", {4}}};
    case Translation::kLastLayers:
      return {{"type", "integer"}};
    case Translation::kOneLayer:
      return {{"anyOf", {std::move(type), {{"type", "integer"}}}}};
    case Translation::kSame:
    case Translation::kInverse:
      break;
  }
  return type;
}

// Null stands for the default everywhere.
io::Json nullable(io::Json type) { return {{"anyOf", {std::move(type), {{"type", "null"}}}}}; }

template <typename Options>
io::Json object_schema(const std::vector<Setting<Options>>& table) {
  io::Json properties = io::Json::object();
  io::Json required = io::Json::array();
  for (const auto& setting : table) {
    if (setting.later) {
      continue;
    }
    auto type = type_schema(setting.type);
    auto entry = setting.required ? type : nullable(type);
    entry["description"] = setting.doc;
    if (!setting.required && setting.stands_for.empty()) {
      if (auto value = setting.show(Options()); !value.is_null()) {
        entry["default"] = std::move(value);
      }
    }
    properties[setting.name] = std::move(entry);
    for (const auto& alias : setting.aliases) {
      auto other = nullable(translated(alias, type));
      other["description"] =
          fmt::format("{}'s name of {}{}.", alias.peers, setting.name,
                      alias.translation == Translation::kInverse ? ", with the opposite meaning" : "");
      properties[alias.name] = std::move(other);
    }
    if (setting.required && setting.aliases.empty()) {
      required.push_back(setting.name);
    }
  }
  // A setting with other names may come under any of them, or from the command line.
  io::Json json{{"type", "object"}, {"additionalProperties", false}, {"properties", std::move(properties)}};
  if (!required.empty()) {
    json["required"] = std::move(required);
  }
  return json;
}

io::Json records_schema() {
  const io::Json entry{{"anyOf", {object_schema(dataset_settings()), {{"type", "string"}}}}};
  return {{"anyOf", {{{"type", "array"}, {"items", entry}}, {{"type", "string"}}}}};
}

}  // namespace

std::string settings_schema() {
  io::Json json{{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", "Settings of phi3-tune"}};
  json.update(object_schema(run_settings()));
  return json.dump(2) + "\n";
}

}  // namespace phi3tune::config
