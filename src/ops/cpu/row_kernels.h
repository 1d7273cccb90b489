// The vector kernels, for whatever instruction set the including file is compiled for. See kernels.h.
#pragma once

#include "ops/cpu/attention_rows.h"
#include "ops/cpu/cached_rows.h"
#include "ops/cpu/dots.h"
#include "ops/cpu/exponential.h"
#include "ops/cpu/few_row_kernels.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/nf4_row_kernels.h"
#include "ops/cpu/vector.h"
#include "ops/cpu/weight_gradient.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace phi3tune::ops::cpu {
namespace {

#if defined(__AVX512F__)
inline F32 vector_sqrt(F32 x) { return _mm512_maskz_sqrt_ps(0xFFFF, x); }
inline F64 vector_sqrt(F64 x) { return _mm512_maskz_sqrt_pd(0xFF, x); }
#elif defined(__AVX2__)
inline F32 vector_sqrt(F32 x) { return _mm256_sqrt_ps(x); }
inline F64 vector_sqrt(F64 x) { return _mm256_sqrt_pd(x); }
#elif defined(__SSE2__)
inline F32 vector_sqrt(F32 x) { return _mm_sqrt_ps(x); }
inline F64 vector_sqrt(F64 x) { return _mm_sqrt_pd(x); }
#else
template <typename V>
inline V vector_sqrt(V x) {
  for (size_t i = 0; i < sizeof(V) / sizeof(x[0]); ++i) {
    x[i] = __builtin_sqrt(x[i]);
  }
  return x;
}
#endif

// Sum of f(i, Full or Part) over [0, n), with four running vectors.
template <typename W, typename F>
inline W sum_over(int64_t n, const F& f) {
  constexpr int64_t kStep = kLanes<W>;
  Vec<W> sum0{}, sum1{}, sum2{}, sum3{};
  int64_t i = 0;
  for (; i + 4 * kStep <= n; i += 4 * kStep) {
    sum0 += f(i, Full{});
    sum1 += f(i + kStep, Full{});
    sum2 += f(i + 2 * kStep, Full{});
    sum3 += f(i + 3 * kStep, Full{});
  }
  for (; i + kStep <= n; i += kStep) {
    sum0 += f(i, Full{});
  }
  if (i < n) {
    sum1 += f(i, Part{n - i});
  }
  return sum_lanes<W>((sum0 + sum1) + (sum2 + sum3));
}

template <typename W>
inline W scalar_sqrt(W x) {
  return static_cast<W>(__builtin_sqrt(static_cast<double>(x)));
}

// ---- norms ----

template <typename T>
inline void norm_row(T* y, Wide<T>* rstd, const T* x, const T* weight, int64_t dim, double eps) {
  using W = Wide<T>;
  const W squares = sum_over<W>(dim, [&](int64_t i, auto part) {
    const auto value = load(x + i, part);
    return value * value;
  });
  const W factor = W(1) / scalar_sqrt<W>(squares / static_cast<W>(dim) + static_cast<W>(eps));
  *rstd = factor;
  for_vectors<W>(dim, [&](int64_t i, auto part) {
    const auto normed = round_to(load(x + i, part) * factor, x);
    store(y + i, normed * load(weight + i, part), part);
  });
}

template <typename T>
void rms_norm(T* y, Wide<T>* rstd, const T* x, const T* weight, int64_t rows, int64_t dim, double eps) {
  for (int64_t row = 0; row < rows; ++row) {
    norm_row(y + row * dim, rstd + row, x + row * dim, weight, dim, eps);
  }
}

template <typename T>
void add(T* sum, const T* residual, const T* delta, int64_t n) {
  for_vectors<Wide<T>>(
      n, [&](int64_t i, auto part) { store(sum + i, load(residual + i, part) + load(delta + i, part), part); });
}

template <typename T>
void add_rms_norm(T* y, Wide<T>* rstd, T* sum, const T* residual, const T* delta, const T* weight, int64_t rows,
                  int64_t dim, double eps) {
  for (int64_t row = 0; row < rows; ++row) {
    add(sum + row * dim, residual + row * dim, delta + row * dim, dim);
    norm_row(y + row * dim, rstd + row, sum + row * dim, weight, dim, eps);
  }
}

// With g = weight * dy: dx += rstd g - x rstd^3 mean(g x).
template <typename T>
void rms_norm_backward(T* dx, const T* dy, const T* x, const Wide<T>* rstd, const T* weight, int64_t rows,
                       int64_t dim) {
  using W = Wide<T>;
  for (int64_t row = 0; row < rows; ++row) {
    T* dx_row = dx + row * dim;
    const T* dy_row = dy + row * dim;
    const T* x_row = x + row * dim;
    const W factor = rstd[row];
    const W dot = sum_over<W>(dim, [&](int64_t i, auto part) {
      return load(weight + i, part) * load(dy_row + i, part) * load(x_row + i, part);
    });
    const W along = factor * factor * factor * (dot / static_cast<W>(dim));
    for_vectors<W>(dim, [&](int64_t i, auto part) {
      const auto across = load(weight + i, part) * load(dy_row + i, part) * factor;
      store(dx_row + i, load(dx_row + i, part) + (across - load(x_row + i, part) * along), part);
    });
  }
}

// ---- RoPE ----

template <typename T>
void rope(T* qkv, const Wide<T>* cosine, const Wide<T>* sine, int64_t rows, int64_t stride, int64_t heads,
          int64_t head_dim, int64_t half, bool inverse) {
  using W = Wide<T>;
  const W sign = inverse ? W(-1) : W(1);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t head = 0; head < heads; ++head) {
      T* first = qkv + row * stride + head * head_dim;
      T* second = first + half;
      for_vectors<W>(half, [&](int64_t i, auto part) {
        const auto cos = load(cosine + row * half + i, part);
        const auto sin = load(sine + row * half + i, part) * sign;
        const auto a = load(first + i, part);
        const auto b = load(second + i, part);
        store(first + i, a * cos - b * sin, part);
        store(second + i, b * cos + a * sin, part);
      });
    }
  }
}

// ---- SwiGLU ----

template <typename T>
void swiglu(T* hidden, const T* gate_up, int64_t rows, int64_t dim) {
  using W = Wide<T>;
  for (int64_t row = 0; row < rows; ++row) {
    const T* gate = gate_up + row * 2 * dim;
    const T* up = gate + dim;
    T* out = hidden + row * dim;
    for_vectors<W>(dim, [&](int64_t i, auto part) {
      const auto g = load(gate + i, part);
      store(out + i, load(up + i, part) * (g / (vector_exp(-g) + W(1))), part);
    });
  }
}

// d_up = dh silu(g), d_gate = dh up s (1 + g (1 - s)) with s = sigmoid(g).
template <typename T>
void swiglu_backward(T* d_gate_up, const T* d_hidden, const T* gate_up, int64_t rows, int64_t dim) {
  using W = Wide<T>;
  for (int64_t row = 0; row < rows; ++row) {
    const T* gate = gate_up + row * 2 * dim;
    const T* up = gate + dim;
    const T* dh = d_hidden + row * dim;
    T* d_gate = d_gate_up + row * 2 * dim;
    T* d_up = d_gate + dim;
    for_vectors<W>(dim, [&](int64_t i, auto part) {
      const auto g = load(gate + i, part);
      const auto u = load(up + i, part);
      const auto d = load(dh + i, part);
      const auto s = W(1) / (vector_exp(-g) + W(1));
      const auto ds = d * s;
      store(d_gate + i, ds * u * (g * (W(1) - s) + W(1)), part);
      store(d_up + i, ds * g, part);
    });
  }
}

// ---- cross-entropy ----

template <typename T>
inline Wide<T> row_max(const T* x, int64_t n) {
  using W = Wide<T>;
  const W lowest = -__builtin_inff();
  Vec<W> max0 = splat(lowest), max1 = max0;
  const auto greater = [](const Vec<W>& a, const Vec<W>& b) -> Vec<W> { return a > b ? a : b; };
  int64_t i = 0;
  for (; i + 2 * kLanes<W> <= n; i += 2 * kLanes<W>) {
    max0 = greater(load(x + i, Full{}), max0);
    max1 = greater(load(x + i + kLanes<W>, Full{}), max1);
  }
  for_vectors<W>(
      n - i, [&](int64_t j, auto part) { max0 = greater(fill_tail<W>(load(x + i + j, part), part, lowest), max0); });
  return max_lanes<W>(greater(max0, max1));
}

inline double as_double(float x) { return x; }
inline double as_double(double x) { return x; }
inline float element(const float* x) { return *x; }
inline double element(const double* x) { return *x; }
inline float element(const Bf16* x) { return load(x, Part{1})[0]; }
template <typename T>
inline void put(T* to, Wide<T> value) {
  store(to, splat(value), Part{1});
}

template <typename T>
void cross_entropy(T* logits, double* losses, uint8_t* correct, const int64_t* targets, const double* factors,
                   int64_t rows, int64_t vocabulary, bool gradient) {
  using W = Wide<T>;
  for (int64_t row = 0; row < rows; ++row) {
    T* x = logits + row * vocabulary;
    const int64_t target = targets[row];
    const W largest = row_max(x, vocabulary);
    const W sum = sum_over<W>(vocabulary, [&](int64_t i, auto part) {
      return fill_tail<W>(vector_exp(load(x + i, part) - largest), part, W(0));
    });
    const W at_target = element(x + target);
    losses[row] = as_double(largest) - as_double(at_target) + __builtin_log(as_double(sum));
    bool best = at_target == largest;
    for (int64_t i = 0; best && i < target; ++i) {
      best = element(x + i) != largest;  // of equals the first one counts
    }
    correct[row] = best ? 1 : 0;
    if (gradient) {
      const W target_share = vector_exp(splat(at_target - largest))[0] / sum - W(1);
      const W factor = static_cast<W>(factors[row] / as_double(sum));
      for_vectors<W>(vocabulary, [&](int64_t i, auto part) {
        store(x + i, vector_exp(load(x + i, part) - largest) * factor, part);
      });
      put(x + target, static_cast<W>(factors[row]) * target_share);
    }
  }
}

template <typename T>
void round_sum(T* out, const Wide<T>* sums, int64_t n) {
  using W = Wide<T>;
  for_vectors<W>(n, [&](int64_t i, auto part) { store(out + i, load(sums + i, part), part); });
}

// ---- dropout ----

constexpr int64_t kPhiloxQuads = 16;

// Random bits of 64 columns from `column` (a multiple of 64): Philox4x32-10 with the counter (column / 4, position,
// words[2], words[3]) and the key (words[0], words[1]).
inline void philox_columns(uint32_t* bits, const DropoutRow& row, int64_t column) {
  uint32_t c0[kPhiloxQuads], c1[kPhiloxQuads], c2[kPhiloxQuads], c3[kPhiloxQuads];
  for (int64_t j = 0; j < kPhiloxQuads; ++j) {
    c0[j] = static_cast<uint32_t>(column / 4 + j);
    c1[j] = row.position;
    c2[j] = row.words[2];
    c3[j] = row.words[3];
  }
  uint32_t key0 = row.words[0];
  uint32_t key1 = row.words[1];
  for (int round = 0; round < 10; ++round) {
    for (int64_t j = 0; j < kPhiloxQuads; ++j) {
      const uint64_t product0 = uint64_t{0xD2511F53U} * c0[j];
      const uint64_t product1 = uint64_t{0xCD9E8D57U} * c2[j];
      const uint32_t next0 = static_cast<uint32_t>(product1 >> 32) ^ c1[j] ^ key0;
      const uint32_t next2 = static_cast<uint32_t>(product0 >> 32) ^ c3[j] ^ key1;
      c1[j] = static_cast<uint32_t>(product1);
      c3[j] = static_cast<uint32_t>(product0);
      c0[j] = next0;
      c2[j] = next2;
    }
    key0 += 0x9E3779B9U;
    key1 += 0xBB67AE85U;
  }
  for (int64_t j = 0; j < kPhiloxQuads; ++j) {
    bits[4 * j] = c0[j];
    bits[4 * j + 1] = c1[j];
    bits[4 * j + 2] = c2[j];
    bits[4 * j + 3] = c3[j];
  }
}

// Calls f(column, part, factors) with the factor (scale or 0) of each column.
template <typename W, typename F>
inline void for_dropped_vectors(int64_t columns, const DropoutRow& row, const F& f) {
  constexpr int64_t kBlock = 4 * kPhiloxQuads;
  const W scale = static_cast<W>(row.scale);
  for (int64_t column = 0; column < columns; column += kBlock) {
    uint32_t bits[kBlock];
    W factors[kBlock];
    philox_columns(bits, row, column);
    for (int64_t i = 0; i < kBlock; ++i) {
      factors[i] = bits[i] >= row.threshold ? scale : W(0);
    }
    const int64_t count = columns - column < kBlock ? columns - column : kBlock;
    for_vectors<W>(count, [&](int64_t i, auto part) { f(column + i, part, load(factors + i, part)); });
  }
}

template <typename T>
void dropout(T* out, const T* x, int64_t columns, const DropoutRow& row) {
  using W = Wide<T>;
  for_dropped_vectors<W>(columns, row, [&](int64_t i, auto part, const Vec<W>& factor) {
    const Vec<W> value = load(x + i, part) * factor;
    store(out + i, factor == W(0) ? Vec<W>{} : value, part);
  });
}

template <typename T>
void lora_input_gradient_dropout(T* dx, const T* du, const T* a, int64_t columns, int64_t rank, const DropoutRow& row) {
  using W = Wide<T>;
  for_dropped_vectors<W>(columns, row, [&](int64_t i, auto part, const Vec<W>& factor) {
    Vec<W> sum{};
    for (int64_t k = 0; k < rank; ++k) {
      sum += load(a + k * columns + i, part) * element(du + k);
    }
    const Vec<W> value = load(dx + i, part);
    store(dx + i, factor == W(0) ? value : value + sum * factor, part);
  });
}

// ---- optimizer ----

// constants: 1 - lr wd, 1 - beta1, beta2, 1 - beta2, 1 / sqrt(bias correction 2), eps, lr / bias correction 1, gradient
// scale.
template <typename W>
void adamw(W* p, const W* g, W* m, W* v, int64_t n, const double* constants) {
  W c[8];
  for (int i = 0; i < 8; ++i) {
    c[i] = static_cast<W>(constants[i]);
  }
  for_vectors<W>(n, [&](int64_t i, auto part) {
    const auto gradient = load(g + i, part) * c[7];
    const auto old_m = load(m + i, part);
    const auto new_m = old_m + (gradient - old_m) * c[1];
    const auto new_v = load(v + i, part) * c[2] + gradient * gradient * c[3];
    store(m + i, new_m, part);
    store(v + i, new_v, part);
    const auto denominator = vector_sqrt(new_v) * c[4] + c[5];
    store(p + i, load(p + i, part) * c[0] - new_m / denominator * c[6], part);
  });
}

inline double sum_of_squares(const double* values, int64_t n) {
  return sum_over<double>(n, [&](int64_t i, auto part) {
    const auto value = load(values + i, part);
    return value * value;
  });
}

using F32Half = float __attribute__((vector_size(kVectorBytes / 2)));
inline F64 load_as_double(const float* from, Full full) {
  return __builtin_convertvector(load_raw<F32Half>(from, full), F64);
}
inline F64 load_as_double(const float* from, Part part) {
  return __builtin_convertvector(load_raw_part<F32Half>(from, sizeof(float) * part.count), F64);
}
inline double sum_of_squares(const float* values, int64_t n) {
  return sum_over<double>(n, [&](int64_t i, auto part) {
    const auto value = load_as_double(values + i, part);
    return value * value;
  });
}

template <typename T>
constexpr Kernels<T, Wide<T>> row_kernels() {
  return {rms_norm<T>,
          add_rms_norm<T>,
          rms_norm_backward<T>,
          add<T>,
          rope<T>,
          swiglu<T>,
          swiglu_backward<T>,
          cross_entropy<T>,
          round_sum<T>,
          dropout<T>,
          lora_input_gradient_dropout<T>,
          weight_gradient<T>,
          attention_shares<T>,
          scale_rows<Wide<T>>,
          attention_gradients<T>,
          row_dots<T>,
          cached_attention<T>,
          vector_dots<T>,
          add_vector_dots<T>,
          few_rows<T>,
          nf4_kernel<T>()};
}

constexpr KernelSet kernel_set(const char* isa) {
  return {isa,          row_kernels<float>(), row_kernels<Bf16>(), row_kernels<double>(),
          adamw<float>, adamw<double>,        sum_of_squares,      sum_of_squares};
}

}  // namespace
}  // namespace phi3tune::ops::cpu
