#include "cli/arguments.h"

#include <algorithm>
#include <cctype>
#include <optional>

#include "phi3tune/config/settings.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

namespace phi3tune::cli {
namespace {

bool contains(const std::vector<std::string>& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

const config::SettingName* find_setting(std::string name) {
  std::replace(name.begin(), name.end(), '-', '_');
  const auto& names = config::setting_names();
  const auto found = std::find_if(names.begin(), names.end(), [&](const auto& one) { return one.name == name; });
  return found == names.end() ? nullptr : &*found;
}

std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates) {
  const std::vector<std::string_view> views(candidates.begin(), candidates.end());
  const auto near = nearest_name(word, views);
  return near ? std::optional(std::string(*near)) : std::nullopt;
}

// -1 and -.5 are values, -c is an option.
bool is_value(const std::string& word) {
  return !word.starts_with("-") || (word.size() > 1 && (word[1] == '.' || (word[1] >= '0' && word[1] <= '9')));
}

std::vector<std::string> all_of(const Options& options) {
  auto all = options.flags;
  all.insert(all.end(), options.valued.begin(), options.valued.end());
  return all;
}

// A slip in an option's name would otherwise be reported as an unknown setting.
void check_option_slip(const std::string& option, const Options& options) {
  const auto known = all_of(options);
  auto names = known;
  for (const auto& one : config::setting_names()) {
    names.push_back("--" + one.name);
  }
  const auto near = nearest(option, names);
  if (near && contains(known, *near)) {
    throw ConfigError("{} is no option; did you mean {}?", option, *near);
  }
}

}  // namespace

bool take_json(Words& words) {
  const auto end = std::find(words.begin(), words.end(), "--");
  const auto kept = std::remove(words.begin(), end, "--json");
  const bool found = kept != end;
  words.erase(kept, end);
  return found;
}

std::vector<std::pair<std::string, std::string>> take_settings(Words& words, size_t begin, const Options& options) {
  std::vector<std::pair<std::string, std::string>> settings;
  Words kept(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(begin));
  for (size_t i = begin; i < words.size(); ++i) {
    const auto& word = words[i];
    const auto equals = word.find('=');
    const auto option = word.substr(0, equals);
    if (!word.starts_with("--") || word == "--" || contains(options.flags, option)) {
      kept.push_back(word);
      continue;
    }
    const bool has_next = i + 1 < words.size();
    if (contains(options.valued, option)) {
      kept.push_back(word);
      if (equals == std::string::npos && has_next) {
        kept.push_back(words[++i]);
      }
      continue;
    }
    auto name = option.substr(2);
    const auto* setting = find_setting(name.substr(0, name.find('.')));
    if (setting == nullptr) {
      check_option_slip(option, options);
    }
    if (equals != std::string::npos) {
      settings.emplace_back(name, word.substr(equals + 1));
    } else if (has_next && is_value(words[i + 1])) {
      settings.emplace_back(name, words[++i]);
    } else if (setting == nullptr || setting->boolean) {
      settings.emplace_back(name, "true");
    } else {
      throw ConfigError("{} wants a value: {} VALUE (or {}=VALUE for one that begins with -)", option, option, option);
    }
  }
  words = std::move(kept);
  return settings;
}

void check_options(const Words& words, size_t begin, const Options& options, const std::string& command) {
  const auto first = words.begin() + static_cast<std::ptrdiff_t>(begin);
  const auto end = std::find(first, words.end(), "--");
  if (std::find_if(first, end, [](const auto& word) { return word == "-h" || word == "--help"; }) != end) {
    return;  // it is helped, whatever else stands there
  }
  const auto last = static_cast<size_t>(end - words.begin());
  for (size_t i = begin; i < last; ++i) {
    const auto& word = words[i];
    const bool is_long = word.starts_with("--");
    const size_t dashes = is_long ? 2 : 1;
    if (!word.starts_with("-") || word.size() <= dashes ||
        std::isalpha(static_cast<unsigned char>(word[dashes])) == 0) {
      continue;
    }
    const auto named = word.substr(0, word.find_first_of("= \t\r\n"));
    const auto option = is_long ? named : word.substr(0, 2);
    if (contains(options.valued, option)) {
      i += word == option || word == option + "=" ? 1 : 0;
    } else if (!contains(options.flags, option)) {
      const auto near = nearest(is_long ? named : "-" + named, all_of(options));
      throw ConfigError("{} is no option of {}; {}", named, command,
                        near ? "did you mean " + *near + "?" : "see " + command + " --help");
    }
  }
}

void refuse_command(const std::string& word, const std::vector<std::string>& commands) {
  if (word.ends_with(".yaml") || word.ends_with(".yml")) {
    throw ConfigError("{} is no command; did you mean --config {}?", word, word);
  }
  const auto near = nearest(word, commands);
  throw ConfigError("{} is no command{}; `phi3-tune --help` lists them", word,
                    near ? "; did you mean " + *near + "?" : "");
}

}  // namespace phi3tune::cli
