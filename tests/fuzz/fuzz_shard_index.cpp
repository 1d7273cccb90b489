// model.safetensors.index.json over two real shards: no name in it leads out of the folder.
#include "fuzz.h"
#include "phi3/weight_files.h"
#include "phi3tune/core/error.h"

namespace {

using namespace phi3tune;

struct Folder : fuzz::MemoryFolder {
  Folder() {
    for (const char* letter : {"a", "b"}) {
      const std::vector<std::byte> data(4);
      io::write_safetensors(path() + "/" + letter + ".safetensors", {{letter, io::DType::kF32, {1}, data}});
    }
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folder folder;
  folder.put("model.safetensors.index.json", fuzz::text_of(data, size));
  fuzz::reads_or_refuses(folder.path(), [&] {
    phi3::Faults faults;
    const auto files = phi3::open_weight_files(folder.path(), faults);
    for (const auto& shard : files.shards) {
      const auto& path = shard->path();
      fuzz::promise(path == folder.path() + "/a.safetensors" || path == folder.path() + "/b.safetensors",
                    "only shards of the folder are opened");
    }
    if (!faults.empty()) {
      throw ModelError(faults.text());
    }
    fuzz::promise(!files.tensors.empty(), "an index that passes names tensors");
  });
  return 0;
}
