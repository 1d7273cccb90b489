// adapter_config.json: what passes has a finite scale above 0 for every module and is written and read again the same.
#include <cmath>

#include "fuzz.h"
#include "phi3tune/core/error.h"
#include "phi3tune/phi3/adapter_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace phi3tune;
  static fuzz::MemoryFile file;
  file.fill(fuzz::text_of(data, size));
  fuzz::reads_or_refuses(file.path(), [&] {
    const auto json = io::read_json_file<CheckpointError>(file.path());
    const auto config = phi3::parse_adapter_config(json, file.path());
    for (const auto kind : {phi3::LinearKind::kQkv, phi3::LinearKind::kDown}) {
      const auto module = phi3::linear_path(1, kind);
      fuzz::promise(std::isfinite(config.scale_of(module)), "a scale is finite");
      fuzz::promise(config.rank_of(module) > 0, "a rank is above 0");
      (void)config.targets(module);
    }
    io::Json again;
    io::JsonFault fault;
    const auto text = phi3::adapter_config_text(config);
    fuzz::promise(io::parse_json(text, again, fault), "what is written is JSON");
    const auto second = phi3::adapter_config_text(phi3::parse_adapter_config(again, "again"));
    fuzz::promise(text == second, "what is written reads back the same");
  });
  return 0;
}
