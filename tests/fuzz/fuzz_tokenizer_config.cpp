// tokenizer_config.json beside a sound vocabulary: named tokens, flags of added tokens, the template to compare.
#include "phi3tune/data/template.h"
#include "tokenizer_use.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace phi3tune;
  static const fuzz::MemoryFolder folder;
  static const bool vocabulary =
      (folder.put("tokenizer.json", fuzz::contents_of(PHI3TUNE_SOURCE_DIR "/tests/fuzz/seeds/tokenizer_json/few")),
       true);
  (void)vocabulary;
  folder.put("tokenizer_config.json", fuzz::text_of(data, size));
  fuzz::use_tokenizer(folder.path());
  return 0;
}
