#include "phi3/check_tensors.h"

#include <algorithm>
#include <set>

#include "phi3tune/io/json.h"
#include "phi3tune/phi3/state_dict.h"

namespace phi3tune::phi3 {
namespace {

using io::DType;

constexpr size_t kLongestList = 12;
constexpr int64_t kNestedBlock = 256;

bool is_float(DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16; }

std::string shape_text(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// "a, b, c and 12 more"
std::string list_text(const std::vector<std::string>& names) {
  const size_t shown_count = std::min(names.size(), kLongestList);
  std::string text =
      fmt::format("{}", fmt::join(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown_count), ", "));
  if (names.size() > shown_count) {
    text += fmt::format(" and {} more", names.size() - shown_count);
  }
  return text;
}

class TensorCheck {
 public:
  TensorCheck(const ModelConfig& config, const WeightFiles& files, Faults& faults)
      : config_(config), files_(files), faults_(faults) {}

  void run(const std::string& folder, bool complete) {
    for (const auto& spec : state_dict(config_)) {
      known_.insert(spec.name);
      const auto found = files_.tensors.find(spec.name);
      if (found == files_.tensors.end()) {
        missing_.push_back(spec.name);
      } else if (found->second.entry->dtype == DType::kU8 && is_linear(spec.name)) {
        check_nf4(spec, found->second);
      } else {
        check_plain(spec, found->second);
      }
    }
    find_unexpected();
    if (complete && !missing_.empty()) {
      faults_.add(folder, "{} tensors of the {} that config.json asks for are missing: {}", missing_.size(),
                  state_dict(config_).size(), list_text(missing_));
    }
    if (!unexpected_.empty()) {
      faults_.add(folder, "{} tensors are not part of the model that config.json describes: {}", unexpected_.size(),
                  list_text(unexpected_));
    }
  }

 private:
  static bool is_linear(const std::string& name) {
    return name.ends_with("_proj.weight") && name.starts_with("model.layers.");
  }

  void check_shape(const LocatedTensor& tensor, const std::vector<int64_t>& wanted) {
    if (tensor.entry->shape != wanted) {
      faults_.add(tensor.file->path(), "{}: shape {}, wanted {}", tensor.entry->name, shape_text(tensor.entry->shape),
                  shape_text(wanted));
    }
  }

  void check_plain(const TensorSpec& spec, const LocatedTensor& tensor) {
    if (!is_float(tensor.entry->dtype)) {
      faults_.add(tensor.file->path(), "{}: dtype {}, wanted BF16, F16 or F32", spec.name,
                  io::dtype_name(tensor.entry->dtype));
    }
    check_shape(tensor, spec.shape);
  }

  // The parts that bitsandbytes stores beside an NF4 weight.
  void check_nf4(const TensorSpec& spec, const LocatedTensor& weight) {
    if (!config_.quantization) {
      faults_.add(weight.file->path(), "{}: dtype U8, but config.json has no quantization_config", spec.name);
      return;
    }
    const int64_t count = spec.numel();
    check_shape(weight, {divide_up(count, 2), 1});
    if (has(spec.name + ".quant_state.bitsandbytes__fp4")) {
      known_.insert(spec.name + ".quant_state.bitsandbytes__fp4");
      faults_.add(weight.file->path(), "{}: quantised as FP4, wanted NF4", spec.name);
      return;
    }
    const int64_t blocks = divide_up(count, block_size(spec));
    part(spec, weight, "quant_map", DType::kF32, {16});
    if (has(spec.name + ".nested_absmax")) {
      part(spec, weight, "absmax", DType::kU8, {blocks});
      part(spec, weight, "nested_absmax", DType::kF32, {divide_up(blocks, kNestedBlock)});
      part(spec, weight, "nested_quant_map", DType::kF32, {256});
    } else {
      part(spec, weight, "absmax", DType::kF32, {blocks});
    }
  }

  bool has(const std::string& name) const { return files_.tensors.contains(name); }

  void part(const TensorSpec& spec, const LocatedTensor& weight, const char* suffix, DType dtype,
            const std::vector<int64_t>& shape) {
    const std::string name = spec.name + "." + suffix;
    known_.insert(name);
    const auto found = files_.tensors.find(name);
    if (found == files_.tensors.end()) {
      faults_.add(weight.file->path(), "{}: its part .{} is missing", spec.name, suffix);
      return;
    }
    if (found->second.entry->dtype != dtype) {
      faults_.add(found->second.file->path(), "{}: dtype {}, wanted {}", name,
                  io::dtype_name(found->second.entry->dtype), io::dtype_name(dtype));
    }
    check_shape(found->second, shape);
  }

  // From the group's own JSON, which is checked in full where the weight is read; the default when it says nothing.
  int64_t block_size(const TensorSpec& spec) {
    constexpr int64_t kDefault = 64;
    const std::string name = spec.name + ".quant_state.bitsandbytes__nf4";
    known_.insert(name);
    const auto found = files_.tensors.find(name);
    if (found == files_.tensors.end()) {
      faults_.add(files_.tensors.at(spec.name).file->path(), "{}: its part .quant_state.bitsandbytes__nf4 is missing",
                  spec.name);
      return kDefault;
    }
    const auto bytes = found->second.data();
    io::Json state;
    io::JsonFault fault;
    if (!io::parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, state, fault, {.depth = 4}) ||
        !state.is_object()) {
      faults_.add(found->second.file->path(), "{}: {}, wanted a JSON object", name,
                  fault.what.empty() ? shown(state) : fault.what);
      return kDefault;
    }
    const std::string place = found->second.file->path();
    Fields fields(state, place, faults_, name + ": ");
    if (const auto shape = fields.find("shape"); shape == nullptr || *shape != io::Json(spec.shape)) {
      fields.fault("shape", "found {}, wanted {}", shape == nullptr ? "nothing" : shown(*shape),
                   shape_text(spec.shape));
    }
    return fields.integer("blocksize", 32, 4096).value_or(kDefault);
  }

  void find_unexpected() {
    for (const auto& [name, tensor] : files_.tensors) {
      if (known_.contains(name) || name.ends_with(".rotary_emb.inv_freq")) {
        continue;
      }
      if (name == "lm_head.weight" && config_.tie_word_embeddings) {
        faults_.add(tensor.file->path(),
                    "lm_head.weight is there, but config.json says tie_word_embeddings, which makes the embedding the "
                    "head; set it to false if the two differ, or remove the tensor");
        continue;
      }
      unexpected_.push_back(name);
    }
  }

  const ModelConfig& config_;
  const WeightFiles& files_;
  Faults& faults_;
  std::set<std::string> known_;
  std::vector<std::string> missing_;
  std::vector<std::string> unexpected_;
};

}  // namespace

void check_tensors(const ModelConfig& config, const WeightFiles& files, const std::string& folder, bool complete,
                   Faults& faults) {
  TensorCheck(config, files, faults).run(folder, complete);
}

}  // namespace phi3tune::phi3
