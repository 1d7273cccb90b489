#include "phi3tune/phi3/adapter_folder.h"

#include <cstring>
#include <filesystem>
#include <map>
#include <optional>

#include "phi3/containment.h"
#include "phi3/faults.h"
#include "phi3tune/core/error.h"

namespace phi3tune::phi3 {
namespace {

constexpr const char* kWeights = "adapter_model.safetensors";

io::SafetensorsFile open_weights(const std::string& folder) {
  const std::string path = folder + "/" + kWeights;
  std::error_code code;
  if (!std::filesystem::exists(path, code)) {
    for (const char* ending : {"bin", "pt", "pth", "ckpt", "pkl"}) {
      const std::string pickle = fmt::format("adapter_model.{}", ending);
      if (std::filesystem::exists(folder + "/" + pickle, code)) {
        throw CheckpointError(
            "{}: the adapter's weights are in a pickle file ({}), which can run code when it is read and is never "
            "opened; wanted {}. Convert once with PEFT: PeftModel.from_pretrained(...).save_pretrained(NEW_DIR)",
            folder, pickle, kWeights);
      }
    }
    throw CheckpointError("{}: missing (not fully downloaded?)", path);
  }
  if (!lies_inside(folder, path)) {
    throw CheckpointError("{}: a link that leads out of the adapter folder; copy the file into the folder", path);
  }
  try {
    return io::SafetensorsFile::open(path);
  } catch (const ModelError& error) {
    throw CheckpointError(error.what());
  }
}

// All bits of the exponent set: infinity or not a number.
template <typename Bits>
bool is_finite(std::span<const std::byte> data, Bits exponent) {
  Bits bits{};
  for (size_t i = 0; i + sizeof bits <= data.size(); i += sizeof bits) {
    std::memcpy(&bits, data.data() + i, sizeof bits);
    if ((bits & exponent) == exponent) {
      return false;
    }
  }
  return true;
}

// An update that is not finite makes every answer of the model so.
void check_finite(const io::SafetensorsFile& file, const io::TensorEntry& entry, Faults& faults) {
  const auto data = file.data(entry);
  const bool finite = entry.dtype == io::DType::kF32    ? is_finite<uint32_t>(data, 0x7F800000)
                      : entry.dtype == io::DType::kBF16 ? is_finite<uint16_t>(data, 0x7F80)
                      : entry.dtype == io::DType::kF16  ? is_finite<uint16_t>(data, 0x7C00)
                                                        : true;
  file.release(entry);
  if (!finite) {
    faults.add(file.path(), "{} holds values that are not finite", entry.name);
  }
}

struct TensorName {
  std::string module;
  char part;  // 'A', 'B', or 'M' for a magnitude
};

std::optional<TensorName> parse_name(std::string_view name) {
  constexpr std::string_view kPrefix = "base_model.model.";
  if (!name.starts_with(kPrefix)) {
    return std::nullopt;
  }
  name.remove_prefix(kPrefix.size());
  for (const char half : {'A', 'B'}) {
    const std::string suffix = std::string(".lora_") + half + ".weight";
    if (name.ends_with(suffix) && name.size() > suffix.size()) {
      name.remove_suffix(suffix.size());
      return TensorName{std::string(name), half};
    }
  }
  if (constexpr std::string_view kSuffix = ".lora_magnitude_vector"; name.ends_with(kSuffix)) {
    name.remove_suffix(kSuffix.size());
    return TensorName{std::string(name), 'M'};
  }
  return std::nullopt;
}

// A weight that is saved whole; false where `entry` is none.
bool take_whole(const io::TensorEntry& entry, const AdapterConfig& config, const std::string& file, Faults& faults) {
  for (const auto module : kWholeModules) {
    if (entry.name != whole_tensor_name(module)) {
      continue;
    }
    if (!config.trains_whole(module)) {
      faults.add(file, "{} is there, but modules_to_save of adapter_config.json does not name it", entry.name);
    }
    if (entry.shape.size() != 2) {
      faults.add(file, "{}: shape [{}], wanted [vocabulary, hidden]", entry.name, fmt::join(entry.shape, ", "));
    }
    if (entry.dtype != io::DType::kF32 && entry.dtype != io::DType::kBF16 && entry.dtype != io::DType::kF16) {
      faults.add(file, "{}: dtype {}, wanted F32, BF16 or F16", entry.name, io::dtype_name(entry.dtype));
    }
    return true;
  }
  return false;
}

void check_module(const AdapterModule& module, const AdapterConfig& config, const std::string& file, Faults& faults) {
  if (!config.targets(module.path)) {
    faults.add(file, "{} is adapted, but target_modules of adapter_config.json does not name it", module.path);
  }
  if (module.a == nullptr || module.b == nullptr) {
    const bool neither = module.a == nullptr && module.b == nullptr;
    faults.add(file, "{}: lora_{} is there, lora_{} is missing", module.path,
               neither               ? "magnitude_vector"
               : module.a == nullptr ? "B"
                                     : "A",
               module.a == nullptr ? 'A' : 'B');
    return;
  }
  if (config.use_dora != (module.magnitude != nullptr)) {
    faults.add(file, "{}: lora_magnitude_vector is {}, and use_dora of adapter_config.json is {}", module.path,
               config.use_dora ? "missing" : "there", config.use_dora);
  }
  for (const auto* half : {module.a, module.b, module.magnitude}) {
    if (half != nullptr && half->dtype != io::DType::kF32 && half->dtype != io::DType::kBF16 &&
        half->dtype != io::DType::kF16) {
      faults.add(file, "{}: dtype {}, wanted F32, BF16 or F16", half->name, io::dtype_name(half->dtype));
    }
  }
  const int64_t rank = config.rank_of(module.path);
  if (module.a->shape.size() != 2 || module.a->shape[0] != rank) {
    faults.add(file, "{}: shape [{}], wanted [{}, in]", module.a->name, fmt::join(module.a->shape, ", "), rank);
  }
  if (module.b->shape.size() != 2 || module.b->shape[1] != rank) {
    faults.add(file, "{}: shape [{}], wanted [out, {}]", module.b->name, fmt::join(module.b->shape, ", "), rank);
  } else if (module.magnitude != nullptr && module.magnitude->shape != std::vector<int64_t>{module.b->shape[0]}) {
    faults.add(file, "{}: shape [{}], wanted [{}]", module.magnitude->name, fmt::join(module.magnitude->shape, ", "),
               module.b->shape[0]);
  }
}

}  // namespace

AdapterFolder AdapterFolder::open(const std::string& folder) {
  std::error_code code;
  if (!std::filesystem::is_directory(folder, code)) {
    throw CheckpointError("{}: no such folder, wanted an adapter folder (adapter_config.json and {})", folder,
                          kWeights);
  }
  auto config = read_adapter_config(folder);
  AdapterFolder adapter(folder, std::move(config), open_weights(folder));
  const std::string file = folder + "/" + kWeights;
  Faults faults;
  std::map<std::string, AdapterModule> modules;
  for (const auto& entry : adapter.file_.header().tensors) {
    if (take_whole(entry, adapter.config_, file, faults)) {
      check_finite(adapter.file_, entry, faults);
      continue;
    }
    const auto name = parse_name(entry.name);
    if (!name) {
      faults.add(file, "{} is not the name of a LoRA tensor (base_model.model.<module>.lora_A.weight)", entry.name);
      continue;
    }
    check_finite(adapter.file_, entry, faults);
    auto& module = modules[name->module];
    module.path = name->module;
    (name->part == 'A' ? module.a : name->part == 'B' ? module.b : module.magnitude) = &entry;
  }
  if (modules.empty() && faults.empty()) {
    faults.add(file, "no tensors, wanted LoRA pairs");
  }
  for (const auto module : kWholeModules) {
    if (adapter.config_.trains_whole(module) && adapter.file_.find(whole_tensor_name(module)) == nullptr) {
      faults.add(file, "{} is missing, which modules_to_save of adapter_config.json names", whole_tensor_name(module));
    }
  }
  for (const auto& [path, module] : modules) {
    try {
      check_module(module, adapter.config_, file, faults);
    } catch (const CheckpointError& error) {  // a pattern that takes too long
      throw CheckpointError("{}/adapter_config.json: {}", folder, error.what());
    }
    adapter.modules_.push_back(module);
  }
  if (!faults.empty()) {
    throw CheckpointError(faults.text());
  }
  return adapter;
}

}  // namespace phi3tune::phi3
