// Our code's at::parallel_for uses threads: it is a template, and without OpenMP at compile time it silently does not.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>

namespace phi3tune::ops {
namespace {

TEST(Threads, ParallelForUsesThem) {
  const int before = at::get_num_threads();
  at::set_num_threads(2);
  std::atomic<int> threads{0};
  at::parallel_for(0, 2, 1, [&](int64_t begin, int64_t end) {
    EXPECT_EQ(end - begin, 1);
    threads |= 1 << at::get_thread_num();
  });
  at::set_num_threads(before);
  EXPECT_EQ(threads, 3) << "compile with OpenMP";
}

}  // namespace
}  // namespace phi3tune::ops
