#include "dora.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace phi3tune::model {
namespace {

constexpr int64_t kRows = 256;  // of W that are widened at one time

}  // namespace

void DoraFactors::attach(const LoraAdapters& adapters) {
  adapters_ = &adapters;
  base_known_.assign(adapters.pairs().size(), false);
  known_.assign(adapters.pairs().size(), false);
}

void DoraFactors::parameters_changed() noexcept { std::fill(known_.begin(), known_.end(), false); }

size_t DoraFactors::index_of(const LoraPair& pair) const {
  return static_cast<size_t>(&pair - adapters_->pairs().data());
}

void DoraFactors::find_norm(const LoraPair& pair, const at::Tensor& weight) {
  const auto index = index_of(pair);
  const auto wide = pair.a.scalar_type();
  // The sums nearly cancel where a row has become short: float64.
  const auto a = pair.a.to(at::kDouble);
  const auto gram = at::mm(a, a.t());
  const int64_t outputs = weight.size(0);
  for (int64_t first = 0; first < outputs; first += kRows) {
    const int64_t count = std::min(kRows, outputs - first);
    const auto rows = weight.narrow(0, first, count).to(wide);
    const auto base_square = pair.base_square.narrow(0, first, count);
    if (!base_known_[index]) {
      base_square.copy_(rows.to(at::kDouble).square().sum(1));
    }
    const auto b = pair.b.narrow(0, first, count).to(at::kDouble);
    const auto crossed = at::mm(rows, pair.a.t()).to(at::kDouble);  // W A^T
    const auto squares = base_square + (b * crossed).sum(1) * (2.0 * pair.scale) +
                         (b * at::mm(b, gram)).sum(1) * (pair.scale * pair.scale);
    // A row of zeros has length 0, and stays zero whatever it is divided by.
    pair.norm.narrow(0, first, count).copy_(squares.clamp_min(1e-60).sqrt());
  }
  base_known_[index] = true;
}

const at::Tensor& DoraFactors::of(const LoraPair& pair, const at::Tensor& weight) {
  const auto index = index_of(pair);
  if (!known_[index]) {
    find_norm(pair, weight);
    auto factor = pair.factor;
    at::div_out(factor, pair.magnitude, pair.norm);
    known_[index] = true;
  }
  return pair.factor;
}

void DoraFactors::start(const LoraPair& pair, const at::Tensor& weight) {
  find_norm(pair, weight);
  pair.magnitude.copy_(pair.norm);
  known_[index_of(pair)] = false;
}

}  // namespace phi3tune::model
