// Layouts that the matrix micro-kernels ask for, of 16-bit elements. All sizes are multiples of 32 rows, so that few
// shapes of micro-kernel are ever made; `columns` is even.
#pragma once

#include <cstdint>

namespace phi3tune::ops::cpu {

// to [padded, columns] = `rows` rows of `from`, then zeros.
void copy_padded(uint16_t* to, const uint16_t* from, int64_t from_stride, int64_t rows, int64_t padded,
                 int64_t columns);
// to [rows / 2, columns, 2]: pairs of rows interleaved, from [rows, columns].
void pack_row_pairs(uint16_t* to, const uint16_t* from, int64_t rows, int64_t columns);
// to [columns / 2, rows, 2]: the transposed matrix with pairs of its rows interleaved, from [rows, columns].
void pack_column_pairs(uint16_t* to, const uint16_t* from, int64_t rows, int64_t columns);
// to [columns, rows] from [rows, columns].
void transpose(uint16_t* to, const uint16_t* from, int64_t rows, int64_t columns);

}  // namespace phi3tune::ops::cpu
