// One row of the table of settings, and the builders that write rows.
//
// Options is RunOptions, or DatasetOptions for the keys of one data set. Defaults stand in the option structs alone:
// a row shows its default by showing a fresh Options.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "config/reader.h"
#include "phi3tune/config/options.h"
#include "phi3tune/config/settings.h"
#include "phi3tune/io/json.h"
#include "phi3tune/io/yaml.h"

namespace phi3tune::config {

enum class Kind { kInteger, kNumber, kBoolean, kText, kInputPath, kOutputPath, kChoice, kTextList, kMap, kRecords };

struct ValueType {
  Kind kind = Kind::kText;
  Range range{};                       // numbers, and the numbers of a map
  bool integers = false;               // map, open choice, list: whole numbers
  bool open = false;                   // choice: others are read too (device: cuda:1)
  std::vector<std::string> choices{};  // names that work
  std::vector<std::string> later{};    // names that do not work yet
  std::string wanted{};                // in words, for faults, explain and the list
};

// kBits: 4 is true. kOneLayer: a number is that layer; kLastLayers: so many of the last, -1 all.
enum class Translation { kSame, kInverse, kBits, kOneLayer, kLastLayers };

struct Alias {
  std::string name;
  std::string peers;  // whose name it is: "Hugging Face, LLaMA-Factory"
  Translation translation = Translation::kSame;
};

template <typename Options>
struct Setting {
  std::string name;
  std::string section;
  std::string doc;  // one line
  ValueType type;
  std::vector<Alias> aliases;
  std::string default_text;  // in words, where a fresh Options shows null
  std::string group;         // at most one setting of a group is given; the one of the highest source counts
  bool later = false;        // does not work yet: naming it is an error
  bool required = false;
  OnResume on_resume = OnResume::kSame;
  std::string stands_for;  // only another way to set this one: never part of the resolved settings
  // Where the setting means something; `decided_by` are the settings that decide it.
  std::function<bool(const Options&)> applies;
  std::string applies_text;
  std::vector<std::string> decided_by;

  std::function<void(const io::YamlNode&, Reader&, Options&)> read;
  std::function<io::Json(const Options&)> show;

  Setting& also(std::string other, std::string peers, Translation translation = Translation::kSame) {
    aliases.push_back({std::move(other), std::move(peers), translation});
    return *this;
  }
  Setting& unset(std::string text) {
    default_text = std::move(text);
    return *this;
  }
  Setting& one_of(std::string rivals) {
    group = std::move(rivals);
    return *this;
  }
  Setting& must() {
    required = true;
    return *this;
  }
  // A run that goes on from a checkpoint may say otherwise.
  Setting& free_on_resume() {
    on_resume = OnResume::kFree;
    return *this;
  }
  Setting& more_on_resume() {
    on_resume = OnResume::kMoreSteps;
    return *this;
  }
  Setting& only_for(std::string other) {
    stands_for = std::move(other);
    return *this;
  }
  Setting& when(std::string text, std::vector<std::string> deciders, std::function<bool(const Options&)> predicate) {
    applies_text = std::move(text);
    decided_by = std::move(deciders);
    applies = std::move(predicate);
    return *this;
  }
};

template <typename Options>
class SettingList {
 public:
  void section(std::string name) { section_ = std::move(name); }
  void add(Setting<Options> setting) {
    setting.section = section_;
    rows_.push_back(std::move(setting));
  }
  std::vector<Setting<Options>> take() { return std::move(rows_); }

 private:
  std::string section_;
  std::vector<Setting<Options>> rows_;
};

// ---- fields: at(&RunOptions::lora, &LoraOptions::rank) is a function from options to that field ----

template <typename Outer, typename Inner, typename Value>
auto at(Inner Outer::*outer, Value Inner::*inner) {
  return [=](auto& options) -> auto& { return (options.*outer).*inner; };
}
template <typename Outer, typename Value>
auto at(Value Outer::*field) {
  return [=](auto& options) -> auto& { return options.*field; };
}

template <typename T>
struct Plain {
  using type = T;
};
template <typename T>
struct Plain<std::optional<T>> {
  using type = T;
};
// The value's type: int64_t for int64_t and for std::optional<int64_t>.
template <typename Options, typename Field>
using ValueOf = typename Plain<std::remove_cvref_t<std::invoke_result_t<Field, Options&>>>::type;

template <typename T>
io::Json to_json(const T& value) {
  return io::Json(value);
}
template <typename T>
io::Json to_json(const std::optional<T>& value) {
  return value ? io::Json(*value) : io::Json(nullptr);
}
io::Json to_json(const std::string& value);  // empty: null

// ---- rows ----

template <typename Options>
Setting<Options> row(std::string name, ValueType type, std::string doc) {
  Setting<Options> setting;
  setting.name = std::move(name);
  setting.type = std::move(type);
  setting.doc = std::move(doc);
  return setting;
}

template <typename Options, typename Field>
Setting<Options> integer(std::string name, Field field, Range range, std::string doc) {
  auto setting = row<Options>(std::move(name),
                              {.kind = Kind::kInteger, .range = range, .wanted = wanted_in("an integer", range)}, doc);
  setting.read = [=](const io::YamlNode& node, Reader& reader, Options& options) {
    if (const auto value = reader.integer(node, range)) {
      field(options) = static_cast<ValueOf<Options, Field>>(*value);
    }
  };
  setting.show = [=](const Options& options) { return to_json(field(options)); };
  return setting;
}

template <typename Options, typename Field>
Setting<Options> number(std::string name, Field field, Range range, std::string doc) {
  auto setting = row<Options>(std::move(name),
                              {.kind = Kind::kNumber, .range = range, .wanted = wanted_in("a number", range)}, doc);
  setting.read = [=](const io::YamlNode& node, Reader& reader, Options& options) {
    if (const auto value = reader.number(node, range)) {
      field(options) = *value;
    }
  };
  setting.show = [=](const Options& options) { return to_json(field(options)); };
  return setting;
}

// From 1 on steps, below a fraction of all steps.
template <typename Options, typename Field>
Setting<Options> steps_or_fraction(std::string name, Field field, std::string doc) {
  const Range range{.low = 0, .high = kMostSteps, .low_open = true};
  const std::string wanted = wanted_in("an integer", count_from(1)) + ", or a fraction > 0 and < 1";
  auto setting = row<Options>(std::move(name), {.kind = Kind::kNumber, .range = range, .wanted = wanted}, doc);
  setting.read = [=](const io::YamlNode& node, Reader& reader, Options& options) {
    const auto value = reader.number(node, range);
    if (value && *value >= 1 && *value != static_cast<double>(static_cast<int64_t>(*value))) {
      reader.wrong(node, wanted);
    } else if (value) {
      field(options) = *value;
    }
  };
  setting.show = [=](const Options& options) { return to_json(field(options)); };
  return setting;
}

template <typename Options, typename Field>
Setting<Options> boolean(std::string name, Field field, std::string doc) {
  auto setting = row<Options>(std::move(name), {.kind = Kind::kBoolean, .wanted = "true or false"}, doc);
  setting.read = [=](const io::YamlNode& node, Reader& reader, Options& options) {
    if (const auto value = reader.boolean(node)) {
      field(options) = *value;
    }
  };
  setting.show = [=](const Options& options) { return to_json(field(options)); };
  return setting;
}

template <typename Options, typename Field>
Setting<Options> text(std::string name, Field field, std::string doc) {
  auto setting = row<Options>(std::move(name), {.kind = Kind::kText, .wanted = "a text"}, doc);
  setting.read = [=](const io::YamlNode& node, Reader& reader, Options& options) {
    if (auto value = reader.text(node)) {
      field(options) = std::move(*value);
    }
  };
  setting.show = [=](const Options& options) { return to_json(field(options)); };
  return setting;
}

template <typename Options, typename Field>
Setting<Options> input_path(std::string name, Field field, std::string doc) {
  auto setting = row<Options>(std::move(name), {.kind = Kind::kInputPath, .wanted = "a path"}, doc);
  setting.read = [=](const io::YamlNode& node, Reader& reader, Options& options) {
    if (auto value = reader.input_path(node)) {
      field(options) = std::move(*value);
    }
  };
  setting.show = [=](const Options& options) { return to_json(field(options)); };
  return setting;
}

template <typename Options, typename Field>
Setting<Options> text_list(std::string name, Field field, std::string doc) {
  auto setting = row<Options>(std::move(name), {.kind = Kind::kTextList, .wanted = "a list of texts"}, doc);
  setting.read = [=](const io::YamlNode& node, Reader& reader, Options& options) {
    if (auto value = reader.text_list(node)) {
      field(options) = std::move(*value);
    }
  };
  setting.show = [=](const Options& options) { return to_json(field(options)); };
  return setting;
}

// A name that stands for a value. The first name of a value is the one shown; the others are read as well.
template <typename Value>
struct Named {
  Value value;
  std::vector<std::string> names;
};

// The index of the alternative that `node` names, or nullopt after a fault. `true`/`false` among the names also take
// yes/no/on/off.
std::optional<size_t> read_choice(const io::YamlNode& node, Reader& reader, const ValueType& type,
                                  const std::vector<std::vector<std::string>>& names);
// "true" and "false" as booleans, "64" as a number, everything else as text.
io::Json choice_json(const std::string& name);
ValueType choice_type(std::vector<std::string> works, std::vector<std::string> later);

// A choice among the values of a field: an enum, a boolean or a text.
template <typename Options, typename Field>
Setting<Options> choice(std::string name, Field field, std::vector<Named<ValueOf<Options, Field>>> values,
                        std::vector<std::string> later, std::string doc) {
  std::vector<std::string> works;
  std::vector<std::vector<std::string>> names;
  for (const auto& value : values) {
    works.push_back(value.names.front());
    names.push_back(value.names);
  }
  auto setting = row<Options>(std::move(name), choice_type(works, std::move(later)), doc);
  setting.read = [field, values, names, type = setting.type](const io::YamlNode& node, Reader& reader,
                                                             Options& options) {
    if (const auto index = read_choice(node, reader, type, names)) {
      field(options) = values[*index].value;
    }
  };
  setting.show = [field, values](const Options& options) {
    for (const auto& value : values) {
      if (field(options) == value.value) {
        return choice_json(value.names.front());
      }
    }
    return io::Json(nullptr);
  };
  return setting;
}

// A choice that has one working value and is stored nowhere: the program can do nothing else.
template <typename Options>
Setting<Options> fixed(std::string name, std::vector<std::string> names, std::vector<std::string> later,
                       std::string doc) {
  auto setting = row<Options>(std::move(name), choice_type({names.front()}, std::move(later)), doc);
  setting.read = [names, type = setting.type](const io::YamlNode& node, Reader& reader, Options&) {
    (void)read_choice(node, reader, type, {names});
  };
  setting.show = [names](const Options&) { return choice_json(names.front()); };
  return setting;
}

template <typename Options>
Setting<Options> later(std::string name, std::string doc) {
  auto setting = row<Options>(std::move(name), {}, std::move(doc));
  setting.later = true;
  return setting;
}

}  // namespace phi3tune::config
