// Dropout whose mask, and noise whose values, are functions of the element's place in its document: nothing is stored,
// the backward computes the mask again.
//
// Random bits: Philox4x32-10 (Salmon et al. 2011), four columns a call.
#include "kernels.h"
#include "row_tiles.cuh"

namespace phi3tune::kernels {
namespace {

struct Philox4 {
  uint32_t x, y, z, w;
};

__host__ __device__ __forceinline__ Philox4 philox4x32_10(Philox4 counter, uint32_t key0, uint32_t key1) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53u} * counter.x;
    const uint64_t product1 = uint64_t{0xCD9E8D57u} * counter.z;
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter.y ^ key0, static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter.w ^ key1, static_cast<uint32_t>(product0)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

__host__ __device__ __forceinline__ uint32_t low_word(uint64_t value) { return static_cast<uint32_t>(value); }
__host__ __device__ __forceinline__ uint32_t high_word(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

// The random words of a row: those of its document's stream, and its position there.
struct RowStream {
  Philox4 document;
  uint32_t position;
  uint32_t tokens;  // of the document

  __device__ __forceinline__ Philox4 words(int64_t column) const {
    return philox4x32_10({static_cast<uint32_t>(column / 4), position, document.z, document.w}, document.x, document.y);
  }
};

__device__ __forceinline__ RowStream stream_of(const DropoutView& key, const Philox4& step, int64_t row) {
  int document = 0;  // becomes the first that ends behind this row
  for (int high = key.documents - 1; document < high;) {
    const int middle = (document + high) / 2;
    if (key.cu_seqlens[middle + 1] <= row) {
      document = middle + 1;
    } else {
      high = middle;
    }
  }
  const uint64_t sample = key.sample_ids[document];
  return {philox4x32_10({low_word(sample), high_word(sample), step.z, step.w}, step.x, step.y),
          static_cast<uint32_t>(row - key.cu_seqlens[document]),
          static_cast<uint32_t>(key.cu_seqlens[document + 1] - key.cu_seqlens[document])};
}

template <int kWidth>
__device__ __forceinline__ void keep_bits(bool (&keep)[kWidth], const RowStream& stream, int64_t column,
                                          uint32_t threshold) {
  if constexpr (kWidth == 1) {
    const Philox4 words = stream.words(column);
    const uint32_t even = column & 2 ? words.z : words.x;
    const uint32_t odd = column & 2 ? words.w : words.y;
    keep[0] = (column & 1 ? odd : even) >= threshold;
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; i += 4) {
      const Philox4 words = stream.words(column + i);
      keep[i] = words.x >= threshold;
      keep[i + 1] = words.y >= threshold;
      keep[i + 2] = words.z >= threshold;
      keep[i + 3] = words.w >= threshold;
    }
  }
}

// kAdd: out += the product, else out = the product.
template <bool kAdd, int kWidth, typename T>
__global__ void __launch_bounds__(kTileThreads)
    dropout_kernel(RowTiles tiles, int64_t rows, int64_t cols, T* out, int64_t ld_out, const T* x, int64_t ld_x,
                   DropoutView key, Philox4 step_words) {
  const TilePlace tile = my_tile<kWidth>(tiles);
  if (tile.row >= rows || tile.column >= cols) return;
  out += tile.row * ld_out + tile.column;
  float values[kWidth], sums[kWidth];
  load_global(values, x + tile.row * ld_x + tile.column);
  if constexpr (kAdd) load_global(sums, out);
  bool keep[kWidth];
  keep_bits(keep, stream_of(key, step_words, tile.row), tile.column, key.threshold);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    if constexpr (kAdd) {
      values[i] = keep[i] ? __fmaf_rn(values[i], key.keep_scale, sums[i]) : sums[i];
    } else {
      values[i] = keep[i] ? values[i] * key.keep_scale : 0.0f;
    }
  }
  store_global(out, values);
}

// The word as a signed fraction times the magnitude, each rounded on its own, as the CPU does.
__device__ __forceinline__ float noise_of(uint32_t word, float magnitude) {
  return __fmul_rn(magnitude, static_cast<float>(static_cast<int32_t>(word)) * 0x1p-31f);
}

template <int kWidth, typename T>
__global__ void __launch_bounds__(kTileThreads)
    noise_kernel(RowTiles tiles, int64_t rows, int64_t cols, T* x, int64_t ld_x, DropoutView key, Philox4 step_words,
                 double alpha) {
  const TilePlace tile = my_tile<kWidth>(tiles);
  if (tile.column >= cols || tile.row >= rows) return;
  x += tile.row * ld_x + tile.column;
  float values[kWidth];
  load_global(values, x);
  const RowStream stream = stream_of(key, step_words, tile.row);
  const double elements = static_cast<double>(stream.tokens) * static_cast<double>(cols);
  const auto magnitude = static_cast<float>(__ddiv_rn(alpha, __dsqrt_rn(elements)));
  if constexpr (kWidth == 1) {
    const Philox4 words = stream.words(tile.column);
    const bool upper = (tile.column & 2) != 0, second = (tile.column & 1) != 0;
    const uint32_t word = second ? (upper ? words.w : words.y) : (upper ? words.z : words.x);
    values[0] = __fadd_rn(values[0], noise_of(word, magnitude));
  } else {
#pragma unroll
    for (int i = 0; i < kWidth; i += 4) {
      const Philox4 words = stream.words(tile.column + i);
      values[i] = __fadd_rn(values[i], noise_of(words.x, magnitude));
      values[i + 1] = __fadd_rn(values[i + 1], noise_of(words.y, magnitude));
      values[i + 2] = __fadd_rn(values[i + 2], noise_of(words.z, magnitude));
      values[i + 3] = __fadd_rn(values[i + 3], noise_of(words.w, magnitude));
    }
  }
  store_global(x, values);
}

inline Philox4 step_words_of(const DropoutView& key) {
  return philox4x32_10({low_word(key.step), high_word(key.step), key.layer, key.module}, low_word(key.seed),
                       high_word(key.seed));
}

template <bool kAdd, typename T>
cudaError_t launch_dropout(T* out, int64_t ld_out, const T* x, int64_t ld_x, const DropoutView& key, int64_t rows,
                           int64_t cols, cudaStream_t stream) {
  if (rows == 0 || cols == 0) return cudaSuccess;
  const Philox4 step = step_words_of(key);
  constexpr int kWidth = kVectorWidth<T>;
  if (cols % kWidth == 0 && allows_vectors(out, ld_out) && allows_vectors(x, ld_x)) {
    return launch_tiles<kWidth>(dropout_kernel<kAdd, kWidth, T>, rows, cols, stream, out, ld_out, x, ld_x, key, step);
  }
  return launch_tiles<1>(dropout_kernel<kAdd, 1, T>, rows, cols, stream, out, ld_out, x, ld_x, key, step);
}

}  // namespace

template <typename T>
cudaError_t dropout(T* out, int64_t ld_out, const T* x, int64_t ld_x, const DropoutView& key, int64_t rows,
                    int64_t cols, cudaStream_t stream) {
  return launch_dropout<false>(out, ld_out, x, ld_x, key, rows, cols, stream);
}

template <typename T>
cudaError_t dropout_add(T* dx, int64_t ld_dx, const T* x, int64_t ld_x, const DropoutView& key, int64_t rows,
                        int64_t cols, cudaStream_t stream) {
  return launch_dropout<true>(dx, ld_dx, x, ld_x, key, rows, cols, stream);
}

template <typename T>
cudaError_t noise_add(T* x, int64_t ld_x, const DropoutView& key, double alpha, int64_t rows, int64_t cols,
                      cudaStream_t stream) {
  if (rows == 0 || cols == 0) return cudaSuccess;
  constexpr int kWidth = kVectorWidth<T>;
  if (allows_vectors(x, ld_x) && cols % kWidth == 0) {
    return launch_tiles<kWidth>(noise_kernel<kWidth, T>, rows, cols, stream, x, ld_x, key, step_words_of(key), alpha);
  }
  return launch_tiles<1>(noise_kernel<1, T>, rows, cols, stream, x, ld_x, key, step_words_of(key), alpha);
}

#define PHI3TUNE_INSTANTIATE(T)                                                                                     \
  template cudaError_t dropout(T*, int64_t, const T*, int64_t, const DropoutView&, int64_t, int64_t, cudaStream_t); \
  template cudaError_t dropout_add(T*, int64_t, const T*, int64_t, const DropoutView&, int64_t, int64_t,            \
                                   cudaStream_t);                                                                   \
  template cudaError_t noise_add(T*, int64_t, const DropoutView&, double, int64_t, int64_t, cudaStream_t)
PHI3TUNE_INSTANTIATE(float);
PHI3TUNE_INSTANTIATE(bf16);
#undef PHI3TUNE_INSTANTIATE

}  // namespace phi3tune::kernels
