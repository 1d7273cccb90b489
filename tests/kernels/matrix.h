// Matrices whose rows lie apart, for kernels that take a distance between rows.
#pragma once

#include <ostream>

#include "kernel_test.h"

namespace phi3tune::kernel_test {

// rows x cols; `gap` elements between two rows, `offset` before the first: both 0 allow 16-byte accesses where the
// width does.
struct Shape {
  int64_t rows, cols;
  int64_t gap = 0;
  size_t offset = 0;

  int64_t ld() const { return cols + gap; }
  size_t size() const { return static_cast<size_t>(rows * ld()); }
  size_t at(int64_t row, int64_t col) const { return static_cast<size_t>(row * ld() + col); }
};
inline void PrintTo(const Shape& shape, std::ostream* out) {
  *out << shape.rows << "x" << shape.cols << " gap " << shape.gap << " offset " << shape.offset;
}

// f(row, col) of each element; 0xff in the gaps, as fresh memory has.
template <class T, class F>
std::vector<T> matrix(const Shape& shape, const F& f) {
  std::vector<T> values(shape.size());
  std::memset(static_cast<void*>(values.data()), 0xff, values.size() * sizeof(T));
  for (int64_t row = 0; row < shape.rows; ++row)
    for (int64_t col = 0; col < shape.cols; ++col) values[shape.at(row, col)] = f(row, col);
  return values;
}

template <class T>
std::vector<T> random_matrix(const Shape& shape, double deviation, unsigned seed) {
  const auto values = random_values<T>(static_cast<size_t>(shape.rows * shape.cols), deviation, seed);
  return matrix<T>(shape,
                   [&](int64_t row, int64_t col) { return values[static_cast<size_t>(row * shape.cols + col)]; });
}

}  // namespace phi3tune::kernel_test
