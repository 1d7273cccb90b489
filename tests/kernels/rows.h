// Matrices whose rows lie further apart than they are wide.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace phi3tune::kernel_test {

// Rows of `width` at a distance of `ld`; the last one ends with its last element. Between them are the bits of fresh
// memory, so that a kernel's whole buffer can be compared.
template <class T>
std::vector<T> spread(const std::vector<T>& values, int64_t width, int64_t ld) {
  const int64_t rows = width == 0 ? 0 : static_cast<int64_t>(values.size()) / width;
  std::vector<T> all(static_cast<size_t>(rows == 0 ? 0 : (rows - 1) * ld + width));
  std::memset(static_cast<void*>(all.data()), 0xff, all.size() * sizeof(T));
  for (int64_t row = 0; row < rows; ++row) std::copy_n(values.begin() + row * width, width, all.begin() + row * ld);
  return all;
}

// The rows of a matrix made by spread.
template <class T>
std::vector<T> gathered(const std::vector<T>& all, int64_t rows, int64_t width, int64_t ld) {
  std::vector<T> values;
  for (int64_t row = 0; row < rows; ++row)
    values.insert(values.end(), all.begin() + row * ld, all.begin() + row * ld + width);
  return values;
}

}  // namespace phi3tune::kernel_test
