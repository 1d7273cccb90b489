// The words of the command line, before the parser of options sees them.
//
// Settings are options of several commands (`--lora_r 8`), but there are too many of them, and too many names of each,
// to be options of the parser: what it does not know and a command that takes settings may have is taken out here.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace phi3tune::cli {

using Words = std::vector<std::string>;

// Takes every --json out; true if there was one. Words behind a lone "--" are left alone.
bool take_json(Words& words);

// The options that the parser knows of a command ("-h", "--help", "--config"), without and with a value.
struct Options {
  std::vector<std::string> flags, valued;
};

// Takes the settings out of `words` from `begin` on, in order. Throws ConfigError for a setting without a value, and
// for a slip in the name of a known option.
std::vector<std::pair<std::string, std::string>> take_settings(Words& words, size_t begin, const Options& options);

// For a command without settings (`command`: "phi3-tune merge"): throws ConfigError for the first word from `begin` on
// that begins as an option and is none, unless help is asked for. The parser would name a required one that is missing
// before it, though that may be the one misspelled.
void check_options(const Words& words, size_t begin, const Options& options, const std::string& command);

// Throws ConfigError: `word` is no command.
[[noreturn]] void refuse_command(const std::string& word, const std::vector<std::string>& commands);

}  // namespace phi3tune::cli
