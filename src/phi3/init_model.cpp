#include "phi3tune/phi3/init_model.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <future>
#include <optional>
#include <thread>

#include "phi3/random_weights.h"
#include "phi3/tokenizer_files.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/atomic_file.h"
#include "phi3tune/io/folder.h"
#include "phi3tune/io/made_folders.h"
#include "phi3tune/io/safetensors.h"

namespace phi3tune::phi3 {
namespace {

namespace fs = std::filesystem;
using io::DType;
using io::Json;

constexpr uint64_t kChunk = uint64_t{8} << 20;  // elements generated and written at a time
constexpr int64_t kMostLayers = 4096;

DType parse_dtype(const std::string& name) {
  if (const auto dtype = io::dtype_of_torch_name(name)) {
    return *dtype;
  }
  throw ConfigError("dtype: found \"{}\", wanted bfloat16, float16 or float32", name);
}

bool is_tiny(const std::string& shape) { return shape.starts_with("tiny"); }

// Vocabulary and ids from the tokenizer that will lie in the folder.
void adopt_tokenizer(ModelConfig& config, const InitModelOptions& options, const TokenizerFacts& facts) {
  constexpr int64_t kRound = 64;
  if (is_tiny(options.shape)) {
    config.vocab_size = (facts.vocabulary + kRound - 1) / kRound * kRound;
  } else if (facts.vocabulary > config.vocab_size) {
    throw ModelError("{}: the tokenizer has {} tokens, {} has room for {}", options.tokenizer, facts.vocabulary,
                     options.shape, config.vocab_size);
  }
  const auto id_of = [&](const char* token) -> std::optional<int64_t> {
    const auto found = facts.added_ids.find(token);
    return found == facts.added_ids.end() ? std::nullopt : std::optional(found->second);
  };
  config.bos_token_id = id_of("<s>");
  config.pad_token_id = id_of("<|endoftext|>");
  config.eos_token_ids.clear();
  for (const char* token : {"<|endoftext|>", "<|im_end|>", "</s>"}) {
    if (const auto id = id_of(token); id && config.eos_token_ids.empty()) {
      config.eos_token_ids = {*id};
    }
  }
}

// The published file's stop ids: end of text, and what ends a turn.
Json generation_config(const ModelConfig& config, const TokenizerFacts* facts) {
  std::vector<int64_t> stops = config.eos_token_ids;
  const auto add = [&](std::optional<int64_t> id) {
    if (id && std::find(stops.begin(), stops.end(), *id) == stops.end()) {
      stops.push_back(*id);
    }
  };
  if (facts == nullptr) {
    add(32001);
    add(32007);
  } else {
    for (const char* token : {"<|assistant|>", "<|end|>"}) {
      const auto found = facts->added_ids.find(token);
      add(found == facts->added_ids.end() ? std::nullopt : std::optional(found->second));
    }
  }
  Json json = Json::object();
  json["bos_token_id"] = config.bos_token_id ? Json(*config.bos_token_id) : Json(nullptr);
  json["eos_token_id"] = stops;
  json["pad_token_id"] = config.pad_token_id ? Json(*config.pad_token_id) : Json(nullptr);
  return json;
}

void write_json(const std::string& path, const Json& json) { io::write_file_atomically(path, json.dump(2) + "\n"); }

// A file whose next piece is written while the piece after it is made.
class BackgroundFile {
 public:
  explicit BackgroundFile(const std::string& path) : file_(path) {}
  // `bytes` must live until the next call has returned. Throws what an earlier write met.
  void write(std::span<const std::byte> bytes) {
    wait();
    pending_ = std::async(std::launch::async, [this, bytes] { file_.write(bytes); });
  }
  void commit() {
    wait();
    file_.commit();
  }

 private:
  void wait() {
    if (pending_.valid()) {
      pending_.get();
    }
  }
  io::AtomicFile file_;
  std::future<void> pending_;  // destroyed first, and waits for its write
};

// Generates tensors in chunks on all threads and hands the bytes to a file.
class WeightWriter {
 public:
  WeightWriter(uint64_t seed, DType dtype, int threads)
      : seed_(seed),
        dtype_(dtype),
        threads_(std::max(1, threads > 0 ? threads : static_cast<int>(std::thread::hardware_concurrency()))),
        buffers_{std::vector<std::byte>(kChunk * io::dtype_size(dtype)),
                 std::vector<std::byte>(kChunk * io::dtype_size(dtype))} {}

  // False when the stop flag was set on the way.
  bool write(BackgroundFile& file, const TensorSpec& tensor) {
    const auto count = static_cast<uint64_t>(tensor.numel());
    for (uint64_t begin = 0; begin < count; begin += kChunk) {
      if (stop_requested()) {
        return false;
      }
      const uint64_t length = std::min(kChunk, count - begin);
      if (tensor.shape.size() == 1) {
        fill_with_ones(length);
      } else {
        fill_at_random(RandomWeights(seed_, tensor.name), begin, length);
      }
      file.write(std::span(buffers_[current_]).first(length * io::dtype_size(dtype_)));
      current_ = 1 - current_;
    }
    return true;
  }

 private:
  void fill_with_ones(uint64_t length) {
    const size_t size = io::dtype_size(dtype_);
    const float one = 1.0F;
    const uint16_t half = dtype_ == DType::kF16 ? to_f16(one) : to_bf16(one);
    for (uint64_t i = 0; i < length; ++i) {
      std::memcpy(buffers_[current_].data() + i * size, size == sizeof(float) ? static_cast<const void*>(&one) : &half,
                  size);
    }
  }

  void fill_at_random(const RandomWeights& weights, uint64_t begin, uint64_t length) {
    constexpr uint64_t kWorthAThread = uint64_t{1} << 18;
    const auto parts = std::clamp<uint64_t>(length / kWorthAThread, 1, static_cast<uint64_t>(threads_));
    const auto fill_part = [&](uint64_t part) {
      const uint64_t from = length * part / parts;
      const uint64_t to = length * (part + 1) / parts;
      weights.fill(dtype_, begin + from, to - from, buffers_[current_].data() + from * io::dtype_size(dtype_));
    };
    std::vector<std::jthread> workers;
    for (uint64_t part = 1; part < parts; ++part) {
      workers.emplace_back(fill_part, part);
    }
    fill_part(0);
  }

  uint64_t seed_;
  DType dtype_;
  int threads_;
  std::array<std::vector<std::byte>, 2> buffers_;  // one is filled while the other is written
  size_t current_ = 0;
};

// The folder under a temporary name beside its place, removed unless it gets there.
class StagedFolder {
 public:
  explicit StagedFolder(const std::string& path) : final_(io::without_trailing_slash(path)) {
    const fs::path place(final_);
    std::error_code code;
    if (fs::exists(place, code) && !(fs::is_directory(place, code) && fs::is_empty(place, code))) {
      throw ConfigError("{}: there already, and not an empty folder; name a new folder", path);
    }
    parents_.emplace(io::parent_of(final_));
    staged_ = (place.parent_path() / fmt::format(".{}.{}.part", place.filename().string(), ::getpid())).string();
    fs::remove_all(staged_, code);
    io::make_directories(staged_);
  }
  ~StagedFolder() {
    std::error_code ignored;
    if (!staged_.empty()) {
      fs::remove_all(staged_, ignored);
    }
  }
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;

  const std::string& path() const { return staged_; }

  void put_in_place() {
    io::sync_directory(staged_);
    std::error_code code;
    fs::rename(staged_, final_, code);
    if (code) {
      throw ResourceError("{}: cannot put in place: {}", final_, code.message());
    }
    staged_.clear();
    io::sync_directory(io::parent_of(final_));
    parents_->keep();
  }

 private:
  std::string final_;
  std::string staged_;
  std::optional<io::MadeFolders> parents_;
};

void require_space(const std::string& folder, uint64_t bytes) {
  std::error_code code;
  const uint64_t free = io::free_bytes(folder, code);
  if (!code && free < bytes) {
    throw ResourceError("{}: {} are free, the model needs {}", folder, format_bytes(free), format_bytes(bytes));
  }
}

// Streams the shards and, if there are several, their index. False when the stop flag was set.
bool write_weights(const std::string& folder, const std::vector<TensorSpec>& tensors, DType dtype,
                   const InitModelOptions& options, InitModelReport& report) {
  std::vector<uint64_t> sizes;
  for (const auto& tensor : tensors) {
    sizes.push_back(static_cast<uint64_t>(tensor.numel()) * io::dtype_size(dtype));
    report.parameters += tensor.numel();
    report.bytes += sizes.back();
  }
  require_space(folder, report.bytes);
  WeightWriter writer(options.seed, dtype, options.threads);
  const auto shards = plan_shards(sizes, options.shard_limit);
  std::map<std::string, std::string> weight_map;
  for (size_t s = 0; s < shards.size(); ++s) {
    const auto name = shard_name(s, shards.size());
    std::vector<io::TensorToWrite> entries;
    for (const size_t index : shards[s]) {
      entries.push_back({tensors[index].name, dtype, tensors[index].shape, {}});
      weight_map[tensors[index].name] = name;
    }
    const auto layout = io::layout_safetensors(entries);
    BackgroundFile file(folder + "/" + name);
    file.write(std::as_bytes(std::span(layout.header)));
    for (const size_t place : layout.order) {
      if (!writer.write(file, tensors[shards[s][place]])) {
        return false;
      }
    }
    file.commit();
    report.files.push_back(name);
  }
  if (shards.size() > 1) {
    Json index = Json::object();
    index["metadata"]["total_size"] = report.bytes;
    index["weight_map"] = weight_map;
    write_json(folder + "/model.safetensors.index.json", index);
    report.files.emplace_back("model.safetensors.index.json");
  }
  return true;
}

}  // namespace

InitModelReport init_model(const InitModelOptions& options) {
  InitModelReport report;
  auto& config = report.config;
  config = named_shape(options.shape);
  const DType dtype = parse_dtype(options.dtype);
  config.torch_dtype = options.dtype;
  if (options.layers) {
    if (*options.layers < 1 || *options.layers > kMostLayers) {
      throw ConfigError("layers: found {}, wanted a whole number from 1 to {}", *options.layers, kMostLayers);
    }
    config.num_layers = *options.layers;
  }
  std::optional<TokenizerFacts> facts;
  if (!options.tokenizer.empty()) {
    facts = read_tokenizer_facts(options.tokenizer);
    adopt_tokenizer(config, options, *facts);
  }
  StagedFolder staged(options.folder);
  if (!write_weights(staged.path(), state_dict(config), dtype, options, report)) {
    report.stopped = true;
    return report;
  }
  write_json(staged.path() + "/config.json", model_config_json(config));
  write_json(staged.path() + "/generation_config.json", generation_config(config, facts ? &*facts : nullptr));
  report.files.insert(report.files.end(), {"config.json", "generation_config.json"});
  if (facts) {
    for (const auto& name : facts->files) {
      io::write_file_atomically(staged.path() + "/" + name,
                                io::read_text_file<ModelError>(options.tokenizer + "/" + name));
      report.files.push_back(name);
    }
  }
  staged.put_in_place();
  return report;
}

}  // namespace phi3tune::phi3
