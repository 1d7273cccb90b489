#include "phi3tune/model/lora.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/ops/backend.h"
#include "phi3tune/ops/ops.h"
#include "random_stream.h"

namespace phi3tune::model {
namespace {

constexpr std::array kKinds{phi3::LinearKind::kQkv, phi3::LinearKind::kO, phi3::LinearKind::kGateUp,
                            phi3::LinearKind::kDown};

template <typename T>
void fill_a(at::Tensor& a, const RandomStream& stream, bool gaussian) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(a.size(1)));
  const double deviation = 1.0 / static_cast<double>(a.size(0));
  auto* values = a.data_ptr<T>();
  for (int64_t i = 0; i < a.numel(); ++i) {
    const auto index = static_cast<uint64_t>(i);
    values[i] =
        static_cast<T>(gaussian ? deviation * stream.normal(index) : bound * (2.0 * stream.uniform(index) - 1.0));
  }
}

}  // namespace

Ranks ranks_of(const phi3::ModelConfig& model, const phi3::AdapterConfig& config) {
  Ranks ranks(static_cast<size_t>(model.num_layers));
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    for (const auto kind : kKinds) {
      const auto path = phi3::linear_path(layer, kind);
      ranks[static_cast<size_t>(layer)][static_cast<size_t>(kind)] = config.targets(path) ? config.rank_of(path) : 0;
    }
  }
  return ranks;
}

int64_t parameters_of(const phi3::ModelConfig& model, const Ranks& ranks) {
  int64_t total = 0;
  for (const auto& layer : ranks) {
    for (const auto kind : kKinds) {
      total += layer[static_cast<size_t>(kind)] * (phi3::linear_in(model, kind) + phi3::linear_out(model, kind));
    }
  }
  return total;
}

LoraAdapters::LoraAdapters(const phi3::ModelConfig& model, const phi3::AdapterConfig& config,
                           at::ScalarType compute_dtype, uint64_t seed, bool gaussian, std::shared_ptr<Arena> arena)
    : arena_(std::move(arena)), config_(config), index_(static_cast<size_t>(model.num_layers)) {
  for (auto& layer : index_) {
    layer.fill(-1);
  }
  int64_t total = 0;
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    for (const auto kind : kKinds) {
      LoraPair pair;
      pair.module_path = phi3::linear_path(layer, kind);
      if (!config.targets(pair.module_path)) {
        continue;
      }
      pair.layer = layer;
      pair.kind = kind;
      pair.rank = config.rank_of(pair.module_path);
      pair.scale = config.scale_of(pair.module_path);
      total += pair.rank * (phi3::linear_in(model, kind) + phi3::linear_out(model, kind));
      magnitudes_ += config.use_dora ? phi3::linear_out(model, kind) : 0;
      index_[static_cast<size_t>(layer)][static_cast<size_t>(kind)] = static_cast<int64_t>(pairs_.size());
      pairs_.push_back(std::move(pair));
    }
  }
  total += magnitudes_;
  const int64_t pair_total = total;
  const int64_t whole_size = model.vocab_size * model.hidden_size;
  for (const auto module : phi3::kWholeModules) {
    if (config.trains_whole(module)) {
      whole_.push_back({module, {}, {}, {}});
      total += whole_size;
    }
  }

  const auto master_dtype = compute_dtype == at::kDouble ? at::kDouble : at::kFloat;
  plan::StepShape shape;
  shape.element_size = c10::elementSize(compute_dtype);
  shape.wide_size = c10::elementSize(master_dtype);
  shape.magnitudes = magnitudes_;
  const auto buffers = plan::declare_adapter(total, shape);
  const auto block = arena_->part(plan::Part::kAdapter, buffers.bytes);
  parameters_ = view(block, buffers.parameters, master_dtype, total);
  gradients_ = view(block, buffers.gradients, master_dtype, total);
  compute_ = compute_dtype == master_dtype ? parameters_ : view(block, buffers.copy, compute_dtype, total);
  gradients_.zero_();
  at::Tensor norms, factors, base_squares;
  if (magnitudes_ > 0) {
    norms = view(block, buffers.norms, master_dtype, magnitudes_);
    factors = view(block, buffers.factors, master_dtype, magnitudes_);
    base_squares = view(block, buffers.base_squares, at::kDouble, magnitudes_);
  }
  const auto start = at::zeros({pair_total}, at::dtype(master_dtype));  // on the host
  int64_t offset = 0;
  int64_t outputs = 0;  // before the pair's
  for (auto& pair : pairs_) {
    const int64_t in = phi3::linear_in(model, pair.kind);
    const int64_t out = phi3::linear_out(model, pair.kind);
    const int64_t b_offset = offset + pair.rank * in;
    const auto view_a = [&](const at::Tensor& flat) {
      return flat.narrow(0, offset, pair.rank * in).view({pair.rank, in});
    };
    const auto view_b = [&](const at::Tensor& flat) {
      return flat.narrow(0, b_offset, out * pair.rank).view({out, pair.rank});
    };
    pair.a = view_a(parameters_);
    pair.b = view_b(parameters_);
    pair.grad_a = view_a(gradients_);
    pair.grad_b = view_b(gradients_);
    pair.compute_a = view_a(compute_);
    pair.compute_b = view_b(compute_);
    auto start_a = view_a(start);
    offset = b_offset + out * pair.rank;
    runs_.push_back({ParameterKind::kA, pair.rank * in});
    runs_.push_back({ParameterKind::kB, out * pair.rank});
    if (magnitudes_ > 0) {
      pair.magnitude = parameters_.narrow(0, offset, out);
      pair.grad_magnitude = gradients_.narrow(0, offset, out);
      pair.norm = norms.narrow(0, outputs, out);
      pair.factor = factors.narrow(0, outputs, out);
      pair.base_square = base_squares.narrow(0, outputs, out);
      runs_.push_back({ParameterKind::kB, out});
      offset += out;
      outputs += out;
    }
    const RandomStream stream(seed, pair.module_path);
    if (master_dtype == at::kDouble) {
      fill_a<double>(start_a, stream, gaussian);
    } else {
      fill_a<float>(start_a, stream, gaussian);
    }
  }
  for (auto& weight : whole_) {
    const auto view_whole = [&](const at::Tensor& flat) {
      return flat.narrow(0, offset, whole_size).view({model.vocab_size, model.hidden_size});
    };
    weight.value = view_whole(parameters_);
    weight.grad = view_whole(gradients_);
    weight.compute = view_whole(compute_);
    weight.value.zero_();
    runs_.push_back({ParameterKind::kWhole, whole_size});
    offset += whole_size;
  }
  ops::backend().memory.upload(parameters_.narrow(0, 0, pair_total), start.data_ptr());
  refresh_compute_copies();
}

void LoraAdapters::start_from_base(const at::Tensor& flat) {
  require(flat.numel() == count() && flat.scalar_type() == parameters_.scalar_type(), "a start for every parameter");
  initial_ = flat.contiguous();
  const auto of = [&](const at::Tensor& part) {
    return initial_.narrow(0, part.storage_offset() - parameters_.storage_offset(), part.numel()).view(part.sizes());
  };
  for (auto& pair : pairs_) {
    pair.initial_a = of(pair.a);
    pair.initial_b = of(pair.b);
    ops::backend().memory.upload(pair.a, pair.initial_a.data_ptr());
    ops::backend().memory.upload(pair.b, pair.initial_b.data_ptr());
  }
  refresh_compute_copies();
}

const LoraPair* LoraAdapters::find(int64_t layer, phi3::LinearKind kind) const noexcept {
  const int64_t index = index_[static_cast<size_t>(layer)][static_cast<size_t>(kind)];
  return index < 0 ? nullptr : &pairs_[static_cast<size_t>(index)];
}

const WholeWeight* LoraAdapters::find(phi3::WholeModule module) const noexcept {
  for (const auto& weight : whole_) {
    if (weight.module == module) {
      return &weight;
    }
  }
  return nullptr;
}

// The head of a tied base is its embedding; trained, it is a weight of its own, as in PEFT.
void LoraAdapters::take_base_weights(const phi3::ModelFolder& folder) {
  for (const auto& weight : whole_) {
    const bool own = weight.module == phi3::WholeModule::kHead && !folder.config().tie_word_embeddings;
    const auto located = folder.tensor(own ? "lm_head.weight" : "model.embed_tokens.weight");
    const auto dtype = located.entry->dtype;
    const auto bytes = located.data();
    auto loaded = at::empty(located.entry->shape, at::dtype(dtype == io::DType::kF32   ? at::kFloat
                                                            : dtype == io::DType::kF16 ? at::kHalf
                                                                                       : at::kBFloat16));
    std::memcpy(loaded.data_ptr(), bytes.data(), bytes.size());
    located.release();
    loaded = loaded.to(weight.value.scalar_type());
    ops::backend().memory.upload(weight.value, loaded.data_ptr());
  }
  refresh_compute_copies();
}

at::Tensor LoraAdapters::compute_copy() const { return compute_.is_same(parameters_) ? at::Tensor() : compute_; }

void LoraAdapters::zero_gradients() { gradients_.zero_(); }

void LoraAdapters::refresh_compute_copies() {
  if (!compute_.is_same(parameters_)) {
    ops::convert(compute_, parameters_);
  }
}

}  // namespace phi3tune::model
