// What a name means, and why a name is refused.
#pragma once

#include <string>
#include <string_view>

#include "config/table.h"

namespace phi3tune::config {

struct KnownName {
  const Setting<RunOptions>* setting = nullptr;  // null: no setting has this name
  const Alias* alias = nullptr;                  // null: the canonical name
};

KnownName find_name(std::string_view name);
const Setting<DatasetOptions>* find_dataset_key(std::string_view name);

// "lora_rnak is not a setting; did you mean lora_r?", "save_steps does not work yet ...", and for the names of other
// tools what to write instead. For names that find_name does not know, or that are of a setting that comes later.
std::string refusal_of(std::string_view name);
std::string refusal_of_dataset_key(std::string_view name);

// A key of another tool that has no counterpart here.
struct ForeignKey {
  std::string_view name;
  std::string_view tool;     // "an Axolotl key"; empty: an ambiguous name
  std::string_view instead;  // what to do
};
// Null if the name is none.
const ForeignKey* find_foreign_key(std::string_view name);

}  // namespace phi3tune::config
