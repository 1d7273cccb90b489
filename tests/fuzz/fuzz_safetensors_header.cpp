// The header of a safetensors file: what passes covers the data once, and can be written and read again.
#include "fuzz.h"
#include "phi3tune/io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace phi3tune;
  fuzz::reads_or_refuses("model.safetensors: ", [&] {
    const auto header = io::parse_safetensors_header(std::as_bytes(std::span(data, size)), size, "model.safetensors");
    size_t covered = 0;
    for (const auto& entry : header.tensors) {
      fuzz::promise(entry.begin == covered && entry.end >= entry.begin, "tensors lie one behind the other");
      uint64_t numel = 1;
      for (const int64_t dimension : entry.shape) {
        fuzz::promise(dimension >= 0 && !__builtin_mul_overflow(numel, static_cast<uint64_t>(dimension), &numel),
                      "a shape's product fits");
      }
      fuzz::promise(numel * io::dtype_size(entry.dtype) == entry.end - entry.begin, "a shape fills its bytes");
      covered = entry.end;
    }
    fuzz::promise(header.data_begin + covered == size, "the data end with the file");
  });
  return 0;
}
