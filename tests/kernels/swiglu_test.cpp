// hidden = up * round_T(silu(gate)), and its gradients, in place and not.
#include "kernel_test.h"
#include "kernels.h"
#include "rows.h"

namespace phi3tune::kernels {
namespace {

using namespace kernel_test;

struct Case {
  int64_t rows, dim;
  int64_t gap = 0;             // elements between the rows of [M, F]
  int64_t wide_gap = 0;        // and of [M, 2F]
  size_t offset = 0;           // elements before every matrix
  size_t gradient_offset = 0;  // more of them before d_gate_up, where it is not gate_up

  int64_t ld() const { return dim + gap; }
  int64_t wide_ld() const { return 2 * dim + wide_gap; }
};
void PrintTo(const Case& c, std::ostream* out) {
  *out << c.rows << "x" << c.dim << " gaps " << c.gap << ", " << c.wide_gap << " offsets " << c.offset << ", "
       << c.gradient_offset;
}
size_t count(const Case& c) { return static_cast<size_t>(c.rows * c.dim); }

constexpr double kTiny = 0x1p-120;  // what an exponential that overflows (of a gate below -88.7) leaves out
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
// Relative error of silu and its derivative in fp32: the exponential's argument is rounded, which costs |x| ulp, and
// the fast functions of a device are allowed four more; then a sum, a quotient, a product.
double fp32_error(double x) { return (std::abs(x) + 12) * 0x1p-24; }

// Gates of every kind: small, large, so large that the exponential overflows or is 0, zero.
template <class T>
std::vector<T> some_gates(const Case& c) {
  auto gates = random_values<T>(count(c), 3.0, 1);
  const double odd[] = {30, -30, 87, -87, 100, -100, 0, -0.0};
  for (size_t i = 0; i < gates.size(); ++i)
    if (i % 11 == 5) gates[i] = rounded<T>(odd[i / 11 % 8]);
  return gates;
}

template <class T>
struct Inputs {
  explicit Inputs(const Case& c)
      : gates(some_gates<T>(c)), ups(random_values<T>(count(c), 1.0, 2)), d_hidden(random_values<T>(count(c), 1.0, 3)) {
    for (size_t row = 0; row < static_cast<size_t>(c.rows); ++row)
      for (const auto* part : {&gates, &ups})
        gate_up.insert(gate_up.end(), part->begin() + static_cast<std::ptrdiff_t>(row) * c.dim,
                       part->begin() + static_cast<std::ptrdiff_t>(row + 1) * c.dim);
  }
  std::vector<T> gates, ups, d_hidden, gate_up;
};

// silu in fp32 may fall on either side of a midpoint of T, so there may be two right results.
template <class T>
void expect_hidden(const std::vector<T>& hidden, const Inputs<T>& in) {
  ASSERT_EQ(hidden.size(), in.gates.size());
  for (size_t i = 0; i < hidden.size(); ++i) {
    const double g = real(in.gates[i]), u = real(in.ups[i]), silu = g * sigmoid(g), error = fp32_error(g);
    if constexpr (std::is_same_v<T, float>) {
      ASSERT_NEAR(hidden[i], u * silu, std::abs(u * silu) * (error + 0x1p-23) + kTiny)
          << "element " << i << ", gate " << g;
    } else {
      const double low = u * real(rounded<T>(silu * (1 - error))), high = u * real(rounded<T>(silu * (1 + error)));
      const double ours = real(hidden[i]);
      ASSERT_TRUE(ours == real(rounded<T>(low)) || ours == real(rounded<T>(high)) || std::abs(u * silu) < kTiny)
          << "element " << i << ", gate " << g << ", up " << u << ": " << ours << ", wanted " << low << " or " << high;
      ASSERT_LE(std::abs(ours), std::abs(u * silu) * 1.02 + kTiny);
    }
  }
}

template <class T>
void goes_forward(const Case& c) {
  const Inputs<T> in(c);
  const int64_t ld = c.ld(), wide_ld = c.wide_ld();
  const Buffer<T> d_gate_up(spread(in.gate_up, 2 * c.dim, wide_ld), c.offset);
  const auto ours = under_all_schedules([&] {
    const Buffer<T> d_hidden(static_cast<size_t>((c.rows - 1) * ld + c.dim), c.offset);
    EXPECT_EQ(swiglu(d_hidden.data(), ld, d_gate_up.data(), wide_ld, c.rows, c.dim, nullptr), cudaSuccess);
    return d_hidden.download();
  });
  const auto hidden = gathered(ours, c.rows, c.dim, ld);
  expect_hidden(hidden, in);
  expect_bits(ours, spread(hidden, c.dim, ld));
}

enum class Hidden { kNone, kItsOwn, kDHidden };

template <class T>
void goes_back(const Case& c, bool in_place, Hidden place) {
  const Inputs<T> in(c);
  const int64_t ld = c.ld(), wide_ld = c.wide_ld();
  const auto [gradient, hidden] = under_all_schedules([&] {
    const Buffer<T> d_gate_up(spread(in.gate_up, 2 * c.dim, wide_ld), c.offset);
    const Buffer<T> d_gradient(d_gate_up.size(), c.offset + c.gradient_offset);
    const Buffer<T> d_d_hidden(spread(in.d_hidden, c.dim, ld), c.offset);
    const Buffer<T> d_hidden(d_d_hidden.size(), c.offset);
    const Buffer<T>& to = in_place ? d_gate_up : d_gradient;
    T* hidden_to = place == Hidden::kNone ? nullptr : place == Hidden::kItsOwn ? d_hidden.data() : d_d_hidden.data();
    EXPECT_EQ(swiglu_backward(to.data(), wide_ld, hidden_to, ld, d_d_hidden.data(), ld, d_gate_up.data(), wide_ld,
                              c.rows, c.dim, nullptr),
              cudaSuccess);
    if (!in_place) expect_bits(d_gate_up.download(), spread(in.gate_up, 2 * c.dim, wide_ld));
    if (place != Hidden::kDHidden) expect_bits(d_d_hidden.download(), spread(in.d_hidden, c.dim, ld));
    return std::tuple(to.download(), place == Hidden::kDHidden ? d_d_hidden.download() : d_hidden.download());
  });
  std::vector<double> exact(in.gate_up.size()), terms(in.gate_up.size());
  for (size_t i = 0; i < in.gates.size(); ++i) {
    const size_t dim = static_cast<size_t>(c.dim), row = i / dim, gate = row * 2 * dim + i % dim, up = gate + dim;
    const double g = real(in.gates[i]), u = real(in.ups[i]), d = real(in.d_hidden[i]), s = sigmoid(g);
    exact[gate] = d * u * s * (1 + g * (1 - s));
    terms[gate] = std::abs(d * u * s) * (1 + std::abs(g)) * fp32_error(g) * 2 + kTiny;
    exact[up] = d * g * s;
    terms[up] = std::abs(exact[up]) * fp32_error(g) + kTiny;
  }
  const auto got = gathered(gradient, c.rows, 2 * c.dim, wide_ld);
  expect_rounded(got, exact, [&](size_t i) { return terms[i]; });
  expect_bits(gradient, spread(got, 2 * c.dim, wide_ld));
  if (place == Hidden::kNone) return;
  const auto got_hidden = gathered(hidden, c.rows, c.dim, ld);
  expect_hidden(got_hidden, in);
  expect_bits(hidden, spread(got_hidden, c.dim, ld));
}

class Swiglu : public ::testing::TestWithParam<Case> {};
TEST_P(Swiglu, IsTheDefinitionInBfloat16) { goes_forward<bf16>(GetParam()); }
TEST_P(Swiglu, IsTheDefinitionInFloat32) { goes_forward<float>(GetParam()); }
TEST_P(Swiglu, GoesBackInBfloat16) { goes_back<bf16>(GetParam(), false, Hidden::kNone); }
TEST_P(Swiglu, GoesBackInFloat32) { goes_back<float>(GetParam(), false, Hidden::kNone); }
TEST_P(Swiglu, GoesBackAndWritesHidden) { goes_back<bf16>(GetParam(), false, Hidden::kItsOwn); }
TEST_P(Swiglu, GoesBackInPlaceInBfloat16) { goes_back<bf16>(GetParam(), true, Hidden::kDHidden); }
TEST_P(Swiglu, GoesBackInPlaceInFloat32) { goes_back<float>(GetParam(), true, Hidden::kDHidden); }

// Around the vectors and around one vector for each of the 256 threads.
INSTANTIATE_TEST_SUITE_P(Sizes, Swiglu,
                         ::testing::Values(Case{1, 1}, Case{3, 3}, Case{3, 4}, Case{3, 7}, Case{3, 8}, Case{3, 9},
                                           Case{3, 12}, Case{2, 1023}, Case{2, 1024}, Case{2, 1028}, Case{2, 2047},
                                           Case{2, 2048}, Case{2, 2056}, Case{5, 264}, Case{2, 8192}, Case{1, 17920}));
// The third and fourth: distances allow vectors, the width does not.
INSTANTIATE_TEST_SUITE_P(Distances, Swiglu,
                         ::testing::Values(Case{3, 64, 16, 32}, Case{3, 64, 4, 4}, Case{3, 12, 4, 0}, Case{3, 6, 2, 0},
                                           Case{3, 64, 1, 1}));
INSTANTIATE_TEST_SUITE_P(Addresses, Swiglu,
                         ::testing::Values(Case{2, 64, 0, 0, 1}, Case{2, 64, 0, 0, 4}, Case{2, 64, 0, 0, 0, 1}));

TEST(SwigluLaunch, NoRowsAreNoLaunch) {
  float* none = nullptr;
  EXPECT_EQ(swiglu(none, 8, none, 16, 0, 8, nullptr), cudaSuccess);
  EXPECT_EQ(swiglu_backward(none, 16, none, 8, none, 8, none, 16, 0, 8, nullptr), cudaSuccess);
}

}  // namespace
}  // namespace phi3tune::kernels
