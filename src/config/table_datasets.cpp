// The keys of one entry of `datasets`, and the list itself.
#include <fmt/format.h>

#include "config/names.h"
#include "config/table.h"

namespace phi3tune::config {
namespace {

using D = DatasetOptions;

bool holds_messages(const D& dataset) {
  return dataset.format == RecordFormat::kAuto || dataset.format == RecordFormat::kMessages ||
         dataset.format == RecordFormat::kShareGpt;
}
bool holds_roles(const D& dataset) { return dataset.format != RecordFormat::kText; }

// {role: from, content: value}: under which names a message keeps its role and its text.
Setting<D> message_properties() {
  auto setting = row<D>("message_property_mappings", {.kind = Kind::kMap, .wanted = "a mapping with role and content"},
                        "Names of a message's members that hold its role and its text.");
  setting.read = [](const io::YamlNode& node, Reader& reader, D& dataset) {
    if (node.kind != io::YamlNode::Kind::kMapping) {
      reader.wrong(node, "a mapping with role and content");
      return;
    }
    for (const auto& [key, value] : node.members) {
      auto inside = reader.inside("." + key.scalar);
      if (key.scalar != "role" && key.scalar != "content") {
        inside.fault(key, fmt::format("found \"{}\"; wanted role or content", key.scalar));
      } else if (auto name = inside.text(value)) {
        (key.scalar == "role" ? dataset.field_role : dataset.field_content) = std::move(*name);
      }
    }
  };
  setting.show = [](const D& dataset) {
    return io::Json{{"role", dataset.field_role}, {"content", dataset.field_content}};
  };
  return setting;
}

std::vector<Setting<D>> make_table() {
  SettingList<D> list;
  list.section("Data set");
  list.add(input_path<D>("path", at(&D::path), "JSONL or JSON file, glob or folder.").must());
  list.add(choice<D>("type", at(&D::format),
                     {{RecordFormat::kAuto, {"auto"}},
                      {RecordFormat::kMessages, {"chat_template", "messages"}},
                      {RecordFormat::kShareGpt, {"sharegpt"}},
                      {RecordFormat::kAlpaca, {"alpaca"}},
                      {RecordFormat::kPromptCompletion, {"prompt_completion"}},
                      {RecordFormat::kText, {"completion", "text"}}},
                     {"pretokenized", "dpo", "kto"},
                     "Format of the records; auto: seen from their members. chat_template holds messages, completion "
                     "plain text.")
               .also("format_type", "Unsloth")
               .also("formatting", "LLaMA-Factory"));
  list.add(text<D>("field_messages", at(&D::field_messages), "Member that holds the messages.")
               .when("type is auto, chat_template or sharegpt", {"type"}, holds_messages));
  list.add(message_properties().when("type is auto, chat_template or sharegpt", {"type"}, holds_messages));
  list.add(text_list<D>("roles_to_train", at(&D::roles_to_train), "Roles whose messages are trained.")
               .when("type is not completion", {"type"}, holds_roles));
  list.add(choice<D>("train_on_eos", at(&D::train_on_eos),
                     {{TrainOnEos::kTurn, {"turn"}},
                      {TrainOnEos::kLast, {"last"}},
                      {TrainOnEos::kAll, {"all"}},
                      {TrainOnEos::kNone, {"none"}}},
                     {}, "Which end tokens are trained: of trained turns, the last, all, or none.")
               .when("type is not completion", {"type"}, holds_roles));
  list.add(text<D>("message_field_weight", at(&D::message_field_weight),
                   "Member of a message that holds the weight of its loss; 0: not trained.")
               .when("type is auto, chat_template or sharegpt", {"type"}, holds_messages));
  list.add(text<D>("message_field_training", at(&D::message_field_training),
                   "Member of a message that says whether it is trained.")
               .when("type is auto, chat_template or sharegpt", {"type"}, holds_messages));
  list.add(integer<D>("samples", at(&D::samples), count_from(1), "Only the first records.")
               .also("max_samples", "LLaMA-Factory")
               .unset("all"));
  list.add(later<D>("weight", "How often the data set is drawn, over the others."));
  return list.take();
}

// One entry: a mapping of the table's keys, or a path alone.
D read_dataset_entry(const io::YamlNode& node, Reader& reader) {
  D dataset;
  if (node.kind == io::YamlNode::Kind::kScalar) {
    auto inside = reader.inside(".path");
    if (auto path = inside.input_path(node)) {
      dataset.path = std::move(*path);
    }
    return dataset;
  }
  if (node.kind != io::YamlNode::Kind::kMapping) {
    reader.wrong(node, "a mapping with a path, or a path");
    return dataset;
  }
  std::vector<std::pair<const Setting<D>*, const io::YamlNode*>> given;
  bool has_path = false;
  bool refused = false;  // perhaps it was meant to be path
  for (const auto& [key, value] : node.members) {
    auto inside = reader.inside("." + key.scalar);
    const auto* setting = find_dataset_key(key.scalar);
    if (setting == nullptr || setting->later) {
      reader.fault(key, refusal_of_dataset_key(key.scalar));
      refused = true;
      continue;
    }
    for (const auto& [earlier, other] : given) {
      if (earlier == setting && other->scalar != value.scalar) {
        inside.fault(key, fmt::format("stands for {}, which has another value at {}; keep one", setting->name,
                                      other->position.text()));
      }
    }
    given.emplace_back(setting, &value);
    if (value.kind != io::YamlNode::Kind::kNull) {
      has_path = has_path || setting->required;
      setting->read(value, inside, dataset);
    }
  }
  for (const auto& [setting, value] : given) {
    if (setting->applies && value->kind != io::YamlNode::Kind::kNull && !setting->applies(dataset)) {
      reader.inside("." + setting->name)
          .fault(*value, fmt::format("is used only where {}; take it out", setting->applies_text));
    }
  }
  if (!has_path && !refused) {
    reader.fault(node, "found no path; wanted path: <file, glob or folder>");
  }
  return dataset;
}

}  // namespace

const std::vector<Setting<D>>& dataset_settings() {
  static const auto table = make_table();
  return table;
}

void read_datasets(const io::YamlNode& node, Reader& reader, std::vector<D>& datasets) {
  datasets.clear();
  if (node.kind != io::YamlNode::Kind::kSequence) {
    if (node.kind == io::YamlNode::Kind::kScalar) {
      datasets.push_back(read_dataset_entry(node, reader));
    } else {
      reader.wrong(node, "a list of data sets: - path: <file, glob or folder>");
    }
    return;
  }
  for (size_t i = 0; i < node.items.size(); ++i) {
    auto inside = reader.inside(fmt::format("[{}]", i));
    datasets.push_back(read_dataset_entry(node.items[i], inside));
  }
}

io::Json show_datasets(const std::vector<D>& datasets) {
  auto list = io::Json::array();
  for (const auto& dataset : datasets) {
    auto entry = io::Json::object();
    for (const auto& setting : dataset_settings()) {
      if (!setting.later && (!setting.applies || setting.applies(dataset))) {
        entry[setting.name] = setting.show(dataset);
      }
    }
    list.push_back(std::move(entry));
  }
  return list;
}

}  // namespace phi3tune::config
