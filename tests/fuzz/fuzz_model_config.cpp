// config.json of a model: what passes gives sizes whose tensors can be listed, and is written and read again.
#include "fuzz.h"
#include "phi3tune/core/error.h"
#include "phi3tune/phi3/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace phi3tune;
  static fuzz::MemoryFile file;
  file.fill(fuzz::text_of(data, size));
  fuzz::reads_or_refuses(file.path(), [&] {
    const auto config = phi3::parse_model_config(io::read_json_file<ModelError>(file.path()), file.path());
    fuzz::promise(config.hidden_size > 0 && config.num_layers > 0 && config.vocab_size > 0 && config.qkv_size() > 0 &&
                      config.num_heads % config.num_kv_heads == 0 && config.rotary_dim <= config.head_dim,
                  "sizes are above 0 and divide");
    fuzz::promise(config.rope.short_factor.size() == config.rope.long_factor.size(), "both tables are of one length");
    const auto again = phi3::parse_model_config(phi3::model_config_json(config), "again");
    fuzz::promise(again.hidden_size == config.hidden_size && again.rotary_dim == config.rotary_dim &&
                      again.rope.theta == config.rope.theta,
                  "what is written reads back the same");
  });
  return 0;
}
