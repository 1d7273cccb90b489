#include "phi3tune/checkpoint/export.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "checkpoint/exported_tensors.h"
#include "checkpoint/part_ranks.h"
#include "checkpoint/staged_folder.h"
#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/io/folder.h"
#include "phi3tune/io/json.h"
#include "phi3tune/io/made_folders.h"
#include "phi3tune/io/output.h"
#include "phi3tune/phi3/adapter_origin.h"
#include "phi3tune/phi3/fused_adapter.h"
#include "phi3tune/phi3/model_folder.h"

namespace phi3tune::checkpoint {
namespace {

std::vector<ExportedModule> fused_modules(const phi3::AdapterFolder& folder, const phi3::FusedAdapter& fused,
                                          const phi3::ModelConfig& base) {
  std::vector<ExportedModule> modules;
  for (const auto& module : fused.modules) {
    auto pair = tensors_of(folder, module, phi3::linear_in(base, module.kind), phi3::linear_out(base, module.kind));
    modules.push_back(
        {module.path, module.rank, module.scale, std::move(pair.a), std::move(pair.b), std::move(pair.magnitude)});
  }
  return modules;
}

// B's rows under the names of the parts, each with the rows of A that they use.
std::vector<ExportedModule> split_modules(const std::vector<ExportedModule>& modules, const phi3::FusedAdapter& fused,
                                          const phi3::ModelConfig& base, std::vector<std::string>& notes) {
  std::vector<ExportedModule> split;
  size_t cut_apart = 0;
  for (size_t index = 0; index < modules.size(); ++index) {
    const auto& module = modules[index];
    const auto parent = module.path.substr(0, module.path.rfind('.') + 1);
    const auto parts = phi3::split_rows(base, fused.modules[index].kind);
    const auto ranks = ranks_of_parts(module, parts);
    cut_apart +=
        std::any_of(ranks.begin(), ranks.end(), [&](const auto& own) { return own.count < module.rank; }) ? 1 : 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      const auto& [name, first_row, rows] = parts[i];
      if (ranks[i].count == 0) {
        continue;
      }
      split.push_back({parent + name, ranks[i].count, module.scale, module.a.narrow(0, ranks[i].first, ranks[i].count),
                       module.b.narrow(0, first_row, rows).narrow(1, ranks[i].first, ranks[i].count),
                       module.magnitude.defined() ? module.magnitude.narrow(0, first_row, rows) : at::Tensor()});
    }
  }
  if (cut_apart > 0) {
    notes.push_back(fmt::format(
        "{} linears have a block-diagonal B: each part keeps the rows of A that its own block uses, exactly",
        cut_apart));
  }
  return split;
}

// What llama.cpp's adapters have no place for; empty: nothing.
std::string beyond_gguf(const phi3::AdapterConfig& config) {
  if (!config.modules_to_save.empty()) {
    return fmt::format("{} trained whole", fmt::join(config.modules_to_save, ", "));
  }
  return config.use_dora ? "trained with DoRA" : "";
}

void write_folder(const phi3::AdapterFolder& folder, const phi3::AdapterConfig& config,
                  const std::vector<ExportedModule>& modules, const ExportOptions& options, ExportReport& report) {
  const auto& adapter = folder.path();
  const auto names = phi3::adapter_companions(adapter);
  std::set<std::string> files{config::kAdapterConfigName, config::kAdapterTensorsName};
  files.insert(names.begin(), names.end());
  std::vector<at::Tensor> values;
  std::vector<io::TensorToWrite> tensors;
  uint64_t bytes = uint64_t{1} << 20;
  const auto add = [&](const std::string& name, const at::Tensor& value) {
    values.push_back(rounded(value, options.dtype, name));
    tensors.push_back({name, options.dtype, values.back().sizes().vec(), bytes_of(values.back())});
    bytes += values.back().nbytes();
  };
  for (const auto& module : modules) {
    add(phi3::lora_tensor_name(module.path, 'A'), module.a);
    add(phi3::lora_tensor_name(module.path, 'B'), module.b);
    if (module.magnitude.defined()) {
      add(phi3::magnitude_tensor_name(module.path), module.magnitude);
    }
  }
  for (const auto module : phi3::kWholeModules) {
    const auto name = phi3::whole_tensor_name(module);
    if (const auto* entry = folder.file().find(name)) {
      add(name, tensor_of(folder.file(), *entry));
    }
  }
  io::require_room(options.out, bytes);
  StagedFolder staged(options.out, files);
  io::write_safetensors(staged.file(config::kAdapterTensorsName), std::move(tensors),
                        phi3::origin_metadata(phi3::read_adapter_origin(adapter)), io::AtomicFile::Mode::kFresh);
  io::write_fresh_file(staged.file(config::kAdapterConfigName), phi3::adapter_config_text(config));
  for (const auto& name : names) {
    io::write_fresh_file(staged.file(name), io::read_text_file<CheckpointError>(adapter + "/" + name));
  }
  (void)phi3::AdapterFolder::open(staged.path());
  staged.commit();
  report.files.assign(files.begin(), files.end());
}

}  // namespace

at::Tensor rounded(const at::Tensor& tensor, io::DType dtype, const std::string& name) {
  auto value = tensor.to(model::scalar_type(dtype)).contiguous();
  if (!at::isfinite(value).all().item<bool>()) {
    throw NumericsError("{}: holds values that are not finite as {}; nothing is written; --dtype float32 holds them",
                        name, io::dtype_name(dtype));
  }
  return value;
}

ExportReport export_adapter(const phi3::ModelConfig& base, const std::string& adapter, const ExportOptions& options) {
  const bool gguf = options.format == ExportFormat::kGguf;
  if (gguf && options.dtype == io::DType::kBF16) {
    throw ConfigError("--dtype bfloat16: a GGUF adapter is written as float32 or float16");
  }
  io::require_free_output(options.out, {adapter});
  const auto folder = phi3::AdapterFolder::open(adapter);
  const auto fused = phi3::fuse_adapter(folder, base);
  ExportReport report;
  report.out = options.out;
  report.notes = fused.notes;
  auto modules = fused_modules(folder, fused, base);
  if (const auto what = gguf ? beyond_gguf(fused.config) : std::string(); !what.empty()) {
    throw CheckpointError(
        "{}: {}, which a GGUF adapter cannot hold; `phi3-tune merge` writes a whole model, which llama.cpp's "
        "convert_hf_to_gguf.py reads",
        adapter, what);
  }
  if (gguf) {
    report.modules = modules.size();
    uint64_t bytes = uint64_t{1} << 20;
    for (const auto& module : modules) {
      bytes += static_cast<uint64_t>(module.a.numel() + module.b.numel()) * io::dtype_size(options.dtype);
    }
    io::require_room(options.out, bytes);
    io::MadeFolders parents(io::parent_of(options.out));
    try {
      write_gguf_adapter(options.out, modules, options.dtype, fused.config.base_model_name_or_path, report.notes);
    } catch (const ResourceError&) {  // in place, perhaps, and not durable
      std::error_code code;
      std::filesystem::remove(options.out, code);
      throw;
    }
    parents.keep();
    return report;
  }
  auto config = fused.config;
  if (options.format == ExportFormat::kPeftSplit) {
    modules = split_modules(modules, fused, base, report.notes);
    std::vector<phi3::ModuleShape> shapes;
    for (const auto& module : modules) {
      shapes.push_back({module.path, module.rank, module.scale});
    }
    config.target_regex.clear();
    phi3::describe_modules(config, shapes, base.num_layers);
  }
  report.modules = modules.size();
  if (!config.rank_pattern.empty() || !config.alpha_pattern.empty()) {
    report.notes.emplace_back(
        "modules have ranks or alphas of their own (rank_pattern, alpha_pattern): PEFT reads them, vLLM takes r and "
        "lora_alpha for all; merge for vLLM");
  }
  if (config.use_dora) {
    report.notes.emplace_back("trained with DoRA: PEFT reads it, vLLM refuses it; merge for vLLM");
  }
  if (!config.modules_to_save.empty()) {
    report.notes.emplace_back(
        "weights were trained whole (modules_to_save): PEFT reads them, vLLM refuses them; merge for vLLM");
  }
  write_folder(folder, config, modules, options, report);
  return report;
}

}  // namespace phi3tune::checkpoint
