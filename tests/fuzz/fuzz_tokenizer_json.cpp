// tokenizer.json: a tokenizer that opens encodes any text to ids it has, and covers the text.
#include "tokenizer_use.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace phi3tune;
  static const fuzz::MemoryFolder folder;
  folder.put("tokenizer.json", fuzz::text_of(data, size));
  fuzz::use_tokenizer(folder.path());
  return 0;
}
