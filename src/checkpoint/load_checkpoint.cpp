#include <ATen/ATen.h>

#include <cstring>
#include <set>

#include "checkpoint/adapter_tensors.h"
#include "checkpoint/checkpoint_parts.h"
#include "checkpoint/faults.h"
#include "phi3tune/checkpoint/checkpoint.h"
#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"

namespace phi3tune::checkpoint {
namespace {

io::SafetensorsFile open_tensors(const std::string& path) {
  try {
    return io::SafetensorsFile::open(path);
  } catch (const ModelError& error) {
    throw CheckpointError(std::string(error.what()));
  }
}

// The file's values of `wanted`, in their order, on the host; exactly these tensors must be there.
std::vector<at::Tensor> read_exactly(const std::string& path, const std::vector<NamedTensor>& wanted, Faults& faults) {
  const io::SafetensorsFile file = open_tensors(path);
  std::set<std::string> names;
  std::vector<at::Tensor> values;
  for (const NamedTensor& tensor : wanted) {
    names.insert(tensor.name);
    const std::vector<int64_t> shape = tensor.value.sizes().vec();
    const io::DType dtype = master_dtype(tensor.value.scalar_type());
    const io::TensorEntry* entry = file.find(tensor.name);
    if (entry == nullptr) {
      faults.add("{}: {} is missing; wanted {}", path, tensor.name, shape_text(shape));
    } else if (entry->shape != shape || entry->dtype != dtype) {
      faults.add("{}: {} is {} {}; this run wants {} {}", path, tensor.name, io::dtype_name(entry->dtype),
                 shape_text(entry->shape), io::dtype_name(dtype), shape_text(shape));
    } else {
      at::Tensor value = at::empty(shape, tensor.value.scalar_type());
      if (const auto bytes = file.data(*entry); !bytes.empty()) {
        std::memcpy(value.data_ptr(), bytes.data(), bytes.size());
      }
      if (!at::isfinite(value).all().item<bool>()) {
        faults.add("{}: {} holds values that are not finite", path, tensor.name);
      }
      values.push_back(std::move(value));
    }
  }
  for (const io::TensorEntry& entry : file.header().tensors) {
    if (!names.contains(entry.name)) {
      faults.add("{}: {} {} was not expected", path, entry.name, shape_text(entry.shape));
    }
  }
  return values;
}

// Into the memory of the run's back end, wherever that is.
void copy_into(const std::vector<NamedTensor>& to, const std::vector<at::Tensor>& values) {
  for (size_t index = 0; index < to.size(); ++index) {
    to[index].value.copy_(values[index]);
  }
}

}  // namespace

void load_checkpoint(const VerifiedCheckpoint& checkpoint, model::LoraAdapters& adapters,
                     const train::AdamWState& optimizer) {
  Faults faults;
  compare_scales(checkpoint.folder, adapters, faults);
  const std::vector<NamedTensor> masters = saved_tensors(adapters);
  const std::vector<NamedTensor> moments = named_moments(optimizer);
  const auto master_values = read_exactly(checkpoint.folder + "/" + config::kAdapterTensorsName, masters, faults);
  const auto moment_values = read_exactly(checkpoint.folder + "/" + config::kOptimizerName, moments, faults);
  faults.throw_if_any();
  compare_starts(checkpoint.folder + "/" + config::kAdapterTensorsName, adapters, master_values, faults);
  faults.throw_if_any();
  copy_saved(adapters, master_values);
  copy_into(moments, moment_values);
  adapters.magnitudes_given();
  adapters.refresh_compute_copies();
}

}  // namespace phi3tune::checkpoint
