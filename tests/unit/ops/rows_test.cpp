#include "fixture.h"
#include "phi3tune/quant/nf4.h"

namespace phi3tune::ops::test {
namespace {

class Rows : public ByDtype {};

TEST_P(Rows, GatherTakesRowsInAnyOrder) {
  const at::Tensor table = normal({50, 33}, dtype()), ids = at::tensor({0, 49, 7, 7}, at::kLong);
  const Guarded out({4, 33}, dtype());
  gather_rows(out, table, ids);
  EXPECT_TRUE(same_bits(out.tensor(), definition::gather_rows(table, ids)));
  EXPECT_TRUE(out.intact());
  EXPECT_THROW(gather_rows(out, table, at::tensor({0, 1, 2, 50}, at::kLong)), InternalError);
  EXPECT_THROW(gather_rows(out, table, at::tensor({0, 1, 2, -1}, at::kLong)), InternalError);
}

TEST_P(Rows, GatherAndScatterAreTransposes) {
  const at::Tensor x = normal({9, 31}, dtype());
  for (const auto& rows : {at::tensor({0, 3, 8}, at::kLong), at::tensor({4}, at::kLong), at::empty({0}, at::kLong)}) {
    const Guarded some({rows.size(0), 31}, dtype()), all({9, 31}, dtype());
    gather_rows(some, x, rows);
    EXPECT_TRUE(same_bits(some.tensor(), definition::gather_rows(x, rows)));
    scatter_rows(all, some, rows);
    EXPECT_TRUE(same_bits(all.tensor(), definition::scatter_rows(some, rows, 9)));
    EXPECT_TRUE(some.intact() && all.intact());
  }
}

TEST_P(Rows, ScatterWritesEveryRowForAnyThreads) {
  const at::Tensor rows = at::arange(0, 5000, 3, at::kLong), x = normal({rows.size(0), 40}, dtype());
  for (const int threads : {1, 2}) {
    const Threads scope(threads);
    const Guarded all({5000, 40}, dtype());
    scatter_rows(all, x, rows);
    EXPECT_TRUE(same_bits(all.tensor(), definition::scatter_rows(x, rows, 5000)));
  }
}

TEST_P(Rows, RowsThatDoNotAscendAreABugOfOurs) {
  const at::Tensor x = normal({9, 4}, dtype()), out = at::empty({2, 4}, dtype());
  EXPECT_THROW(scatter_rows(x, out, at::tensor({3, 3}, at::kLong)), InternalError);
  EXPECT_THROW(gather_rows(out, x, at::tensor({3, 9}, at::kLong)), InternalError);
  EXPECT_THROW(scatter_rows(x, out, at::tensor({3, 2}, at::kLong)), InternalError);
}

FOR_ALL_DTYPES(Rows);

}  // namespace
}  // namespace phi3tune::ops::test
