// Tensors of an adapter file: their names, and bytes to tensors and back.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "checkpoint/faults.h"
#include "phi3tune/io/safetensors.h"
#include "phi3tune/model/dtype.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/phi3/adapter_config.h"
#include "phi3tune/phi3/fused_adapter.h"

namespace phi3tune::checkpoint {

struct NamedTensor {
  std::string name;  // as PEFT writes it
  at::Tensor value;
};

// A, B and, with DoRA, the magnitude of every pair, then the whole weights: the masters themselves.
std::vector<NamedTensor> named_masters(const model::LoraAdapters& adapters);

// What a file holds, on any base folder's own weights: the masters; or, where the adapter started as a part of the base
// (PiSSA), [A; A0] and [B, -B0] of twice the rank, as PEFT's path_initial_model_for_weight_conversion writes.
std::vector<NamedTensor> saved_tensors(const model::LoraAdapters& adapters);
phi3::AdapterConfig saved_config(const model::LoraAdapters& adapters);
// The file's tensors, in that order, into the masters. What stands beside a master that started from the base must be
// its start, to the bit: else a fault.
void compare_starts(const std::string& path, const model::LoraAdapters& adapters, const std::vector<at::Tensor>& values,
                    Faults& faults);
void copy_saved(const model::LoraAdapters& adapters, const std::vector<at::Tensor>& values);

// F32, F16 or BF16; anything else is false.
bool is_adapter_dtype(io::DType dtype) noexcept;

// A copy of the bytes as a tensor; they need not be aligned.
at::Tensor tensor_of(const io::SafetensorsFile& file, const io::TensorEntry& entry);
// A [rank, in] and B [out, rank] of a fused module in float32, on the host; with DoRA its magnitude [out].
struct PairTensors {
  at::Tensor a, b, magnitude;
};
PairTensors tensors_of(const phi3::AdapterFolder& folder, const phi3::FusedModule& module, int64_t in, int64_t out);
// The bytes of a contiguous tensor.
std::span<const std::byte> bytes_of(const at::Tensor& tensor);

// The scales that folder/adapter_config.json gives against those of `adapters`. Throws CheckpointError when it cannot
// be read.
void compare_scales(const std::string& folder, const model::LoraAdapters& adapters, Faults& faults);

std::string shape_text(const std::vector<int64_t>& shape);  // "[4, 3072]"

}  // namespace phi3tune::checkpoint
