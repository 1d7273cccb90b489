#include "commands/front/init_model.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/json.h"

namespace phi3tune::commands {
namespace {

namespace fs = std::filesystem;
using io::Json;

// The small tokenizer that comes with the program: beside an installed one, or in the source tree it was built from.
std::string own_tokenizer() {
  std::error_code code;
  const auto program = fs::read_symlink("/proc/self/exe", code);
  std::vector<fs::path> places{program.parent_path() / "../share/phi3-tune/tokenizer-small",
                               program.parent_path() / "../../data/tokenizer-small"};
#ifdef PHI3TUNE_DATA_DIR
  places.emplace_back(fs::path(PHI3TUNE_DATA_DIR) / "tokenizer-small");
#endif
  for (const auto& place : places) {
    if (fs::is_directory(place, code)) {
      return place.lexically_normal().string();
    }
  }
  throw ConfigError("the program's own small tokenizer was not found in {}; name one with --tokenizer DIR",
                    places.front().lexically_normal().string());
}

}  // namespace

int run_init_model(const InitModelOptions& options) {
  auto model = options.model;
  if (model.tokenizer.empty()) {
    model.tokenizer = own_tokenizer();
  }
  const auto report = phi3::init_model(model);
  if (report.stopped) {
    return static_cast<int>(ExitCode::kInterrupted);
  }
  if (options.json) {
    Json json = Json::object();
    json["path"] = model.folder;
    json["shape"] = model.shape;
    json["layers"] = report.config.num_layers;
    json["dtype"] = model.dtype;
    json["seed"] = model.seed;
    json["parameters"] = report.parameters;
    json["bytes"] = report.bytes;
    json["files"] = report.files;
    std::fputs((json.dump() + "\n").c_str(), stdout);
  } else {
    std::fputs(
        fmt::format("{}: {}, {} layers, {} parameters in {}, seed {}, {}\n", model.folder, model.shape,
                    report.config.num_layers, report.parameters, model.dtype, model.seed, format_bytes(report.bytes))
            .c_str(),
        stdout);
  }
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace phi3tune::commands
