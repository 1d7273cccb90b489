// A settings file, from YAML to resolved options. What passes can be shown and resolves to the same settings again.
#include "fuzz.h"
#include "phi3tune/config/settings.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace phi3tune;
  static fuzz::MemoryFile file;
  static fuzz::MemoryFile shown;
  file.fill(fuzz::text_of(data, size));
  config::ResolvedSettings settings;
  if (!fuzz::reads_or_refuses(file.path(), [&] { settings = config::resolve_settings({.files = {file.path()}}); })) {
    return 0;
  }
  shown.fill(config::show_settings(settings));
  config::RunOptions again;
  fuzz::promise(fuzz::reads_or_refuses("", [&] { again = config::load_settings({.files = {shown.path()}}); }),
                "what is shown reads back");
  fuzz::promise(again.resolved == settings.options.resolved, "what is shown reads back the same");
  return 0;
}
