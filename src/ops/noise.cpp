// NEFTune's noise on the embeddings.
#include <ATen/ATen.h>

#include <cmath>

#include "ops/checks.h"
#include "ops/philox.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/ops/definitions.h"

namespace phi3tune::ops {

at::Tensor definition::noise(int64_t columns, const Documents& documents, const NoiseKey& key, at::ScalarType wide) {
  const at::Tensor noise = at::empty({documents.cu_seqlens.back(), columns}, at::kDouble);
  auto* value = noise.mutable_data_ptr<double>();
  const auto rounded = [wide](double x) {
    return wide == at::kDouble ? x : static_cast<double>(static_cast<float>(x));
  };
  for (size_t i = 1; i < documents.cu_seqlens.size(); ++i) {
    const Philox4 stream = dropout_stream(key, key.sample_ids[i - 1]);
    const int64_t length = documents.cu_seqlens[i] - documents.cu_seqlens[i - 1];
    const double magnitude = rounded(noise_magnitude(key.alpha, length, columns));
    for (int64_t position = 0; position < length; ++position) {
      for (int64_t column = 0; column < columns; ++column) {
        const auto bits = static_cast<int32_t>(dropout_bits(stream, static_cast<uint32_t>(position), column));
        *value++ = rounded(magnitude * rounded(bits * 0x1.0p-31));
      }
    }
  }
  return noise.to(wide);
}

void add_noise(const at::Tensor& x, const Documents& documents, const NoiseKey& key) {
  const Check check("add_noise");
  const at::ScalarType dtype = check.compute_dtype("x", x);
  const int64_t tokens = check.size("x", x, 2, 0);
  check.tensor("x", x, dtype, {tokens, x.size(1)});
  check.documents(documents, tokens);
  check.that(key.alpha >= 0.0, "the noise has no size");
  check.that(key.sample_ids.size() + 1 == documents.cu_seqlens.size(), "wants one sample id for every document");
  backend().add_noise(x, documents, key);
}

}  // namespace phi3tune::ops
