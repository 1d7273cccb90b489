#include "phi3tune/model/pissa.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <tuple>

#include "mapped_tensor.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/stop.h"
#include "random_stream.h"

namespace phi3tune::model {
namespace {

struct Decomposition {
  at::Tensor left, values, right;  // [out, r], [r], [r, in]
};

Decomposition exact(const at::Tensor& weight, int64_t rank) {
  const auto [left, values, right] = at::linalg_svd(weight, /*full_matrices=*/false);
  return {left.narrow(1, 0, rank), values.narrow(0, 0, rank), right.narrow(0, 0, rank)};
}

at::Tensor basis_of(const at::Tensor& x) { return std::get<0>(at::linalg_qr(x)); }

// torch.svd_lowrank: the range of W, found by `iterations` power iterations from a random start (arXiv 0909.4061,
// algorithms 4.4 and 5.1, without oversampling).
Decomposition randomised(const at::Tensor& weight, int64_t rank, int64_t iterations, const RandomStream& stream) {
  const bool wide = weight.size(0) < weight.size(1);
  const auto tall = wide ? weight.t() : weight;
  auto start = at::empty({tall.size(1), rank}, at::kFloat);
  auto* values = start.data_ptr<float>();
  for (int64_t i = 0; i < start.numel(); ++i) {
    values[i] = static_cast<float>(stream.normal(static_cast<uint64_t>(i)));
  }
  auto basis = basis_of(at::mm(tall, start));
  for (int64_t i = 0; i < iterations; ++i) {
    basis = basis_of(at::mm(tall.t(), basis));
    basis = basis_of(at::mm(tall, basis));
  }
  const auto [left, sizes, right] = at::linalg_svd(at::mm(basis.t(), tall), /*full_matrices=*/false);
  const auto whole_left = at::mm(basis, left);
  return wide ? Decomposition{right.t(), sizes, whole_left.t()} : Decomposition{whole_left, sizes, right};
}

}  // namespace

at::Tensor principal_parts(const phi3::ModelFolder& folder, const LoraAdapters& adapters, const PissaOptions& options) {
  for (const auto& pair : adapters.pairs()) {
    const int64_t most = std::min(pair.a.size(1), pair.b.size(0));
    if (pair.rank > most) {
      throw ConfigError("lora_init: pissa: {} has only {} singular values, found a rank of {}; wanted at most as many",
                        pair.module_path, most, pair.rank);
    }
    if (folder.is_prequantized(pair.layer, pair.kind)) {
      throw ConfigError(
          "lora_init: pissa: {} is quantised in {} already, and its principal part is taken before; give the 16-bit "
          "base with adapter: qlora, or lora_init: default",
          pair.module_path, folder.path());
    }
  }
  auto flat = at::zeros({adapters.count()}, adapters.parameters().scalar_type());
  const auto started = std::chrono::steady_clock::now();
  size_t done = 0;
  for (const auto& pair : adapters.pairs()) {
    if (stop_requested()) {
      throw Interrupted("stopped while the principal parts of {} were found: nothing was trained yet", folder.path());
    }
    const auto located = folder.tensor(pair.module_path + ".weight");
    const auto weight = mapped_tensor(located).to(options.compute_dtype).to(at::kFloat);
    if (!at::isfinite(weight).all().item<bool>()) {
      throw ModelError("{}: {}.weight holds values that are not finite; the model folder is damaged",
                       located.file->path(), pair.module_path);
    }
    const auto parts = options.iterations < 0 ? exact(weight, pair.rank)
                                              : randomised(weight, pair.rank, options.iterations,
                                                           RandomStream(options.seed, pair.module_path));
    const auto roots = (parts.values / pair.scale).sqrt();
    const auto put = [&](const at::Tensor& like, const at::Tensor& value) {
      const int64_t offset = like.storage_offset() - adapters.parameters().storage_offset();
      flat.narrow(0, offset, like.numel()).view(like.sizes()).copy_(value);
    };
    put(pair.a, parts.right * roots.unsqueeze(1));
    put(pair.b, parts.left * roots);
    located.release();
    if (++done == 1) {
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
      log_info("lora_init: the principal part of {} took {:.1f} s, there are {} linears{}", pair.module_path, seconds,
               adapters.pairs().size(),
               options.iterations < 0 && seconds > 10 ? "; pissa_niter_4 is faster and nearly as exact" : "");
    }
  }
  return flat;
}

at::Tensor without_principal_part(const at::Tensor& weight, const LoraPair& pair) {
  const auto wide = weight.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  auto rest = weight.to(wide, /*non_blocking=*/false, /*copy=*/true);
  rest.addmm_(pair.initial_b.to(wide), pair.initial_a.to(wide), 1.0, -pair.scale);
  return rest.to(weight.scalar_type());
}

}  // namespace phi3tune::model
