#include "ops/cpu/packing.h"

#include <cstring>

namespace phi3tune::ops::cpu {
namespace {

using Words = uint16_t __attribute__((vector_size(16)));
using Pairs = uint32_t __attribute__((vector_size(16)));
using Quads = uint64_t __attribute__((vector_size(16)));

template <typename Vector>
inline Vector load(const void* from) {
  Vector value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <typename Vector>
inline void store(void* to, Vector value) {
  std::memcpy(to, &value, sizeof value);
}
template <typename To, typename From>
inline To as(From value) {
  return reinterpret_cast<To>(value);
}

void transpose_8x8(uint16_t* to, int64_t to_stride, const uint16_t* from, int64_t from_stride) {
  Words rows[8];
  for (int64_t i = 0; i < 8; ++i) {
    rows[i] = load<Words>(from + i * from_stride);
  }
  Pairs pairs[8];  // [2i]: columns 0-3 of rows 2i and 2i + 1; [2i + 1]: columns 4-7
  for (int64_t i = 0; i < 8; i += 2) {
    pairs[i] = as<Pairs>(__builtin_shufflevector(rows[i], rows[i + 1], 0, 8, 1, 9, 2, 10, 3, 11));
    pairs[i + 1] = as<Pairs>(__builtin_shufflevector(rows[i], rows[i + 1], 4, 12, 5, 13, 6, 14, 7, 15));
  }
  Quads quads[8];  // [4i + j]: columns 2j and 2j + 1 of rows 4i to 4i + 3
  for (int64_t i = 0; i < 8; i += 4) {
    quads[i] = as<Quads>(__builtin_shufflevector(pairs[i], pairs[i + 2], 0, 4, 1, 5));
    quads[i + 1] = as<Quads>(__builtin_shufflevector(pairs[i], pairs[i + 2], 2, 6, 3, 7));
    quads[i + 2] = as<Quads>(__builtin_shufflevector(pairs[i + 1], pairs[i + 3], 0, 4, 1, 5));
    quads[i + 3] = as<Quads>(__builtin_shufflevector(pairs[i + 1], pairs[i + 3], 2, 6, 3, 7));
  }
  for (int64_t j = 0; j < 4; ++j) {
    store(to + 2 * j * to_stride, __builtin_shufflevector(quads[j], quads[j + 4], 0, 2));
    store(to + (2 * j + 1) * to_stride, __builtin_shufflevector(quads[j], quads[j + 4], 1, 3));
  }
}

// 4 rows of 4 pairs.
void transpose_pairs_4x4(uint16_t* to, int64_t to_stride, const uint16_t* from, int64_t from_stride) {
  Pairs rows[4];
  for (int64_t i = 0; i < 4; ++i) {
    rows[i] = load<Pairs>(from + i * from_stride);
  }
  const Quads low01 = as<Quads>(__builtin_shufflevector(rows[0], rows[1], 0, 4, 1, 5));
  const Quads low23 = as<Quads>(__builtin_shufflevector(rows[2], rows[3], 0, 4, 1, 5));
  const Quads high01 = as<Quads>(__builtin_shufflevector(rows[0], rows[1], 2, 6, 3, 7));
  const Quads high23 = as<Quads>(__builtin_shufflevector(rows[2], rows[3], 2, 6, 3, 7));
  store(to, __builtin_shufflevector(low01, low23, 0, 2));
  store(to + to_stride, __builtin_shufflevector(low01, low23, 1, 3));
  store(to + 2 * to_stride, __builtin_shufflevector(high01, high23, 0, 2));
  store(to + 3 * to_stride, __builtin_shufflevector(high01, high23, 1, 3));
}

}  // namespace

void copy_padded(uint16_t* to, const uint16_t* from, int64_t from_stride, int64_t rows, int64_t padded,
                 int64_t columns) {
  const auto row_bytes = static_cast<size_t>(columns) * sizeof(uint16_t);
  for (int64_t row = 0; row < rows; ++row) {
    std::memcpy(to + row * columns, from + row * from_stride, row_bytes);
  }
  std::memset(to + rows * columns, 0, static_cast<size_t>(padded - rows) * row_bytes);
}

void pack_row_pairs(uint16_t* to, const uint16_t* from, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; row += 2) {
    const uint16_t* first = from + row * columns;
    const uint16_t* second = first + columns;
    uint16_t* out = to + row * columns;
    int64_t i = 0;
    for (; i + 8 <= columns; i += 8) {
      const auto a = load<Words>(first + i);
      const auto b = load<Words>(second + i);
      store(out + 2 * i, __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11));
      store(out + 2 * i + 8, __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15));
    }
    for (; i < columns; ++i) {
      out[2 * i] = first[i];
      out[2 * i + 1] = second[i];
    }
  }
}

void pack_column_pairs(uint16_t* to, const uint16_t* from, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; row += 4) {
    int64_t column = 0;
    for (; column + 8 <= columns; column += 8) {
      transpose_pairs_4x4(to + column * rows + 2 * row, 2 * rows, from + row * columns + column, columns);
    }
    for (; column < columns; column += 2) {
      for (int64_t i = row; i < row + 4; ++i) {
        std::memcpy(to + column * rows + 2 * i, from + i * columns + column, 2 * sizeof(uint16_t));
      }
    }
  }
}

void transpose(uint16_t* to, const uint16_t* from, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; row += 8) {
    for (int64_t column = 0; column < columns; column += 8) {
      transpose_8x8(to + column * rows + row, rows, from + row * columns + column, columns);
    }
  }
}

}  // namespace phi3tune::ops::cpu
