#include "base_weights.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstring>
#include <string>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/ops/ops.h"
#include "prequantized.h"

namespace phi3tune::model {
namespace {

constexpr std::array kKinds{phi3::LinearKind::kQkv, phi3::LinearKind::kO, phi3::LinearKind::kGateUp,
                            phi3::LinearKind::kDown};

at::ScalarType to_aten(io::DType dtype) {
  switch (dtype) {
    case io::DType::kF32:
      return at::kFloat;
    case io::DType::kBF16:
      return at::kBFloat16;
    case io::DType::kF16:
      return at::kHalf;
    default:
      throw InternalError("internal error: a weight of dtype {} passed the folder's check", io::dtype_name(dtype));
  }
}

quant::FloatType to_float_type(io::DType dtype) {
  return dtype == io::DType::kF32   ? quant::FloatType::kF32
         : dtype == io::DType::kF16 ? quant::FloatType::kF16
                                    : quant::FloatType::kBF16;
}

}  // namespace

BaseWeights::BaseWeights(const phi3::ModelFolder& folder, const Phi3Options& options) : dtype_(options.compute_dtype) {
  const auto& config = folder.config();
  embedding_ = load_dense(folder.tensor("model.embed_tokens.weight"));
  for (int64_t i = 0; i < config.num_layers; ++i) {
    if (stop_requested()) {
      throw Interrupted("stopped while loading {}: nothing was trained yet", folder.path());
    }
    const auto prefix = fmt::format("model.layers.{}.", i);
    auto& layer = layers_.emplace_back();
    layer.attention_norm = load_dense(folder.tensor(prefix + "input_layernorm.weight"));
    layer.mlp_norm = load_dense(folder.tensor(prefix + "post_attention_layernorm.weight"));
    for (const auto kind : kKinds) {
      auto& linear = layer.linears[static_cast<size_t>(kind)];
      const auto name = phi3::linear_path(i, kind) + ".weight";
      if (options.quantize || folder.is_prequantized(i, kind)) {
        linear.quantized =
            load_quantized(folder, name, phi3::linear_out(config, kind), phi3::linear_in(config, kind), options.nf4);
        bytes_ += linear.quantized->bytes();
      } else {
        linear.dense = load_dense(folder.tensor(name));
      }
    }
  }
  final_norm_ = load_dense(folder.tensor("model.norm.weight"));
  head_ = config.tie_word_embeddings ? embedding_ : load_dense(folder.tensor("lm_head.weight"));
}

at::Tensor BaseWeights::load_dense(const phi3::LocatedTensor& located) {
  const auto bytes = located.data();
  const auto file_dtype = to_aten(located.entry->dtype);
  const auto options = at::TensorOptions().dtype(file_dtype);
  const bool aligned = reinterpret_cast<uintptr_t>(bytes.data()) % io::dtype_size(located.entry->dtype) == 0;
  at::Tensor loaded;
  if (aligned) {
    // ATen has no read-only tensors: nothing in the engine writes to a weight, and the mapping would refuse it.
    loaded = at::from_blob(const_cast<std::byte*>(bytes.data()), located.entry->shape, options);
  } else {
    loaded = at::empty(located.entry->shape, options);
    std::memcpy(loaded.data_ptr(), bytes.data(), bytes.size());
  }
  if (file_dtype != dtype_) {
    loaded = loaded.to(dtype_);
    located.release();
  }
  bytes_ += loaded.nbytes();
  return loaded;
}

quant::Nf4Tensor BaseWeights::load_quantized(const phi3::ModelFolder& folder, const std::string& name, int64_t out,
                                             int64_t in, const quant::Nf4Options& options) {
  const auto located = folder.tensor(name);
  if (located.entry->dtype == io::DType::kU8) {
    return read_prequantized(folder, name, out, in);
  }
  try {
    auto quantized = quant::quantize_nf4(located.data(), to_float_type(located.entry->dtype), out, in, options, nullptr,
                                         at::get_num_threads());
    located.release();
    return quantized;
  } catch (const ModelError& fault) {
    throw ModelError("{}: {}: {}", located.file->path(), name, fault.what());
  }
}

const at::Tensor& BaseWeights::linear(int64_t layer, phi3::LinearKind kind) {
  const auto& held = layers_[static_cast<size_t>(layer)].linears[static_cast<size_t>(kind)];
  if (!held.quantized) {
    return held.dense;
  }
  auto& scratch = scratch_[static_cast<size_t>(kind)];
  if (!scratch.weight.defined()) {
    scratch.weight = at::empty({held.quantized->rows, held.quantized->cols}, at::dtype(dtype_));
  }
  if (scratch.layer != layer) {
    ops::dequantize(scratch.weight, *held.quantized);
    scratch.layer = layer;
  }
  return scratch.weight;
}

}  // namespace phi3tune::model
