#include "checkpoint/adapter_tensors.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <cstring>

#include "phi3tune/core/error.h"
#include "phi3tune/phi3/adapter_config.h"

namespace phi3tune::checkpoint {

std::vector<NamedTensor> named_masters(const model::LoraAdapters& adapters) {
  std::vector<NamedTensor> tensors;
  for (const model::LoraPair& pair : adapters.pairs()) {
    tensors.push_back({phi3::lora_tensor_name(pair.module_path, 'A'), pair.a});
    tensors.push_back({phi3::lora_tensor_name(pair.module_path, 'B'), pair.b});
    if (pair.magnitude.defined()) {
      tensors.push_back({phi3::magnitude_tensor_name(pair.module_path), pair.magnitude});
    }
  }
  for (const model::WholeWeight& weight : adapters.whole_weights()) {
    tensors.push_back({phi3::whole_tensor_name(weight.module), weight.value});
  }
  return tensors;
}

std::vector<NamedTensor> saved_tensors(const model::LoraAdapters& adapters) {
  auto tensors = named_masters(adapters);
  if (!adapters.started_from_base()) {
    return tensors;
  }
  size_t index = 0;
  for (const model::LoraPair& pair : adapters.pairs()) {
    tensors[index++].value = at::cat({pair.a.to(at::kCPU), pair.initial_a}, 0);
    tensors[index++].value = at::cat({pair.b.to(at::kCPU), -pair.initial_b}, 1);
    index += pair.magnitude.defined() ? 1 : 0;
  }
  return tensors;
}

phi3::AdapterConfig saved_config(const model::LoraAdapters& adapters) {
  return adapters.started_from_base() ? phi3::with_doubled_rank(adapters.config()) : adapters.config();
}

void compare_starts(const std::string& path, const model::LoraAdapters& adapters, const std::vector<at::Tensor>& values,
                    Faults& faults) {
  size_t index = 0;
  for (const model::LoraPair& pair : adapters.pairs()) {
    const at::Tensor& a = values[index++];
    const at::Tensor& b = values[index++];
    index += pair.magnitude.defined() ? 1 : 0;
    if (!pair.initial_a.defined()) {
      continue;
    }
    const auto dtype = pair.initial_a.scalar_type();
    if (!at::equal(a.narrow(0, pair.rank, pair.rank).to(dtype), pair.initial_a) ||
        !at::equal(-b.narrow(1, pair.rank, pair.rank).to(dtype), pair.initial_b)) {
      faults.add("{}: {} started from another part of the base than this run", path, pair.module_path);
    }
  }
}

void copy_saved(const model::LoraAdapters& adapters, const std::vector<at::Tensor>& values) {
  size_t index = 0;
  for (const model::LoraPair& pair : adapters.pairs()) {
    at::Tensor(pair.a).copy_(values[index++].narrow(0, 0, pair.rank));
    at::Tensor(pair.b).copy_(values[index++].narrow(1, 0, pair.rank));
    if (pair.magnitude.defined()) {
      at::Tensor(pair.magnitude).copy_(values[index++]);
    }
  }
  for (const model::WholeWeight& weight : adapters.whole_weights()) {
    at::Tensor(weight.value).copy_(values[index++]);
  }
}

bool is_adapter_dtype(io::DType dtype) noexcept {
  return dtype == io::DType::kF32 || dtype == io::DType::kF16 || dtype == io::DType::kBF16;
}

at::Tensor tensor_of(const io::SafetensorsFile& file, const io::TensorEntry& entry) {
  at::Tensor tensor = at::empty(entry.shape, model::scalar_type(entry.dtype));
  const std::span<const std::byte> data = file.data(entry);
  if (!data.empty()) {
    std::memcpy(tensor.data_ptr(), data.data(), data.size());
  }
  return tensor;
}

PairTensors tensors_of(const phi3::AdapterFolder& folder, const phi3::FusedModule& module, int64_t in, int64_t out) {
  PairTensors pair{at::empty({module.rank, in}, at::kFloat), at::zeros({out, module.rank}, at::kFloat), {}};
  if (module.parts.front().from.magnitude != nullptr) {
    pair.magnitude = at::empty({out}, at::kFloat);
  }
  for (const auto& part : module.parts) {
    pair.a.narrow(0, part.first_rank, part.rank).copy_(tensor_of(folder.file(), *part.from.a));
    auto rows = pair.b.narrow(0, part.first_row, part.rows).narrow(1, part.first_rank, part.rank);
    rows.copy_(tensor_of(folder.file(), *part.from.b));
    if (part.factor != 1.0) {
      rows.mul_(part.factor);
    }
    if (pair.magnitude.defined()) {
      pair.magnitude.narrow(0, part.first_row, part.rows).copy_(tensor_of(folder.file(), *part.from.magnitude));
    }
  }
  return pair;
}

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

std::string shape_text(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

void compare_scales(const std::string& folder, const model::LoraAdapters& adapters, Faults& faults) {
  const phi3::AdapterConfig config = phi3::read_adapter_config(folder);
  for (const model::LoraPair& pair : adapters.pairs()) {
    const double scale = config.scale_of(pair.module_path);
    if (!(std::abs(scale - pair.scale) <= 1e-12 * std::abs(pair.scale))) {
      faults.add("{}/adapter_config.json: {} is scaled by {} there and by {} in this run (lora_alpha, r, use_rslora)",
                 folder, pair.module_path, scale, pair.scale);
    }
  }
}

}  // namespace phi3tune::checkpoint
