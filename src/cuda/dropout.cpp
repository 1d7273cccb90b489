#include <ATen/ATen.h>

#include "cuda/calls.h"
#include "cuda/cuda_ops.h"
#include "ops/philox.h"
#include "phi3tune/core/error.h"

namespace phi3tune::cuda {
namespace {

// `Key`: of dropout or of noise, which share the kernels' streams.
template <typename Key>
kernels::DropoutView view(const Documents& documents, const Key& key, uint32_t threshold, float keep_scale) {
  require(documents.on_device.defined() && key.sample_ids_on_device.defined(),
          "dropout and noise on a GPU want documents and sample ids in its memory");
  return {.cu_seqlens = data<int32_t>(documents.on_device),
          .sample_ids = data<uint64_t>(key.sample_ids_on_device),
          .documents = static_cast<int>(documents.cu_seqlens.size()) - 1,
          .seed = key.seed,
          .step = key.step,
          .layer = key.layer,
          .module = key.module,
          .threshold = threshold,
          .keep_scale = keep_scale};
}

kernels::DropoutView view(const Documents& documents, const DropoutKey& key) {
  return view(documents, key, ops::dropout_threshold(key.p), static_cast<float>(1.0 / (1.0 - key.p)));
}

}  // namespace

void dropout(const Tensor& out, const Tensor& x, const Documents& documents, const DropoutKey& key) {
  with_dtype("dropout", x.scalar_type(), [&]<typename T>(T) {
    launched("dropout",
             kernels::dropout<T>(data<T>(out), ld(out), data<T>(x), ld(x), view(documents, key), x.size(0), x.size(1),
                                 stream()),
             {&x});
  });
}

void dropout_add(const Tensor& dx, const Tensor& x, const Documents& documents, const DropoutKey& key) {
  with_dtype("dropout_add", x.scalar_type(), [&]<typename T>(T) {
    launched("dropout_add",
             kernels::dropout_add<T>(data<T>(dx), ld(dx), data<T>(x), ld(x), view(documents, key), x.size(0), x.size(1),
                                     stream()),
             {&x});
  });
}

void add_noise(const Tensor& x, const Documents& documents, const NoiseKey& key) {
  with_dtype("add_noise", x.scalar_type(), [&]<typename T>(T) {
    launched("add_noise",
             kernels::noise_add<T>(data<T>(x), ld(x), view(documents, key, /*threshold=*/0, /*keep_scale=*/1.0F),
                                   key.alpha, x.size(0), x.size(1), stream()),
             {&x});
  });
}

}  // namespace phi3tune::cuda
