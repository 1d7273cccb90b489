#include "cli/completion.h"

#include <fmt/format.h>

#include <vector>

#include "cli/command_line.h"

namespace phi3tune::cli {
namespace {

struct Option {
  std::string name;  // "--config"
  std::string does;
  bool valued = false;
  std::vector<std::string> values;
};

struct Command {
  std::string path;  // "config show"; empty: the program itself
  std::string does;
  std::vector<std::string> below;
  std::vector<Option> options;
  std::vector<std::string> arguments;  // words it may take, if they can be listed
};

std::vector<Option> options_of(const CLI::App& app, bool settings) {
  std::vector<Option> options;
  for (const auto* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) {
      options.push_back({"--" + name, option->get_description(), option->get_expected_max() > 0,
                         name == "gpu" ? commands::plan_gpu_names() : std::vector<std::string>()});
    }
  }
  if (!app.get_name().empty() && app.get_option_no_throw("--json") == nullptr) {
    options.push_back({"--json", "Result as one JSON object", false, {}});
  }
  if (settings) {
    for (const auto& setting : config::setting_names()) {
      if (setting.name == setting.setting) {
        options.push_back({"--" + setting.name, "setting", true, setting.choices});
      }
    }
  }
  return options;
}

void collect(const CommandLine& line, const CLI::App& app, const std::string& path, std::vector<Command>& commands) {
  Command command{path, app.get_description(), {}, options_of(app, line.takes_settings(&app)), {}};
  if (path == "completion") {
    command.arguments = {"bash", "zsh", "fish"};
  } else if (path == "config explain") {
    for (const auto& setting : config::setting_names()) {
      command.arguments.push_back(setting.name);
    }
  }
  const auto place = commands.size();
  commands.push_back(command);
  for (const auto* below : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (below->get_group().empty()) {
      continue;  // hidden
    }
    commands[place].below.push_back(below->get_name());
    collect(line, *below, path.empty() ? below->get_name() : path + " " + below->get_name(), commands);
  }
}

// Words after a command, and after an option with known values: the cases of a shell's `case`.
std::string cases_of(const std::vector<Command>& commands) {
  std::string text;
  for (const auto& command : commands) {
    auto words = command.below;
    for (const auto& option : command.options) {
      words.push_back(option.name);
    }
    words.insert(words.end(), command.arguments.begin(), command.arguments.end());
    text += fmt::format("    '{}') words='{}' ;;\n", command.path, fmt::join(words, " "));
  }
  return text;
}

std::string values_of(const std::vector<Command>& commands) {
  std::string text;
  std::vector<std::string> done;
  for (const auto& command : commands) {
    for (const auto& option : command.options) {
      if (option.valued && std::find(done.begin(), done.end(), option.name) == done.end()) {
        done.push_back(option.name);
        text += fmt::format("    {}) values='{}' ;;\n", option.name, fmt::join(option.values, " "));
      }
    }
  }
  return text;
}

// Both shells: the command is the first word, or the first two of a command with commands of its own; words that begin
// with a dash come later.
constexpr const char* kBash = R"(# phi3-tune completion for bash: source it, or put it into /etc/bash_completion.d
_phi3_tune() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}" command='' words='' values=none
  if ((COMP_CWORD > 1)) && [[ ${{COMP_WORDS[1]}} != -* ]]; then command="${{COMP_WORDS[1]}}"; fi
  case "$command" in
    {2}) if ((COMP_CWORD > 2)); then command+=" ${{COMP_WORDS[2]}}"; fi ;;
  esac
  if ((COMP_CWORD > 1)) && [[ -z $command ]]; then command=train; fi
  case "$prev" in
{1}  esac
  if [[ $values != none ]]; then words="$values"; else
  case "$command" in
{0}  esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o default -F _phi3_tune phi3-tune
)";

constexpr const char* kZsh = R"(#compdef phi3-tune
# phi3-tune completion for zsh: put it as _phi3-tune into a folder of $fpath
_phi3_tune() {{
  local prev="${{words[CURRENT-1]}}" command='' values=none
  local -a typed=("${{words[@]}}")
  if ((CURRENT > 2)) && [[ ${{typed[2]}} != -* ]]; then command="${{typed[2]}}"; fi
  case "$command" in
    {2}) if ((CURRENT > 3)); then command+=" ${{typed[3]}}"; fi ;;
  esac
  if ((CURRENT > 2)) && [[ -z $command ]]; then command=train; fi
  local words=''
  case "$prev" in
{1}  esac
  if [[ $values != none ]]; then words="$values"; else
  case "$command" in
{0}  esac
  fi
  if [[ -n $words ]]; then compadd -- ${{=words}}; fi
  _files
}}
_phi3_tune "$@"
)";

// In single quotes of fish.
std::string quoted(std::string text) {
  for (size_t at = text.find('\''); at != std::string::npos; at = text.find('\'', at + 2)) {
    text.insert(at, 1, '\\');
  }
  return "'" + text + "'";
}

std::string fish_script(const std::vector<Command>& commands) {
  std::string text = "# phi3-tune completion for fish: put it into ~/.config/fish/completions/phi3-tune.fish\n";
  for (const auto& command : commands) {
    if (command.path.empty()) {
      continue;
    }
    const auto space = command.path.find(' ');
    const auto first = command.path.substr(0, space);
    std::string condition = "__fish_seen_subcommand_from " + first;
    if (space == std::string::npos) {
      text +=
          fmt::format("complete -c phi3-tune -n __fish_use_subcommand -f -a {} -d {}\n", first, quoted(command.does));
    } else {
      const auto second = command.path.substr(space + 1);
      text +=
          fmt::format("complete -c phi3-tune -n {} -f -a {} -d {}\n", quoted(condition), second, quoted(command.does));
      condition += "; and __fish_seen_subcommand_from " + second;
    }
    if (!command.arguments.empty()) {
      text += fmt::format("complete -c phi3-tune -n {} -f -a {}\n", quoted(condition),
                          quoted(fmt::format("{}", fmt::join(command.arguments, " "))));
    }
    for (const auto& option : command.options) {
      text +=
          fmt::format("complete -c phi3-tune -n {} -l {}{}{} -d {}\n", quoted(condition), option.name.substr(2),
                      option.valued ? " -r" : "",
                      option.values.empty() ? "" : " -f -a " + quoted(fmt::format("{}", fmt::join(option.values, " "))),
                      quoted(option.does));
    }
  }
  return text;
}

}  // namespace

std::string completion_script(const CommandLine& command_line, const std::string& shell) {
  std::vector<Command> commands;
  collect(command_line, command_line.app(), "", commands);
  if (shell == "fish") {
    return fish_script(commands);
  }
  std::vector<std::string> parents;
  for (const auto& command : commands) {
    if (!command.path.empty() && !command.below.empty()) {
      parents.push_back(command.path);
    }
  }
  return fmt::format(fmt::runtime(shell == "bash" ? kBash : kZsh), cases_of(commands), values_of(commands),
                     fmt::join(parents, "|"));
}

}  // namespace phi3tune::cli
