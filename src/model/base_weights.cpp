#include "base_weights.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cstring>
#include <utility>

#include "mapped_tensor.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/model/dtype.h"
#include "phi3tune/model/pissa.h"
#include "phi3tune/model/prequantized.h"
#include "phi3tune/ops/backend.h"
#include "quantized_block.h"

namespace phi3tune::model {
namespace {

constexpr std::array kKinds{phi3::LinearKind::kQkv, phi3::LinearKind::kO, phi3::LinearKind::kGateUp,
                            phi3::LinearKind::kDown};

}  // namespace

plan::WeightShape weight_shape(const Phi3Options& options, const phi3::ModelFolder& folder) {
  plan::WeightShape shape;
  shape.quantize = options.quantize;
  shape.block_size = options.nf4.block_size;
  shape.double_quant = options.nf4.double_quant;
  if (folder.is_prequantized(0, phi3::LinearKind::kO)) {
    const auto& config = folder.config();
    const auto held = read_prequantized(folder, phi3::linear_path(0, phi3::LinearKind::kO) + ".weight",
                                        phi3::linear_out(config, phi3::LinearKind::kO),
                                        phi3::linear_in(config, phi3::LinearKind::kO));
    shape.quantize = true;
    shape.block_size = held.block_size;
    shape.double_quant = held.double_quant;
  }
  shape.element_size = c10::elementSize(options.compute_dtype);
  shape.in_arena = ops::backend().extended;
  return shape;
}

plan::StepShape step_shape(const Phi3Options& options, const phi3::ModelConfig& config) {
  plan::StepShape shape;
  shape.head_chunk = options.head_chunk;
  shape.element_size = c10::elementSize(options.compute_dtype);
  shape.wide_size = options.compute_dtype == at::kDouble ? 8 : 4;
  shape.dropout = options.dropout > 0.0;
  shape.extended = ops::backend().extended;
  shape.ranks = options.ranks;
  const auto layers = static_cast<size_t>(config.num_layers);
  shape.saved = options.saved;
  if (shape.saved.size() <= 1) {
    shape.saved.assign(layers, shape.saved.empty() ? plan::SavedActivations::kNone : shape.saved.front());
  }
  require(shape.saved.size() == layers, "a policy for every layer");
  return shape;
}

BaseWeights::BaseWeights(const phi3::ModelFolder& folder, const Phi3Options& options, std::shared_ptr<Arena> arena)
    : options_(options), arena_(std::move(arena)), in_arena_(ops::backend().extended), dtype_(options.compute_dtype) {
  const auto& config = folder.config();
  const auto shape = weight_shape(options, folder);
  const auto step = step_shape(options, config);
  places_ = plan::declare_weights(config, shape, step);
  places_.layers.resize(static_cast<size_t>(config.num_layers));
  scratch_places_ = plan::declare_scratch(config, shape, step);
  block_ = arena_->part(plan::Part::kWeights, places_.bytes);
  scratch_block_ = arena_->part(plan::Part::kScratch, scratch_places_.bytes);

  embedding_ = load_dense(folder.tensor("model.embed_tokens.weight"), places_.embedding).matrix;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const auto prefix = fmt::format("model.layers.{}.", i);
    const auto& places = places_.layers[static_cast<size_t>(i)];
    auto& layer = layers_.emplace_back();
    layer.attention_norm = load_norm(folder.tensor(prefix + "input_layernorm.weight"), places.attention_norm);
    layer.mlp_norm = load_norm(folder.tensor(prefix + "post_attention_layernorm.weight"), places.mlp_norm);
    for (const auto kind : kKinds) {
      if (stop_requested()) {
        throw Interrupted("stopped while loading {}: nothing was computed yet", folder.path());
      }
      const auto k = static_cast<size_t>(kind);
      const auto name = phi3::linear_path(i, kind) + ".weight";
      if (shape.quantize) {
        const int64_t out = phi3::linear_out(config, kind);
        const int64_t in = phi3::linear_in(config, kind);
        if (in_arena_) {
          const auto layout = quant::nf4_layout(out, in, shape.block_size, shape.double_quant);
          layer.linears[k].block = view(block_, places.quantized[k], at::kByte, static_cast<int64_t>(layout.bytes));
        }
        load_quantized(folder, name, out, in, kind, principal_of(i, kind), layer.linears[k]);
      } else {
        layer.linears[k].dense = load_dense(folder.tensor(name), places.dense[k], principal_of(i, kind));
      }
    }
  }
  final_norm_ = load_norm(folder.tensor("model.norm.weight"), places_.final_norm);
  head_ = config.tie_word_embeddings ? ops::LinearWeight{embedding_}
                                     : load_dense(folder.tensor("lm_head.weight"), places_.head);
  options_.principal = nullptr;  // asked for while loading alone
}

const LoraPair* BaseWeights::principal_of(int64_t layer, phi3::LinearKind kind) const {
  return options_.principal == nullptr ? nullptr : options_.principal->find(layer, kind);
}

at::Tensor BaseWeights::load_mapped(const phi3::LocatedTensor& located, const LoraPair* principal) {
  auto loaded = mapped_tensor(located);
  const bool changed = loaded.scalar_type() != dtype_ || principal != nullptr;
  loaded = loaded.to(dtype_);
  if (principal != nullptr) {
    loaded = without_principal_part(loaded, *principal);
  }
  if (changed) {
    located.release();
  }
  return loaded;
}

ops::LinearWeight BaseWeights::place_dense(const at::Tensor& block, const plan::DenseBuffer& place) const {
  ops::LinearWeight weight{view(block, place.offset, dtype_, place.rows, place.cols, place.ld)};
  if (place.extra_rows > 0) {
    weight.extended = view(block, place.offset, dtype_, place.rows + place.extra_rows, place.ld, place.ld);
  }
  return weight;
}

ops::LinearWeight BaseWeights::load_dense(const phi3::LocatedTensor& located, const plan::DenseBuffer& place,
                                          const LoraPair* principal) {
  const auto loaded = load_mapped(located, principal);
  bytes_ += loaded.nbytes();
  if (!in_arena_) {
    return {loaded};
  }
  auto weight = place_dense(block_, place);
  if (weight.extended.defined()) {
    weight.extended.zero_();
  }
  ops::backend().memory.upload(weight.matrix, loaded.data_ptr());
  located.release();
  return weight;
}

at::Tensor BaseWeights::load_norm(const phi3::LocatedTensor& located, const plan::DenseBuffer& place) {
  const auto weight = load_dense(located, place).matrix;
  return weight.dim() == 1 ? weight : weight.squeeze(0);
}

bool BaseWeights::quantize_in_place(std::span<const std::byte> bytes, phi3::LinearKind kind, Linear& linear) {
  const auto& backend = ops::backend();
  const auto& place = scratch_places_.weight[static_cast<size_t>(kind)];
  const size_t room = static_cast<size_t>((place.rows + place.extra_rows) * place.ld) * c10::elementSize(dtype_);
  if (backend.quantize == nullptr || bytes.size() > room) {
    return false;
  }
  auto& shape = *linear.quantized;
  const auto weights = view(scratch_block_, place.offset, at::kByte, static_cast<int64_t>(bytes.size()));
  backend.memory.upload(weights, bytes.data());
  const auto absmax = view(scratch_block_, scratch_places_.absmax, at::kFloat, shape.blocks());
  const int64_t bad = backend.quantize(linear.block, absmax, weights, shape);
  if (bad >= 0) {
    throw ModelError("row {}, column {} is not a finite number; the model folder is damaged", bad / shape.cols,
                     bad % shape.cols);
  }
  return true;
}

void BaseWeights::load_quantized(const phi3::ModelFolder& folder, const std::string& name, int64_t out, int64_t in,
                                 phi3::LinearKind kind, const LoraPair* principal, Linear& linear) {
  const auto located = folder.tensor(name);
  if (located.entry->dtype == io::DType::kU8) {
    require(principal == nullptr, "a principal part is taken before quantising");
    linear.quantized = read_prequantized(folder, name, out, in);
  } else {
    // What PiSSA leaves is rounded to the file's dtype, as if it had been saved, and then quantised.
    const auto rest =
        principal == nullptr ? at::Tensor() : without_principal_part(mapped_tensor(located), *principal).contiguous();
    const auto bytes = principal == nullptr
                           ? located.data()
                           : std::span(static_cast<const std::byte*>(rest.const_data_ptr()), rest.nbytes());
    const auto source = float_type(located.entry->dtype);
    try {
      if (in_arena_) {
        linear.quantized.emplace();
        linear.quantized->rows = out;
        linear.quantized->cols = in;
        linear.quantized->block_size = options_.nf4.block_size;
        linear.quantized->double_quant = options_.nf4.double_quant;
        linear.quantized->source = source;
        if (quantize_in_place(bytes, kind, linear)) {
          bytes_ += linear.block.nbytes();
          located.release();
          return;
        }
      }
      linear.quantized = quant::quantize_nf4(bytes, source, out, in, options_.nf4, nullptr, at::get_num_threads());
      located.release();
    } catch (const ModelError& fault) {
      throw ModelError("{}: {}: {}", located.file->path(), name, fault.what());
    }
  }
  if (!in_arena_) {
    bytes_ += linear.quantized->bytes();
    return;
  }
  upload_quantized(linear.block, *linear.quantized);
  forget_bytes(*linear.quantized);
  bytes_ += linear.block.nbytes();
}

ops::LinearWeight BaseWeights::linear(int64_t layer, phi3::LinearKind kind, const LoraPair* pair) {
  const auto k = static_cast<size_t>(kind);
  const auto& held = layers_[static_cast<size_t>(layer)].linears[k];
  if (!held.quantized) {
    return held.dense;
  }
  auto& scratch = scratch_[k];
  if (!scratch.weight.matrix.defined()) {
    scratch.weight = place_dense(scratch_block_, scratch_places_.weight[k]);
    if (scratch.weight.extended.defined()) {
      scratch.weight.extended.zero_();
    }
  }
  if (scratch.layer != layer) {
    ops::dequantize(scratch.weight.matrix, *held.quantized, held.block);
    ++dequantisations_;
    if (pair != nullptr) {
      ops::write_extension(scratch.weight, pair->a, pair->b, pair->scale);
    }
    scratch.layer = layer;
  }
  return pair == nullptr ? ops::LinearWeight{scratch.weight.matrix} : scratch.weight;
}

void BaseWeights::adapter_changed(const LoraAdapters& adapters) {
  // What lies dequantised stays; only the adapter beside it is another.
  for (const auto kind : kKinds) {
    const auto& scratch = scratch_[static_cast<size_t>(kind)];
    const auto* pair = scratch.layer < 0 ? nullptr : adapters.find(scratch.layer, kind);
    if (pair != nullptr) {
      ops::write_extension(scratch.weight, pair->a, pair->b, pair->scale);
    }
  }
  for (const auto& pair : adapters.pairs()) {
    const auto& held = layers_[static_cast<size_t>(pair.layer)].linears[static_cast<size_t>(pair.kind)];
    if (!held.quantized) {
      ops::write_extension(held.dense, pair.a, pair.b, pair.scale);
    }
  }
}

}  // namespace phi3tune::model
