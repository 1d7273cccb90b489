#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <set>

#include "checkpoint/adapter_tensors.h"
#include "checkpoint/faults.h"
#include "phi3tune/checkpoint/adapter.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"

namespace phi3tune::checkpoint {
namespace {

namespace fs = std::filesystem;

io::SafetensorsFile open_tensors(const std::string& folder) {
  const std::string path = folder + "/adapter_model.safetensors";
  std::error_code code;
  if (!fs::exists(path, code)) {
    for (const char* pickle :
         {"adapter_model.bin", "adapter_model.pt", "adapter_model.pth", "adapter_model.ckpt", "adapter_model.pkl"}) {
      if (fs::exists(folder + "/" + pickle, code)) {
        throw CheckpointError(
            "{}/{}: a pickle, which can run code and is never read; save the adapter again with "
            "PEFT's save_pretrained(..., safe_serialization=True)",
            folder, pickle);
      }
    }
    throw CheckpointError("{}: there is no such file; a PEFT adapter folder holds it beside adapter_config.json", path);
  }
  try {
    return io::SafetensorsFile::open(path);
  } catch (const ModelError& error) {
    throw CheckpointError(std::string(error.what()));
  }
}

std::string hint_for(const std::string& name) {
  for (const char* split : {".q_proj.", ".k_proj.", ".v_proj.", ".gate_proj.", ".up_proj."}) {
    if (name.find(split) != std::string::npos) {
      return "; Phi-3 has fused linears, qkv_proj and gate_up_proj";
    }
  }
  if (name.ends_with(".lora_magnitude_vector")) {
    return "; use_dora is false in adapter_config.json or in this run";
  }
  return "";
}

}  // namespace

void load_adapter(const std::string& folder, model::LoraAdapters& adapters) {
  const io::SafetensorsFile file = open_tensors(folder);
  Faults faults;
  compare_scales(folder, adapters, faults);

  const std::vector<NamedTensor> masters = saved_tensors(adapters);
  std::vector<at::Tensor> values(masters.size());
  std::set<std::string> wanted;
  for (size_t index = 0; index < masters.size(); ++index) {
    const NamedTensor& master = masters[index];
    wanted.insert(master.name);
    const io::TensorEntry* entry = file.find(master.name);
    if (entry == nullptr) {
      faults.add("{}: {} is missing; wanted {}", file.path(), master.name, shape_text(master.value.sizes().vec()));
    } else if (entry->shape != master.value.sizes().vec()) {
      faults.add("{}: {} has shape {}; the base and adapter_config.json want {}", file.path(), master.name,
                 shape_text(entry->shape), shape_text(master.value.sizes().vec()));
    } else if (!is_adapter_dtype(entry->dtype)) {
      faults.add("{}: {} is {}; F32, BF16 or F16 is wanted", file.path(), master.name, io::dtype_name(entry->dtype));
    } else {
      values[index] = tensor_of(file, *entry);
      if (!at::isfinite(values[index]).all().item<bool>()) {
        faults.add("{}: {} holds values that are not finite", file.path(), master.name);
      }
    }
  }
  for (const io::TensorEntry& entry : file.header().tensors) {
    if (!wanted.contains(entry.name)) {
      faults.add("{}: {} {} was not expected{}", file.path(), entry.name, shape_text(entry.shape),
                 hint_for(entry.name));
    }
  }
  faults.throw_if_any();
  compare_starts(file.path(), adapters, values, faults);
  faults.throw_if_any();

  copy_saved(adapters, values);
  adapters.magnitudes_given();
  adapters.refresh_compute_copies();
}

at::Tensor read_start(const std::string& folder, const model::LoraAdapters& adapters) {
  const io::SafetensorsFile file = open_tensors(folder);
  Faults faults;
  const at::Tensor& parameters = adapters.parameters();
  auto start = at::zeros({parameters.numel()}, at::dtype(parameters.scalar_type()));
  const auto take = [&](const at::Tensor& master, const std::string& name, int64_t axis, double sign) {
    auto shape = master.sizes().vec();
    const int64_t rank = shape[static_cast<size_t>(axis)];
    shape[static_cast<size_t>(axis)] *= 2;
    const io::TensorEntry* entry = file.find(name);
    if (entry == nullptr || entry->shape != shape || entry->dtype != io::DType::kF32) {
      faults.add("{}: {} {} was wanted, F32: an adapter beside its start", file.path(), name, shape_text(shape));
      return;
    }
    const auto half = tensor_of(file, *entry).narrow(axis, rank, rank) * sign;
    const int64_t offset = master.storage_offset() - parameters.storage_offset();
    start.narrow(0, offset, master.numel()).view(master.sizes()).copy_(half);
  };
  for (const model::LoraPair& pair : adapters.pairs()) {
    take(pair.a, phi3::lora_tensor_name(pair.module_path, 'A'), 0, 1.0);
    take(pair.b, phi3::lora_tensor_name(pair.module_path, 'B'), 1, -1.0);
  }
  faults.throw_if_any();
  return start;
}

void load_adapter(const std::string& folder, const phi3::ModelConfig& base, model::LoraAdapters& adapters) {
  const auto opened = phi3::AdapterFolder::open(folder);
  const auto fused = phi3::fuse_adapter(opened, base);
  if (!fused.was_split) {
    load_adapter(folder, adapters);
    return;
  }
  require(fused.modules.size() == adapters.pairs().size(), "adapters are made with the fused config of the folder");
  for (size_t index = 0; index < fused.modules.size(); ++index) {
    const auto& module = fused.modules[index];
    const auto& pair = adapters.pairs()[index];
    require(module.path == pair.module_path && module.rank == pair.rank, "pairs stand in the order of fused modules");
    const auto values =
        tensors_of(opened, module, phi3::linear_in(base, module.kind), phi3::linear_out(base, module.kind));
    pair.a.copy_(values.a);
    pair.b.copy_(values.b);
    if (pair.magnitude.defined()) {
      pair.magnitude.copy_(values.magnitude);
    }
  }
  for (const auto& weight : adapters.whole_weights()) {
    weight.value.copy_(tensor_of(opened.file(), *opened.file().find(phi3::whole_tensor_name(weight.module))));
  }
  adapters.magnitudes_given();
  adapters.refresh_compute_copies();
  for (const auto& note : fused.notes) {
    log_info("{}", note);
  }
}

}  // namespace phi3tune::checkpoint
