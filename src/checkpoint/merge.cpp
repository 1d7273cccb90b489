#include "phi3tune/checkpoint/merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "checkpoint/check_merge.h"
#include "checkpoint/merged_folder.h"
#include "checkpoint/merged_tensors.h"
#include "checkpoint/staged_folder.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/atomic_file.h"
#include "phi3tune/io/folder.h"
#include "phi3tune/io/output.h"

namespace phi3tune::checkpoint {
namespace {

constexpr const char* kIndex = "model.safetensors.index.json";

// In what form the base's linears are taken, and that it is said.
std::optional<phi3::HeldInNf4> settle_held(const phi3::ModelFolder& base, const std::string& adapter,
                                           const MergeOptions& options) {
  const auto trained_over = phi3::read_adapter_origin(adapter).held_in_nf4;
  if (base.is_prequantized(0, phi3::LinearKind::kO)) {
    if (options.quantized_base) {
      throw ConfigError("--quantized-base: {} holds its linears in NF4 already; leave the option out", base.path());
    }
    log_warning(
        "{}: its linears are in NF4; the result has them dequantised, which are not the weights before the "
        "quantisation: a 16-bit base, where there is one, gives a closer model",
        base.path());
    return std::nullopt;
  }
  if (!options.quantized_base) {
    if (trained_over) {
      log_info(
          "{}: trained over the base in NF4, and merged into the weights as the folder has them; --quantized-base "
          "merges into those of NF4, as training saw them",
          adapter);
    }
    return std::nullopt;
  }
  const auto held = trained_over.value_or(phi3::HeldInNf4{});
  log_info("linears are merged as NF4 holds them: blocks of {}, {} quantisation{}", held.block_size,
           held.double_quant ? "double" : "single",
           trained_over ? ", as the adapter says" : "; the adapter does not say how it was trained");
  return held;
}

void write_shard(const StagedFolder& staged, const MergedShard& shard, const MergedTensors& tensors, io::DType dtype) {
  std::vector<io::TensorToWrite> list;
  for (const auto& spec : shard.tensors) {
    list.push_back({spec.name, dtype, spec.shape, {}});
  }
  const auto layout = io::layout_safetensors(list);
  io::AtomicFile file(staged.file(shard.name), io::AtomicFile::Mode::kFresh);
  file.write(layout.header);
  for (const size_t index : layout.order) {
    tensors.write(shard.tensors[index], [&](std::span<const std::byte> bytes) { file.write(bytes); });
  }
  file.commit();
}

}  // namespace

MergeReport merge(const phi3::ModelFolder& base, const std::string& adapter, const MergeOptions& options) {
  io::require_free_output(options.out, {base.path(), adapter});
  const auto folder = phi3::AdapterFolder::open(adapter);
  const auto fused = phi3::fuse_adapter(folder, base.config());
  for (const auto& note : fused.notes) {
    log_info("{}", note);
  }
  const auto held = settle_held(base, adapter, options);
  const auto dtype = options.dtype.value_or(base.tensor("model.embed_tokens.weight").entry->dtype);
  // A weight that was trained whole is one of its own, as in PEFT.
  auto config = base.config();
  if (config.tie_word_embeddings && !fused.config.modules_to_save.empty()) {
    config.tie_word_embeddings = false;
    log_info("the base's head is its embedding; {} trained whole, so the result has a head of its own",
             fmt::join(fused.config.modules_to_save, ", "));
  }
  const auto shards = merged_shards(config, dtype, options.shard_size);

  MergeReport report;
  report.out = options.out;
  report.dtype = dtype;
  report.shards = shards.size();
  report.modules = fused.modules.size();
  report.tied = config.tie_word_embeddings;
  auto texts = merged_texts(base.path(), adapter);
  texts.emplace_back("config.json", merged_config_text(base.path(), dtype, report.tied));
  if (shards.size() > 1) {
    texts.emplace_back(kIndex, index_text(shards, dtype));
  }
  std::set<std::string> names;
  uint64_t text_bytes = 0;
  for (const auto& [name, text] : texts) {
    names.insert(name);
    text_bytes += text.size();
  }
  for (const auto& shard : shards) {
    names.insert(shard.name);
    for (const auto& spec : shard.tensors) {
      report.parameters += spec.numel();
    }
  }
  report.bytes = static_cast<uint64_t>(report.parameters) * io::dtype_size(dtype);
  io::require_room(options.out, report.bytes + text_bytes);
  report.files.assign(names.begin(), names.end());

  StagedFolder staged(options.out, names);
  const MergedTensors tensors(base, folder, fused, held, dtype);
  for (const auto& shard : shards) {
    write_shard(staged, shard, tensors, dtype);
    log_info("{}: {} tensor{}", shard.name, shard.tensors.size(), shard.tensors.size() == 1 ? "" : "s");
  }
  for (const auto& [name, text] : texts) {
    io::write_fresh_file(staged.file(name), text);
  }
  {
    const auto merged = phi3::ModelFolder::open(staged.path());
    if (options.verify.value_or(held || base.is_prequantized(0, phi3::LinearKind::kO))) {
      report.check = check_merge(base, adapter, held, merged, options.free_memory);
    }
  }
  staged.commit();
  return report;
}

}  // namespace phi3tune::checkpoint
