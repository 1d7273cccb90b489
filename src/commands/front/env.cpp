#include "commands/front/env.h"

#include <fmt/format.h>
#include <link.h>
#include <sched.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "commands/front/engine.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/core/version.h"
#include "phi3tune/io/json.h"

namespace phi3tune::commands {
namespace {

std::string trimmed(std::string text) {
  const auto begin = text.find_first_not_of(" \t");
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(" \t\n") - begin + 1);
}

// The value behind the first "name : value" of a /proc file.
std::string proc_value(const char* file, std::string_view name) {
  std::ifstream stream(file);
  for (std::string line; std::getline(stream, line);) {
    const auto colon = line.find(':');
    if (colon != std::string::npos && trimmed(line.substr(0, colon)) == name) {
      return trimmed(line.substr(colon + 1));
    }
  }
  return {};
}

std::string first_line(const char* file) {
  std::ifstream stream(file);
  std::string line;
  std::getline(stream, line);
  return line;
}

std::string operating_system() {
  utsname names{};
  const bool known = uname(&names) == 0;
  std::ifstream stream("/etc/os-release");
  std::string pretty;
  for (std::string line; std::getline(stream, line);) {
    if (line.starts_with("PRETTY_NAME=")) {
      pretty = line.substr(12);
      std::erase(pretty, '"');
    }
  }
  return fmt::format("{}, {} {}, {}", pretty.empty() ? "unknown" : pretty, known ? names.sysname : "?",
                     known ? names.release : "?", known ? names.machine : "?");
}

// Of the CPU's features those that the program chooses by.
std::string cpu_features() {
  std::istringstream flags(proc_value("/proc/cpuinfo", "flags"));
  const std::vector<std::string> wanted{"avx2",        "fma",         "f16c",     "avx512f",     "avx512bw",
                                        "avx512_vbmi", "avx512_bf16", "amx_bf16", "avx512_vnni", "amx_tile"};
  std::string text;
  for (std::string flag; flags >> flag;) {
    if (std::find(wanted.begin(), wanted.end(), flag) != wanted.end()) {
      text += (text.empty() ? "" : " ") + flag;
    }
  }
  return text.empty() ? "none of those the program chooses by" : text;
}

std::string threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) {
    return "unknown";
  }
  return fmt::format("{} this process may use", CPU_COUNT(&set));
}

std::string memory() {
  const auto kib = [](std::string_view name) {
    const auto value = proc_value("/proc/meminfo", name);
    return static_cast<uint64_t>(parse_int(value.substr(0, value.find(' '))).value_or(0)) * 1024;
  };
  auto text = fmt::format("{}, {} free", format_bytes(kib("MemTotal")), format_bytes(kib("MemAvailable")));
  for (const char* file : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const auto limit = parse_int(first_line(file));
    if (limit && static_cast<uint64_t>(*limit) < kib("MemTotal")) {
      text += fmt::format(", limited to {}", format_bytes(static_cast<uint64_t>(*limit)));
    }
  }
  return text;
}

std::string compiler() {
#if defined(__clang__)
  return fmt::format("clang {}", __clang_version__);
#elif defined(__GNUC__)
  return fmt::format("g++ {}", __VERSION__);
#else
  return "unknown";
#endif
}

std::string nvidia_driver() {
  const auto version = first_line("/proc/driver/nvidia/version");
  return version.empty() ? "none (no /proc/driver/nvidia/version)" : trimmed(version);
}

// Every shared library of the process by the path it was loaded from, without the compiler's own.
std::vector<std::string> loaded_libraries() {
  std::vector<std::string> paths;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* list) {
        if (info->dlpi_name != nullptr && info->dlpi_name[0] == '/') {
          static_cast<std::vector<std::string>*>(list)->emplace_back(info->dlpi_name);
        }
        return 0;
      },
      &paths);
  std::sort(paths.begin(), paths.end());
  return paths;
}

EngineFacts gather_facts() {
  EngineFacts facts{{"phi3-tune", kVersion},
                    {"program", program_folder() + "/phi3-tune"},
                    {"compiler", compiler()},
                    {"system", operating_system()},
                    {"cpu", proc_value("/proc/cpuinfo", "model name")},
                    {"cpu features", cpu_features()},
                    {"cores", threads()},
                    {"memory", memory()},
                    {"NVIDIA driver", nvidia_driver()}};
  try {
    const auto engine = Engine::load();
    facts.emplace_back("engine", program_folder() + "/" + kEngineLibrary);
    engine.describe(facts);
  } catch (const Error& error) {
    facts.emplace_back("engine", fmt::format("none: {}", error.what()));
  }
  return facts;
}

}  // namespace

int run_env(const EnvOptions& options) {
  const auto facts = gather_facts();
  const auto libraries = loaded_libraries();
  if (options.json) {
    io::Json json = io::Json::object();
    for (const auto& [name, value] : facts) {
      json[name] = value;
    }
    json["libraries"] = libraries;
    std::fputs((json.dump() + "\n").c_str(), stdout);
    return static_cast<int>(ExitCode::kDone);
  }
  size_t width = 0;
  for (const auto& fact : facts) {
    width = std::max(width, fact.first.size());
  }
  for (const auto& [name, value] : facts) {
    std::fputs(fmt::format("{:<{}}  {}\n", name, width, value).c_str(), stdout);
  }
  std::fputs("libraries\n", stdout);
  for (const auto& path : libraries) {
    std::fputs(fmt::format("  {}\n", path).c_str(), stdout);
  }
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace phi3tune::commands
