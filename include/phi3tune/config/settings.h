// The settings of a run: from files, environment and command line to RunOptions, and every text about them (schema,
// explain, show, the README's list). All of it comes from one table, src/config/table_*.cpp.
//
// Precedence, lowest first: defaults, files in order, environment PHI3_TUNE__KEY, command line.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "phi3tune/config/options.h"

namespace phi3tune::config {

struct SettingsSources {
  std::vector<std::string> files{};  // YAML; a later file wins
  // From the command line: a setting or a path into one ("datasets.0.path"), and the value as typed. A later one wins.
  std::vector<std::pair<std::string, std::string>> overrides{};
  // Names that are skipped with a note though they are no settings, or do not work yet: for scripted migration.
  std::vector<std::string> allow_unknown{};
};

struct ResolvedSettings {
  RunOptions options;
  // Beside options.resolved, entry by entry: "run.yaml:3:9", "command line", "environment"; empty: the default.
  std::vector<std::string> origins;
};

// Reads the environment (PHI3_TUNE__*, and ${VAR} inside values) and the files; looks at no other file. Throws one
// ConfigError that holds every fault of every source, a line each: "file:line:column: what was found; what is wanted".
RunOptions load_settings(const SettingsSources& sources);
ResolvedSettings resolve_settings(const SettingsSources& sources);

// JSON Schema (2020-12) of a settings file: every setting that works, and its other names.
std::string settings_schema();
// What one setting means. `name`: a setting, one of its other names, or "datasets.KEY" for a key of a data set. Throws
// ConfigError for a name that is no setting, or one that does not work yet.
std::string explain_setting(std::string_view name);
std::string explain_setting_json(std::string_view name);
// The README's list, in Markdown.
std::string settings_markdown();
// YAML that resolves to the same settings again; where each value comes from stands behind it.
std::string show_settings(const ResolvedSettings& settings);
// {"setting": value, ...} in the table's order.
std::string show_settings_json(const ResolvedSettings& settings);

// What a run that goes on from a checkpoint may change: nothing else than where things lie and how they are shown, and
// how many steps there are.
enum class OnResume { kSame, kFree, kMoreSteps };
OnResume on_resume(std::string_view setting);

// For the command line and its completion.
struct SettingName {
  std::string name;                  // a setting that works, or another name of one
  std::string setting;               // its canonical name
  bool boolean = false;              // may stand without a value: --overwrite_output_dir
  std::vector<std::string> choices;  // values it knows, if they can be listed
};
const std::vector<SettingName>& setting_names();

}  // namespace phi3tune::config
