// Completion scripts, made from the commands and the table of settings.
#pragma once

#include <string>

namespace phi3tune::cli {

class CommandLine;

// `shell`: bash, zsh or fish.
std::string completion_script(const CommandLine& command_line, const std::string& shell);

}  // namespace phi3tune::cli
