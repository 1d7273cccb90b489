#include "phi3tune/phi3/fused_adapter.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "phi3/faults.h"
#include "phi3tune/core/error.h"

namespace phi3tune::phi3 {
namespace {

constexpr std::array kKinds{LinearKind::kQkv, LinearKind::kO, LinearKind::kGateUp, LinearKind::kDown};

std::string shape_text(const io::TensorEntry& entry) { return fmt::format("[{}]", fmt::join(entry.shape, ", ")); }

bool same_bytes(const AdapterFolder& folder, const AdapterModule& one, const AdapterModule& other) {
  if (one.a->dtype != other.a->dtype || one.a->shape != other.a->shape) {
    return false;
  }
  const auto first = folder.file().data(*one.a);
  const auto second = folder.file().data(*other.a);
  return std::memcmp(first.data(), second.data(), first.size()) == 0;
}

std::string layer_prefix(int64_t layer, LinearKind kind) {
  return fmt::format("model.layers.{}.{}.", layer, linear_parent(kind));
}

bool is_power_of_two(double value) {
  int exponent = 0;
  return std::frexp(value, &exponent) == 0.5;
}

class Fusing {
 public:
  Fusing(const AdapterFolder& folder, const ModelConfig& model)
      : folder_(folder), model_(model), weights_(folder.file().path()) {
    for (const auto& module : folder.modules()) {
      modules_.emplace(module.path, module);
    }
  }

  FusedAdapter run() {
    find_split_names();
    FusedAdapter fused;
    for (int64_t layer = 0; layer < model_.num_layers; ++layer) {
      for (const auto kind : kKinds) {
        if (auto module = fuse(layer, kind)) {
          fused.modules.push_back(std::move(*module));
        }
      }
    }
    for (const auto& [path, module] : modules_) {
      if (!taken_.contains(path)) {
        faults_.add(weights_, "{} is adapted, and the base has no such linear (it has {} layers)", path,
                    model_.num_layers);
      }
    }
    for (const auto module : kWholeModules) {
      const auto* entry = folder_.file().find(whole_tensor_name(module));
      if (entry != nullptr && entry->shape != std::vector<int64_t>{model_.vocab_size, model_.hidden_size}) {
        faults_.add(weights_, "{} has shape {}; the base's is [{}, {}]; is it the base that the adapter is for?",
                    entry->name, shape_text(*entry), model_.vocab_size, model_.hidden_size);
      }
    }
    if (!faults_.empty()) {
      throw CheckpointError(faults_.text());
    }
    fused.config = folder_.config();
    fused.was_split = !split_names_.empty();
    if (fused.was_split) {
      describe(fused);
    }
    return fused;
  }

 private:
  // A name of target_modules that the file has nowhere was no module of the base it was trained over.
  void find_split_names() {
    for (const auto& [path, module] : modules_) {
      for (const auto kind : {LinearKind::kQkv, LinearKind::kGateUp}) {
        for (const auto& rows : split_rows(model_, kind)) {
          if (path.ends_with("." + rows.name)) {
            split_names_.insert(rows.name);
          }
        }
      }
    }
  }

  bool check(const AdapterModule& module, int64_t in, int64_t out) {
    bool good = true;
    for (const auto& [entry, axis, wanted, what] :
         {std::tuple{module.a, size_t{1}, in, "in"}, std::tuple{module.b, size_t{0}, out, "out"}}) {
      if (entry->shape[axis] != wanted) {
        faults_.add(weights_, "{} has shape {}; the base's linear has {} {}; is it the base that the adapter is for?",
                    entry->name, shape_text(*entry), wanted, what);
        good = false;
      }
    }
    return good;
  }

  const AdapterModule* take(const std::string& path) {
    const auto found = modules_.find(path);
    if (found == modules_.end()) {
      return nullptr;
    }
    taken_.insert(path);
    return &found->second;
  }

  std::optional<FusedModule> fuse(int64_t layer, LinearKind kind) {
    FusedModule module;
    module.layer = layer;
    module.kind = kind;
    module.path = linear_path(layer, kind);
    const int64_t in = linear_in(model_, kind);
    const auto& config = folder_.config();
    const auto* whole = take(module.path);
    if (whole == nullptr && config.targets(module.path)) {
      faults_.add(weights_, "{} is named by target_modules, and its lora_A and lora_B are missing", module.path);
    }
    bool good = true;
    const auto rows = split_rows(model_, kind);
    for (const auto& part : rows) {
      const std::string path = layer_prefix(layer, kind) + part.name;
      const auto* pair = rows.size() == 1 ? nullptr : take(path);
      if (pair == nullptr) {
        if (rows.size() > 1 && split_names_.contains(part.name) && config.targets(path)) {
          faults_.add(weights_, "{} is named by target_modules, and its lora_A and lora_B are missing", path);
        }
        continue;
      }
      if (whole != nullptr) {
        faults_.add(weights_, "{} and {} are both adapted; the second is a part of the first", module.path, path);
        return std::nullopt;
      }
      good = check(*pair, in, part.rows) && good;
      module.parts.push_back({*pair, config.rank_of(path), part.first_row, part.rows, 0, config.scale_of(path)});
    }
    if (whole != nullptr) {
      if (!check(*whole, in, linear_out(model_, kind))) {
        return std::nullopt;
      }
      module.rank = config.rank_of(module.path);
      module.scale = config.scale_of(module.path);
      module.parts.push_back({*whole, module.rank, 0, linear_out(model_, kind), 0, 1.0});
      return module;
    }
    if (module.parts.empty() || !good) {
      return std::nullopt;
    }
    if (config.use_dora && module.parts.size() != rows.size()) {
      faults_.add(weights_,
                  "{}: only some of its parts are adapted, with DoRA; the others' magnitudes are lengths of the base, "
                  "which a fused adapter would need too",
                  module.path);
      return std::nullopt;
    }
    join(module);
    return module;
  }

  // Ranks and scales of the parts become one; `factor` holds each part's own scale so far.
  void join(FusedModule& module) {
    auto& parts = module.parts;
    const bool shared = std::all_of(parts.begin(), parts.end(), [&](const FusedPart& part) {
      return same_bytes(folder_, part.from, parts.front().from);
    });
    for (auto& part : parts) {
      part.first_rank = shared ? 0 : module.rank;
      module.rank = shared ? part.rank : module.rank + part.rank;
    }
    module.scale = parts.front().factor;
    for (auto& part : parts) {
      part.factor /= module.scale;
      rounded_ = rounded_ || (part.factor != 1.0 && !is_power_of_two(std::abs(part.factor)));
    }
    ++(shared ? shared_ : stacked_)[module.rank];
    whole_ = whole_ && parts.size() == split_rows(model_, module.kind).size();
  }

  void describe(FusedAdapter& fused) const {
    std::vector<ModuleShape> shapes;
    for (const auto& module : fused.modules) {
      shapes.push_back({module.path, module.rank, module.scale});
    }
    fused.config.target_regex.clear();
    describe_modules(fused.config, shapes, model_.num_layers);
    const auto say = [&](const std::map<int64_t, int64_t>& ranks, const char* how) {
      for (const auto& [rank, count] : ranks) {
        fused.notes.push_back(
            fmt::format("{}: {} linears whose parts ({}) are adapted apart become fused ones of rank "
                        "{}: {}",
                        folder_.path(), count, fmt::join(split_names_, ", "), rank, how));
      }
    };
    say(shared_, "the parts share their A; the same update, exactly");
    say(stacked_, "A stacked and B block-diagonal; the same update, exactly, with the ranks' sum to train on");
    if (!whole_) {
      fused.notes.push_back(
          fmt::format("{}: rows of parts that are not adapted start with a B of zeros", folder_.path()));
    }
    if (rounded_) {
      fused.notes.push_back(fmt::format(
          "{}: parts of a linear are scaled differently; B takes the ratio, rounded in float32", folder_.path()));
    }
  }

  const AdapterFolder& folder_;
  const ModelConfig& model_;
  std::string weights_;
  Faults faults_{8};  // of another base every module is one
  std::map<std::string, AdapterModule> modules_;
  std::set<std::string> taken_;
  std::set<std::string> split_names_;
  std::map<int64_t, int64_t> shared_, stacked_;  // rank -> linears
  bool whole_ = true;                            // every part of every split linear is adapted
  bool rounded_ = false;
};

// The value that most modules have; of equals the first.
template <typename T, typename Get>
T commonest(const std::vector<ModuleShape>& modules, const Get& get) {
  std::map<T, int64_t> counts;
  for (const auto& module : modules) {
    ++counts[get(module)];
  }
  T best = get(modules.front());
  for (const auto& module : modules) {
    if (counts[get(module)] > counts[best]) {
      best = get(module);
    }
  }
  return best;
}

std::string last_name(const std::string& path) { return path.substr(path.rfind('.') + 1); }

template <typename T, typename Get>
std::vector<std::pair<std::string, T>> pattern_of(const std::vector<ModuleShape>& modules, const T& common,
                                                  const Get& get) {
  std::map<std::string, std::set<T>> by_name;
  for (const auto& module : modules) {
    by_name[last_name(module.path)].insert(get(module));
  }
  std::vector<std::pair<std::string, T>> pattern;
  std::set<std::string> said;
  for (const auto& module : modules) {
    const auto name = last_name(module.path);
    const bool uniform = by_name[name].size() == 1;
    if (get(module) != common && (!uniform || said.insert(name).second)) {
      pattern.emplace_back(uniform ? name : module.path, get(module));
    }
  }
  return pattern;
}

}  // namespace

std::vector<SplitRows> split_rows(const ModelConfig& model, LinearKind kind) {
  switch (kind) {
    case LinearKind::kQkv:
      return {{"q_proj", 0, model.q_size()},
              {"k_proj", model.q_size(), model.kv_size()},
              {"v_proj", model.q_size() + model.kv_size(), model.kv_size()}};
    case LinearKind::kGateUp:
      return {{"gate_proj", 0, model.intermediate_size}, {"up_proj", model.intermediate_size, model.intermediate_size}};
    case LinearKind::kO:
    case LinearKind::kDown:
      break;
  }
  return {{linear_name(kind), 0, linear_out(model, kind)}};
}

void describe_modules(AdapterConfig& config, const std::vector<ModuleShape>& modules, int64_t layers) {
  require(!modules.empty(), "an adapter has modules");
  const auto rank = [](const ModuleShape& module) { return module.rank; };
  const auto alpha = [&](const ModuleShape& module) {
    const auto r = static_cast<double>(module.rank);
    const double exact = module.scale * (config.use_rslora ? std::sqrt(r) : r);
    // sqrt(r) takes a last bit from a whole alpha.
    const double whole = std::round(exact);
    return std::abs(whole - exact) <= 1e-12 * std::abs(exact) ? whole : exact;
  };
  config.rank = commonest<int64_t>(modules, rank);
  config.alpha = commonest<double>(modules, alpha);
  config.rank_pattern = pattern_of(modules, config.rank, rank);
  config.alpha_pattern = pattern_of(modules, config.alpha, alpha);
  config.target_modules.clear();
  config.layers.clear();
  std::map<std::string, int64_t> counts;
  for (const auto& module : modules) {
    ++counts[last_name(module.path)];
  }
  const bool everywhere =
      std::all_of(counts.begin(), counts.end(), [&](const auto& count) { return count.second == layers; });
  std::set<std::string> said;
  for (const auto& module : modules) {
    const auto name = everywhere ? last_name(module.path) : module.path;
    if (said.insert(name).second) {
      config.target_modules.push_back(name);
    }
  }
}

FusedAdapter fuse_adapter(const AdapterFolder& folder, const ModelConfig& model) { return Fusing(folder, model).run(); }

AdapterConfig read_fused_config(const std::string& folder, const ModelConfig& model) {
  return fuse_adapter(AdapterFolder::open(folder), model).config;
}

}  // namespace phi3tune::phi3
