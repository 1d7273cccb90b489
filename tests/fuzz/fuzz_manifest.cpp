// manifest.json of a checkpoint: what passes is what the writer writes, byte for byte, and names nothing outside the
// folder.
#include "fuzz.h"
#include "phi3tune/core/hash.h"
#include "phi3tune/io/manifest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace phi3tune;
  static const fuzz::MemoryFolder folder;
  std::string text(fuzz::text_of(data, size));
  // A checksum that fits, in one of two runs: else nothing behind that check would ever be reached.
  constexpr std::string_view kKey = "\"checksum\": \"";
  constexpr size_t kDigits = 32;
  const size_t key = text.rfind(kKey);
  if (size % 2 == 0 && key != std::string::npos && key + kKey.size() + kDigits <= text.size()) {
    text.replace(key + kKey.size(), kDigits, kDigits, '0');
    text.replace(key + kKey.size(), kDigits, hash_bytes(text).hex());
  }
  folder.put(io::kManifestName, text);
  fuzz::reads_or_refuses(folder.path(), [&] {
    const auto manifest = io::read_manifest(folder.path());
    fuzz::promise(io::manifest_text(manifest) == text, "a manifest that passes is written the same");
    for (const auto& [name, file] : manifest.files) {
      fuzz::promise(name.find('/') == std::string::npos && name != "..", "a name stays in the folder");
    }
    fuzz::promise(io::faults_of(folder.path(), manifest).size() == manifest.files.size(),
                  "each file that is not there is named");
  });
  return 0;
}
