#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "checkpoint/exported_tensors.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/gguf.h"

namespace phi3tune::checkpoint {
namespace {

// "model.layers.3.mlp.down_proj" -> "blk.3.ffn_down.weight"
std::string gguf_name(const std::string& path) {
  static const std::map<std::string, std::string> kNames{{"self_attn.qkv_proj", "attn_qkv"},
                                                         {"self_attn.o_proj", "attn_output"},
                                                         {"mlp.gate_up_proj", "ffn_up"},
                                                         {"mlp.down_proj", "ffn_down"}};
  constexpr std::string_view kLayers = "model.layers.";
  require(path.starts_with(kLayers), "an adapted linear lies in a layer");
  const size_t dot = path.find('.', kLayers.size());
  return fmt::format("blk.{}.{}.weight", path.substr(kLayers.size(), dot - kLayers.size()),
                     kNames.at(path.substr(dot + 1)));
}

// alpha / rank would have to be this module's scale.
double alpha_of(const ExportedModule& module) { return module.scale * static_cast<double>(module.rank); }

// The commonest alpha, so that most of B stays as it is.
float common_alpha(const std::vector<ExportedModule>& modules) {
  std::map<float, int64_t> counts;
  for (const auto& module : modules) {
    ++counts[static_cast<float>(alpha_of(module))];
  }
  return std::max_element(counts.begin(), counts.end(),
                          [](const auto& a, const auto& b) { return a.second < b.second; })
      ->first;
}

}  // namespace

void write_gguf_adapter(const std::string& path, const std::vector<ExportedModule>& modules, io::DType dtype,
                        const std::string& name, std::vector<std::string>& notes) {
  constexpr uint32_t kAllF32 = 0;
  constexpr uint32_t kMostlyF16 = 1;
  constexpr uint32_t kQuantizationVersion = 2;
  const float alpha = common_alpha(modules);
  const auto type = dtype == io::DType::kF32 ? io::GgmlType::kF32 : io::GgmlType::kF16;
  std::vector<at::Tensor> values;  // outlive what is written
  std::vector<io::GgufTensorToWrite> tensors;
  const auto add = [&](const std::string& tensor_name, const at::Tensor& value) {
    values.push_back(rounded(value, dtype, tensor_name));
    const auto& kept = values.back();
    tensors.push_back({tensor_name, type, {kept.size(1), kept.size(0)}, bytes_of(kept)});
  };
  size_t folded = 0;
  for (const auto& module : modules) {
    const double factor = alpha_of(module) / static_cast<double>(alpha);
    const bool differs = static_cast<float>(alpha_of(module)) != alpha;
    folded += differs ? 1 : 0;
    add(gguf_name(module.path) + ".lora_a", module.a);
    add(gguf_name(module.path) + ".lora_b", differs ? module.b * factor : module.b);
  }
  if (folded > 0) {
    notes.push_back(
        fmt::format("{} of {} modules have a scale of their own: their B is multiplied by it, as a GGUF "
                    "adapter has one alpha ({})",
                    folded, modules.size(), format_double(alpha)));
  }
  std::vector<std::pair<std::string, io::GgufValue>> keys{{"general.architecture", std::string("phi3")},
                                                          {"general.type", std::string("adapter")},
                                                          {"adapter.type", std::string("lora")}};
  if (!name.empty()) {
    keys.emplace_back("general.name", name);
  }
  keys.emplace_back("adapter.lora.alpha", alpha);
  keys.emplace_back("general.file_type", dtype == io::DType::kF32 ? kAllF32 : kMostlyF16);
  keys.emplace_back("general.quantization_version", kQuantizationVersion);
  io::write_gguf(path, keys, tensors);
}

}  // namespace phi3tune::checkpoint
