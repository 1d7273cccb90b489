#include <algorithm>
#include <atomic>
#include <cstring>
#include <string_view>

#include "phi3tune/core/error.h"
#include "phi3tune/quant/nf4.h"
#include "quant/float_bits.h"
#include "quant/nf4_blocks.h"

namespace phi3tune::quant {
namespace {

struct Isa {
  const char* name;
  void (*dequantize)(const BlockRun&);
  bool (*available)();
};

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
         __builtin_cpu_supports("f16c") != 0;
}

// Everything that the build lets the compiler use in a *_avx512.cpp.
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
         __builtin_cpu_supports("avx512vbmi") != 0 && __builtin_cpu_supports("avx512bf16") != 0 &&
         __builtin_cpu_supports("avx512vnni") != 0 && has_avx2();
}
#endif

// Best first.
const Isa kIsas[] = {
#if defined(__x86_64__)
    {"avx512", dequantize_blocks_avx512, has_avx512},
    {"avx2", dequantize_blocks_avx2, has_avx2},
#endif
    {"portable", dequantize_blocks_portable, [] { return true; }},
};

std::atomic<const Isa*> g_isa{nullptr};

const Isa& chosen_isa() noexcept {
  const Isa* isa = g_isa.load(std::memory_order_acquire);
  if (isa == nullptr) {
    isa = std::find_if(std::begin(kIsas), std::end(kIsas), [](const Isa& candidate) { return candidate.available(); });
    g_isa.store(isa, std::memory_order_release);
  }
  return *isa;
}

constexpr int64_t kStreamBytes = int64_t{4} << 20;  // above what a core's own cache holds
constexpr int64_t kRun = 256;                       // blocks whose absmax is restored at a time

// Absmax of blocks [begin, end).
void restore_absmax(const Nf4Tensor& tensor, int64_t begin, int64_t end, float* out) {
  for (int64_t block = begin; block < end; ++block) {
    const auto b = static_cast<size_t>(block);
    if (tensor.double_quant) {
      // Two roundings, as the reference multiplies and adds in separate kernels.
      const float product = tensor.nested_map[tensor.nested_codes[b]] * tensor.nested_absmax[b / kNestedBlock];
      *out++ = product + tensor.offset;
    } else {
      *out++ = tensor.absmax[b];
    }
  }
}

void check_range(const Nf4Tensor& tensor, int64_t begin, int64_t end) {
  require(begin >= 0 && begin <= end && end <= tensor.numel(), "NF4 range within the tensor");
  require(begin % tensor.block_size == 0, "NF4 range begins with a block");
  require(end % tensor.block_size == 0 || end == tensor.numel(), "NF4 range ends with a block");
}

uint8_t code_at(const Nf4Tensor& tensor, int64_t element) {
  const uint8_t byte = tensor.packed[static_cast<size_t>(element / 2)];
  return element % 2 == 0 ? byte >> 4 : byte & 15;
}

// The last, short block.
void dequantize_rest(const Nf4Tensor& tensor, int64_t begin, int64_t end, float absmax, FloatType target,
                     std::byte* out) {
  float values[16];
  block_values(tensor.code.data(), absmax, tensor.source, values);
  for (int64_t i = begin; i < end; ++i) {
    const float value = values[code_at(tensor, i)];
    if (target == FloatType::kF32) {
      std::memcpy(out, &value, sizeof(value));
      out += sizeof(value);
    } else {
      const uint16_t word = target == FloatType::kBF16 ? float_to_bf16(value) : float_to_f16(value);
      std::memcpy(out, &word, sizeof(word));
      out += sizeof(word);
    }
  }
}

}  // namespace

std::vector<float> restored_absmax(const Nf4Tensor& tensor) {
  std::vector<float> absmax(static_cast<size_t>(tensor.blocks()));
  restore_absmax(tensor, 0, tensor.blocks(), absmax.data());
  return absmax;
}

void dequantize_nf4(const Nf4Tensor& tensor, int64_t begin, int64_t end, FloatType target, void* out) {
  check_range(tensor, begin, end);
  const Isa& isa = chosen_isa();
  const int64_t width = target == FloatType::kF32 ? 4 : 2;
  const int64_t size = tensor.block_size;
  const int64_t whole_end = end / size;  // blocks before it are whole
  auto* to = static_cast<std::byte*>(out);
  const bool stream = (end - begin) * width >= kStreamBytes && reinterpret_cast<uintptr_t>(out) % 64 == 0;
  float absmax[kRun];
  for (int64_t block = begin / size; block < whole_end;) {
    const int64_t count = std::min(kRun, whole_end - block);
    restore_absmax(tensor, block, block + count, absmax);
    isa.dequantize({.packed = tensor.packed.data() + block * size / 2,
                    .absmax = absmax,
                    .code = tensor.code.data(),
                    .blocks = count,
                    .block_size = size,
                    .source = tensor.source,
                    .target = target,
                    .out = to,
                    .stream = stream});
    to += count * size * width;
    block += count;
  }
  if (end % size != 0) {
    restore_absmax(tensor, whole_end, whole_end + 1, absmax);
    dequantize_rest(tensor, whole_end * size, end, absmax[0], target, to);
  }
}

void dequantize_nf4_f64(const Nf4Tensor& tensor, int64_t begin, int64_t end, double* out) {
  check_range(tensor, begin, end);
  for (int64_t first = begin; first < end; first += tensor.block_size) {
    float absmax = 0.0F;
    float values[16];
    restore_absmax(tensor, first / tensor.block_size, first / tensor.block_size + 1, &absmax);
    block_values(tensor.code.data(), absmax, tensor.source, values);
    for (int64_t i = first; i < std::min(first + tensor.block_size, end); ++i) {
      *out++ = static_cast<double>(values[code_at(tensor, i)]);
    }
  }
}

const char* dequantize_isa() noexcept { return chosen_isa().name; }

bool force_dequantize_isa(const char* name) noexcept {
  for (const Isa& isa : kIsas) {
    if (std::string_view(isa.name) == name && isa.available()) {
      g_isa.store(&isa, std::memory_order_release);
      return true;
    }
  }
  return false;
}

}  // namespace phi3tune::quant
