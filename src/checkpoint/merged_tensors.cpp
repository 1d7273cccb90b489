#include "checkpoint/merged_tensors.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/model/prequantized.h"
#include "phi3tune/quant/nf4.h"

namespace phi3tune::checkpoint {
namespace {

constexpr int64_t kBlockValues = int64_t{4} << 20;  // of a tensor in float32 at a time: 16 MiB

// Rows of one weight of the base.
class SourceRows {
 public:
  SourceRows(const phi3::ModelFolder& base, const phi3::LocatedTensor& located, const phi3::TensorSpec& spec,
             bool linear, const std::optional<phi3::HeldInNf4>& held)
      : located_(located), columns_(spec.shape.back()) {
    if (located_.entry->dtype == io::DType::kU8) {
      quantized_ = model::read_prequantized(base, spec.name, spec.shape[0], columns_);
    } else if (held && linear) {
      quant::Nf4Options options;
      options.block_size = held->block_size;
      options.double_quant = held->double_quant;
      try {
        quantized_ = quant::quantize_nf4(located_.data(), model::float_type(located_.entry->dtype), spec.shape[0],
                                         columns_, options, nullptr, at::get_num_threads());
      } catch (const ModelError& fault) {
        throw ModelError("{}: {}: {}", located_.file->path(), spec.name, fault.what());
      }
    }
    if (quantized_) {
      located_.release();
    }
  }
  SourceRows(const SourceRows&) = delete;
  SourceRows& operator=(const SourceRows&) = delete;
  ~SourceRows() { located_.release(); }

  // Rows of a block must be a multiple of this.
  int64_t step() const { return quantized_ ? quantized_->block_size / std::gcd(quantized_->block_size, columns_) : 1; }

  // In the file's dtype; float32 where it is quantised.
  at::Tensor rows(int64_t begin, int64_t count) const {
    if (quantized_) {
      at::Tensor block = at::empty({count, columns_}, at::kFloat);
      quant::dequantize_nf4(*quantized_, begin * columns_, (begin + count) * columns_, quant::FloatType::kF32,
                            block.data_ptr());
      return block;
    }
    at::Tensor block = at::empty({count, columns_}, model::scalar_type(located_.entry->dtype));
    const size_t row = static_cast<size_t>(columns_) * io::dtype_size(located_.entry->dtype);
    std::memcpy(block.data_ptr(), located_.data().data() + static_cast<size_t>(begin) * row,
                static_cast<size_t>(count) * row);
    return block;
  }

 private:
  phi3::LocatedTensor located_;
  int64_t columns_;
  std::optional<quant::Nf4Tensor> quantized_;
};

// Where the values lie: a weight that was trained whole in the adapter's file, the others in the base. The head of a
// tied base is its embedding.
phi3::LocatedTensor locate(const phi3::ModelFolder& base, const phi3::AdapterFolder& adapter, const std::string& name) {
  for (const auto module : phi3::kWholeModules) {
    const auto* entry = adapter.file().find(phi3::whole_tensor_name(module));
    if (entry != nullptr && name == std::string(phi3::whole_module_path(module)) + ".weight") {
      return {&adapter.file(), entry};
    }
  }
  return base.tensor(base.has(name) ? name : "model.embed_tokens.weight");
}

}  // namespace

MergedTensors::MergedTensors(const phi3::ModelFolder& base, const phi3::AdapterFolder& adapter,
                             const phi3::FusedAdapter& fused, std::optional<phi3::HeldInNf4> held, io::DType dtype)
    : base_(base), adapter_(adapter), held_(held), dtype_(dtype) {
  for (const auto& module : fused.modules) {
    modules_.emplace(module.path + ".weight", &module);
  }
}

void MergedTensors::write(const phi3::TensorSpec& spec, const Sink& sink) const {
  const bool is_norm = spec.shape.size() == 1;
  const int64_t rows = is_norm ? 1 : spec.shape[0];
  const int64_t columns = spec.shape.back();
  const bool linear = spec.name.starts_with("model.layers.") && !is_norm;
  const SourceRows source(base_, locate(base_, adapter_, spec.name), spec, linear, held_);
  const auto found = modules_.find(spec.name);
  const auto* module = found == modules_.end() ? nullptr : found->second;
  std::optional<PairTensors> pair;
  if (module != nullptr) {
    pair = tensors_of(adapter_, *module, columns, rows);
  }
  const int64_t step = source.step();
  const int64_t most = std::max<int64_t>(1, kBlockValues / columns / step) * step;
  for (int64_t begin = 0; begin < rows; begin += most) {
    if (stop_requested()) {
      throw Interrupted("stopped while merging; nothing is kept of it: the same command starts again");
    }
    const int64_t count = std::min(most, rows - begin);
    at::Tensor block = source.rows(begin, count);
    if (pair) {
      block = at::addmm(block.to(at::kFloat), pair->b.narrow(0, begin, count), pair->a, 1.0, module->scale);
      if (pair->magnitude.defined()) {  // DoRA: the sum's rows at the trained lengths; a row of zeros stays zero
        block.mul_((pair->magnitude.narrow(0, begin, count) / block.norm(2, {1}).clamp_min(1e-30)).unsqueeze(1));
      }
    }
    block = block.to(model::scalar_type(dtype_)).contiguous();
    if (!at::isfinite(block).all().item<bool>()) {
      throw NumericsError("{}: holds values that are not finite as {} after the merge; nothing is written{}", spec.name,
                          io::dtype_name(dtype_),
                          dtype_ == io::DType::kF16 ? "; --dtype bfloat16 or float32 has room for larger ones" : "");
    }
    sink(bytes_of(block));
  }
}

}  // namespace phi3tune::checkpoint
