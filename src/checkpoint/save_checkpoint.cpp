#include <ATen/ATen.h>

#include <span>
#include <string_view>
#include <utility>

#include "checkpoint/adapter_tensors.h"
#include "checkpoint/checkpoint_parts.h"
#include "checkpoint/staged_folder.h"
#include "checkpoint/training_state.h"
#include "phi3tune/checkpoint/checkpoint.h"
#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/hash.h"
#include "phi3tune/io/atomic_file.h"
#include "phi3tune/phi3/adapter_config.h"

namespace phi3tune::checkpoint {
namespace {

constexpr auto kFresh = io::AtomicFile::Mode::kFresh;

// The same numbers on the host, contiguous.
void bring_to_host(std::vector<NamedTensor>& tensors) {
  for (NamedTensor& tensor : tensors) {
    tensor.value = tensor.value.to(at::kCPU).contiguous();
    if (!at::isfinite(tensor.value).all().item<bool>()) {
      throw NumericsError(
          "{} holds values that are not finite; no checkpoint is saved of it; a lower learning_rate is the usual way "
          "out",
          tensor.name);
    }
  }
}

std::vector<io::TensorToWrite> to_write(const std::vector<NamedTensor>& tensors) {
  std::vector<io::TensorToWrite> result;
  for (const NamedTensor& tensor : tensors) {
    result.push_back(
        {tensor.name, master_dtype(tensor.value.scalar_type()), tensor.value.sizes().vec(), bytes_of(tensor.value)});
  }
  return result;
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

io::ManifestFile write_text(const StagedFolder& staged, const char* name, const std::string& text) {
  io::write_fresh_file(staged.file(name), text);
  return {text.size(), hash_bytes(text).hex()};
}

// The hash is of what is to be written, from memory.
io::ManifestFile write_tensors(const StagedFolder& staged, const char* name, const std::vector<NamedTensor>& tensors) {
  std::vector<io::TensorToWrite> list = to_write(tensors);
  const io::SafetensorsLayout layout = io::layout_safetensors(list);
  StreamHash hash;
  hash.update(layout.header);
  uint64_t bytes = layout.header.size();
  for (const size_t index : layout.order) {
    hash.update(text_of(list[index].data));
    bytes += list[index].data.size();
  }
  io::write_safetensors(staged.file(name), std::move(list), {{"format", "pt"}}, kFresh);
  return {bytes, hash.digest().hex()};
}

void read_back(const StagedFolder& staged, const io::Manifest& manifest) {
  for (const auto& [name, written] : manifest.files) {
    const std::string path = staged.file(name);
    io::ManifestFile found;
    try {
      found = io::measure_file(path);
    } catch (const CheckpointError& error) {
      throw ResourceError(std::string(error.what()));  // just written by us: the disk is at fault
    }
    if (found.bytes != written.bytes || found.hash != written.hash) {
      throw CheckpointError("{}: what was read back differs from what was written; is the disk sound?", path);
    }
  }
}

}  // namespace

uint64_t checkpoint_bytes(int64_t parameters) noexcept {
  constexpr uint64_t kTexts = uint64_t{1} << 20;  // headers, settings, folders
  return 3 * sizeof(float) * static_cast<uint64_t>(parameters) + kTexts;
}

void save_checkpoint(const std::string& folder, const model::LoraAdapters& adapters, const train::AdamWState& optimizer,
                     const SavedState& state, const RunRecord& record) {
  require(state.optimizer_step == optimizer.step, "the state to save counts other updates than the optimizer");
  std::vector<NamedTensor> masters = saved_tensors(adapters);
  std::vector<NamedTensor> moments = named_moments(optimizer);
  bring_to_host(masters);
  bring_to_host(moments);
  const std::string state_text = training_state_text(state);

  const auto names = checkpoint_file_names();
  StagedFolder staged(folder, {names.begin(), names.end()});
  io::Manifest manifest;
  manifest.kind = config::kCheckpointKind;
  manifest.facts = checkpoint_facts(state.loop.result.steps, record);
  manifest.files[config::kAdapterConfigName] =
      write_text(staged, config::kAdapterConfigName, phi3::adapter_config_text(saved_config(adapters)));
  manifest.files[config::kAdapterTensorsName] = write_tensors(staged, config::kAdapterTensorsName, masters);
  manifest.files[config::kOptimizerName] = write_tensors(staged, config::kOptimizerName, moments);
  manifest.files[config::kTrainingStateName] = write_text(staged, config::kTrainingStateName, state_text);
  const io::ManifestFile manifest_file = write_text(staged, io::kManifestName, io::manifest_text(manifest));

  read_back(staged, manifest);
  io::Manifest last;
  last.files[io::kManifestName] = manifest_file;
  read_back(staged, last);
  staged.commit();
}

}  // namespace phi3tune::checkpoint
