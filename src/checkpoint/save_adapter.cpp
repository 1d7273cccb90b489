#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "checkpoint/adapter_tensors.h"
#include "checkpoint/known_files.h"
#include "checkpoint/staged_folder.h"
#include "phi3tune/checkpoint/adapter.h"
#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"
#include "phi3tune/io/atomic_file.h"
#include "phi3tune/io/json.h"
#include "phi3tune/phi3/adapter_config.h"

namespace phi3tune::checkpoint {
namespace {

constexpr const char* kTemplateName = "chat_template.jinja";
constexpr const char* kCardName = "README.md";

// Name -> text of everything but the tensors.
std::vector<std::pair<std::string, std::string>> text_files(const phi3::AdapterConfig& config,
                                                            const AdapterFiles& files) {
  std::vector<std::pair<std::string, std::string>> texts;
  texts.emplace_back(config::kAdapterConfigName, phi3::adapter_config_text(config));
  texts.emplace_back(kCardName, model_card_text(files.card));
  for (const std::string& path : files.tokenizer_files) {
    const std::string name = std::filesystem::path(path).filename().string();
    if (name != kTemplateName || files.chat_template.empty()) {
      texts.emplace_back(name, io::read_text_file<ModelError>(path));
    }
  }
  if (!files.chat_template.empty()) {
    texts.emplace_back(kTemplateName, files.chat_template);
  }
  return texts;
}

// The masters in the dtype of the file; they must outlive what is written from them.
std::vector<NamedTensor> converted(const model::LoraAdapters& adapters, io::DType dtype) {
  std::vector<NamedTensor> tensors = saved_tensors(adapters);
  std::vector<std::string> bad;
  for (NamedTensor& tensor : tensors) {
    tensor.value = tensor.value.to(at::kCPU, model::scalar_type(dtype)).contiguous();
    if (!at::isfinite(tensor.value).all().item<bool>()) {
      bad.push_back(tensor.name);
    }
  }
  if (!bad.empty()) {
    throw NumericsError(
        "the adapter holds values that are not finite as {} in {} of {} tensors, the first is {}; it "
        "is not saved; a lower learning_rate is the usual way out",
        io::dtype_name(dtype), bad.size(), tensors.size(), bad.front());
  }
  return tensors;
}

void check_tensors(const std::string& path, const std::vector<NamedTensor>& tensors) {
  const io::SafetensorsFile file = io::SafetensorsFile::open(path);
  if (file.header().tensors.size() != tensors.size()) {
    throw CheckpointError("{}: read back with {} tensors, {} were written", path, file.header().tensors.size(),
                          tensors.size());
  }
  for (const NamedTensor& tensor : tensors) {
    const io::TensorEntry* entry = file.find(tensor.name);
    if (entry == nullptr || entry->shape != tensor.value.sizes().vec() ||
        model::scalar_type(entry->dtype) != tensor.value.scalar_type()) {
      throw CheckpointError("{}: {} is not there, or not as it was written", path, tensor.name);
    }
    const auto written = bytes_of(tensor.value);
    const auto read = file.data(*entry);
    if (written.size() != read.size() ||
        (!read.empty() && std::memcmp(written.data(), read.data(), read.size()) != 0)) {
      throw CheckpointError("{}: the bytes of {} differ from those written; is the disk sound?", path, tensor.name);
    }
  }
}

}  // namespace

std::vector<std::string> adapter_file_names(const AdapterFiles& files) {
  std::vector<std::string> names{config::kAdapterConfigName, config::kAdapterTensorsName, kCardName};
  for (const std::string& path : files.tokenizer_files) {
    names.push_back(std::filesystem::path(path).filename().string());
  }
  if (!files.chat_template.empty()) {
    names.emplace_back(kTemplateName);
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

void require_own_adapter(const std::string& folder, const AdapterFiles& files) {
  std::error_code code;
  if (!std::filesystem::exists(std::filesystem::symlink_status(folder, code))) {
    return;
  }
  const auto names = adapter_file_names(files);
  if (const auto foreign = foreign_names(folder, {names.begin(), names.end()}); !foreign.empty()) {
    throw ConfigError(
        "{}: the result is to be written there, and it holds what phi3-tune did not write ({}); move that "
        "away, or name another output_dir",
        folder, name_some(foreign));
  }
}

void save_adapter(const std::string& folder, const model::LoraAdapters& adapters, const AdapterFiles& files,
                  bool replaces) {
  const std::vector<NamedTensor> tensors = converted(adapters, files.dtype);
  const auto texts = text_files(saved_config(adapters), files);

  const auto names = adapter_file_names(files);
  StagedFolder staged(folder, {names.begin(), names.end()}, replaces);
  std::vector<io::TensorToWrite> to_write;
  for (const NamedTensor& tensor : tensors) {
    to_write.push_back({tensor.name, files.dtype, tensor.value.sizes().vec(), bytes_of(tensor.value)});
  }
  const std::string tensors_path = staged.file(config::kAdapterTensorsName);
  io::write_safetensors(tensors_path, std::move(to_write), phi3::origin_metadata(files.origin),
                        io::AtomicFile::Mode::kFresh);
  for (const auto& [name, text] : texts) {
    io::write_fresh_file(staged.file(name), text);
  }

  check_tensors(tensors_path, tensors);
  for (const auto& [name, text] : texts) {
    if (io::read_text_file<CheckpointError>(staged.path() + "/" + name) != text) {
      throw CheckpointError("{}/{}: what was read back differs from what was written; is the disk sound?",
                            staged.path(), name);
    }
  }
  const phi3::AdapterConfig read = phi3::read_adapter_config(staged.path());
  if (phi3::adapter_config_text(read) != phi3::adapter_config_text(saved_config(adapters))) {
    throw CheckpointError("{}/{}: does not say what was written", staged.path(), config::kAdapterConfigName);
  }
  staged.commit();
}

}  // namespace phi3tune::checkpoint
