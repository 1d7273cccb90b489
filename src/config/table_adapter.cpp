#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "config/table.h"
#include "phi3tune/core/text.h"

namespace phi3tune::config {
namespace {

using O = RunOptions;

constexpr int64_t kMostPissaIterations = 100;
constexpr Range kAlphas{.low = 0, .high = 1e6, .low_open = true};

bool is_qlora(const O& run) { return run.method == AdapterMethod::kQlora; }

// An adapter to go on from brings its shape with it.
Setting<O> fresh_only(Setting<O> setting) {
  return setting.when("lora_model_dir is not given", {"lora_model_dir"},
                      [](const O& run) { return run.lora.init_adapter.empty(); });
}

// 4 bits under a LoRA adapter are QLoRA, which several tools spell as two settings.
Setting<O> load_in_4bit() {
  auto setting = row<O>("load_in_4bit", {.kind = Kind::kBoolean, .wanted = "true or false"},
                        "Hold the base model's weights in 4 bits: true is adapter: qlora.");
  setting.read = [](const io::YamlNode& node, Reader& reader, O& run) {
    const auto value = reader.boolean(node);
    if (value && *value && !is_qlora(run)) {
      run.method = AdapterMethod::kQlora;
      reader.note(node, "a LoRA adapter over a 4-bit base is read as adapter: qlora");
    } else if (value && !*value && is_qlora(run)) {
      reader.fault(node,
                   "found false, and adapter is qlora, which holds the base in 4 bits; take load_in_4bit out, or "
                   "write adapter: lora");
    }
  };
  setting.show = [](const O& run) { return io::Json(is_qlora(run)); };
  return setting.also("quantization_bit", "LLaMA-Factory", Translation::kBits)
      .also("quant_bits", "ms-swift", Translation::kBits)
      .also("qlora_bnb", "surogate")
      .only_for("adapter");
}

Setting<O> target_modules() {
  auto setting = row<O>("lora_target_modules",
                        {.kind = Kind::kTextList,
                         .wanted = "all-linear, a list of qkv_proj, o_proj, gate_up_proj and down_proj, or a regular "
                                   "expression for whole module names"},
                        "Linear layers that get an adapter.");
  setting.read = [](const io::YamlNode& node, Reader& reader, O& run) { read_target_modules(node, reader, run.lora); };
  setting.show = [](const O& run) {
    if (!run.lora.target_regex.empty()) {
      return io::Json(nullptr);
    }
    return io::Json(run.lora.target_modules);
  };
  return setting.also("lora_target", "LLaMA-Factory")
      .also("target_modules", "PEFT, Unsloth, ms-swift")
      .one_of("targets");
}

Setting<O> target_regex() {
  auto setting = row<O>("lora_target_regex", {.kind = Kind::kText, .wanted = "a regular expression"},
                        "Linear layers that get an adapter: those whose whole module name matches.");
  setting.read = [](const io::YamlNode& node, Reader& reader, O& run) {
    if (auto pattern = reader.regex(node)) {
      run.lora.target_regex = std::move(*pattern);
    }
  };
  setting.show = [](const O& run) { return to_json(run.lora.target_regex); };
  return setting.also("target_regex", "ms-swift").unset("lora_target_modules").one_of("targets");
}

Setting<O> target_linear() {
  auto setting = row<O>("lora_target_linear", {.kind = Kind::kBoolean, .wanted = "true or false"},
                        "true is lora_target_modules: all-linear.");
  setting.read = [](const io::YamlNode& node, Reader& reader, O& run) {
    if (reader.boolean(node) == true) {
      run.lora.target_modules = {"all-linear"};
    }
  };
  setting.show = [](const O&) { return io::Json(nullptr); };
  return setting.one_of("targets").only_for("lora_target_modules");
}

Setting<O> exclude_modules() {
  auto setting = row<O>("lora_exclude_modules",
                        {.kind = Kind::kTextList, .wanted = "a list of qkv_proj, o_proj, gate_up_proj and down_proj"},
                        "Linear layers that get no adapter.");
  setting.read = [](const io::YamlNode& node, Reader& reader, O& run) { read_exclude_modules(node, reader, run.lora); };
  setting.show = [](const O& run) { return io::Json(run.lora.exclude_modules); };
  return setting.also("exclude_modules", "PEFT");
}

Setting<O> layers() {
  auto setting = row<O>("lora_layers",
                        {.kind = Kind::kTextList,
                         .integers = true,
                         .wanted = "a list of layers from 0, such as [0, 1, 2], or last:N for the last N"},
                        "Layers whose linears get an adapter.");
  setting.read = [](const io::YamlNode& node, Reader& reader, O& run) { read_layers(node, reader, run.lora); };
  setting.show = [](const O& run) { return show_layers(run.lora); };
  return setting.also("layers_to_transform", "PEFT", Translation::kOneLayer)
      .also("num_layers", "mlx-lm", Translation::kLastLayers)
      .unset("all layers");
}

Setting<O> modules_to_save() {
  auto setting =
      row<O>("lora_modules_to_save", {.kind = Kind::kTextList, .wanted = "a list of embed_tokens and lm_head"},
             "Modules that are trained whole, and saved in the adapter.");
  setting.read = [](const io::YamlNode& node, Reader& reader, O& run) {
    const auto names = reader.text_list(node);
    run.lora.modules_to_save.clear();
    for (const auto& name : names.value_or(std::vector<std::string>{})) {
      const auto& taken = run.lora.modules_to_save;
      if (name != "embed_tokens" && name != "lm_head") {
        reader.fault(node, "found \"" + name + "\"; wanted embed_tokens, lm_head or both");
      } else if (std::find(taken.begin(), taken.end(), name) != taken.end()) {
        reader.fault(node, name + " is listed twice");
      } else {
        run.lora.modules_to_save.push_back(name);
      }
    }
  };
  setting.show = [](const O& run) { return io::Json(run.lora.modules_to_save); };
  return setting.also("modules_to_save", "PEFT, ms-swift").also("additional_target", "LLaMA-Factory");
}

template <typename Value>
io::Json pattern_json(const std::vector<std::pair<std::string, Value>>& patterns) {
  io::Json map = io::Json::object();
  for (const auto& [pattern, value] : patterns) {
    map[pattern] = value;
  }
  return map;
}

Setting<O> rank_pattern() {
  const Range range = between(1, 65536);
  auto setting = row<O>("lora_rank_pattern",
                        {.kind = Kind::kMap,
                         .range = range,
                         .integers = true,
                         .wanted = "a mapping of regular expressions to ranks >= 1 and <= 65536"},
                        "Ranks of single layers: regular expression for the end of the module name -> rank.");
  setting.read = [range](const io::YamlNode& node, Reader& reader, O& run) {
    run.lora.rank_pattern.clear();
    for (auto& [pattern, rank] : read_pattern_map(node, reader, true, range)) {
      run.lora.rank_pattern.emplace_back(pattern, static_cast<int64_t>(rank));
    }
  };
  setting.show = [](const O& run) { return pattern_json(run.lora.rank_pattern); };
  return setting.also("rank_pattern", "PEFT");
}

Setting<O> alpha_pattern() {
  auto setting = row<O>("lora_alpha_pattern",
                        {.kind = Kind::kMap,
                         .range = kAlphas,
                         .wanted = "a mapping of regular expressions to numbers > 0 and <= 1000000"},
                        "Alphas of single layers: regular expression for the end of the module name -> alpha.");
  setting.read = [](const io::YamlNode& node, Reader& reader, O& run) {
    run.lora.alpha_pattern = read_pattern_map(node, reader, false, kAlphas);
  };
  setting.show = [](const O& run) { return pattern_json(run.lora.alpha_pattern); };
  return setting.also("alpha_pattern", "PEFT");
}

// pissa_niter_N: the number.
std::optional<int64_t> pissa_iterations(const std::string& text) {
  constexpr std::string_view kStart = "pissa_niter_";
  const auto number = text.starts_with(kStart) ? parse_int(text.substr(kStart.size())) : std::nullopt;
  return number && *number >= 0 && *number <= kMostPissaIterations ? number : std::nullopt;
}

Setting<O> lora_init() {
  using Init = LoraOptions::Init;
  auto type =
      choice_type({"default", "gaussian", "pissa", "pissa_niter_4"}, {"orthogonal", "olora", "loftq", "eva", "corda"});
  type.open = true;
  type.wanted = fmt::format("default, gaussian, pissa, or pissa_niter_N with N from 0 to {}", kMostPissaIterations);
  auto setting = row<O>("lora_init", type,
                        "First values. default: A Kaiming uniform, as PEFT does, B zero; pissa: the base's principal "
                        "part (pissa_niter_N: found fast), which the base is then held without; what is saved is a "
                        "plain LoRA of twice the rank for the base as it was.");
  setting.read = [type](const io::YamlNode& node, Reader& reader, O& run) {
    run.lora.pissa_iterations = -1;
    if (const auto iterations = pissa_iterations(node.scalar)) {
      run.lora.init = Init::kPissa;
      run.lora.pissa_iterations = *iterations;
    } else if (const auto index = read_choice(node, reader, type, {{"default", "true"}, {"gaussian"}, {"pissa"}})) {
      run.lora.init = std::array{Init::kDefault, Init::kGaussian, Init::kPissa}[*index];
    }
  };
  setting.show = [](const O& run) {
    if (run.lora.init == Init::kPissa && run.lora.pissa_iterations >= 0) {
      return io::Json(fmt::format("pissa_niter_{}", run.lora.pissa_iterations));
    }
    return io::Json(run.lora.init == Init::kPissa      ? "pissa"
                    : run.lora.init == Init::kGaussian ? "gaussian"
                                                       : "default");
  };
  return setting.also("init_lora_weights", "PEFT")
      .also("peft_init_lora_weights", "Axolotl")
      .also("init_weights", "ms-swift");
}

void add_quantisation(SettingList<O>& list) {
  const std::vector<std::string> decided{"adapter", "load_in_4bit"};
  list.add(load_in_4bit());
  list.add(later<O>("load_in_8bit", "Hold the base model's weights in 8 bits."));
  list.add(fixed<O>("bnb_4bit_quant_type", {"nf4", "bnb.nf4"}, {"fp4"}, "The 4-bit code.")
               .also("quantization_type", "LLaMA-Factory")
               .when("adapter is qlora", decided, is_qlora));
  list.add(boolean<O>("bnb_4bit_use_double_quant", at(&O::quant, &QuantOptions::double_quant),
                      "Quantise the scales of the 4-bit blocks too: 0.37 bits a weight less.")
               .also("use_bnb_nested_quant", "TRL")
               .also("double_quantization", "LLaMA-Factory")
               .also("qlora_bnb_double_quant", "surogate")
               .when("adapter is qlora", decided, is_qlora));
  list.add(later<O>("bnb_4bit_compute_dtype", "Precision of the products with 4-bit weights."));
  std::vector<Named<int64_t>> sizes;
  for (const int64_t size : {64, 32, 128, 256, 512, 1024, 2048, 4096}) {
    sizes.push_back({size, {std::to_string(size)}});
  }
  list.add(choice<O>("quant_block_size", at(&O::quant, &QuantOptions::block_size), sizes, {},
                     "Weights that share one scale.")
               .when("adapter is qlora", decided, is_qlora));
  list.add(later<O>("quant_skip_modules", "Layers that stay in 16 bits."));
}

}  // namespace

void add_adapter_settings(SettingList<O>& list) {
  list.section("Adapter");
  list.add(choice<O>("adapter", at(&O::method), {{AdapterMethod::kLora, {"lora"}}, {AdapterMethod::kQlora, {"qlora"}}},
                     {"none", "full", "dora"},
                     "lora trains an adapter over a 16- or 32-bit base, qlora over one held in 4 bits.")
               .also("finetuning_type", "LLaMA-Factory")
               .also("tuner_type", "ms-swift")
               .also("training_type", "Unsloth")
               .also("fine_tune_type", "mlx-lm"));
  add_quantisation(list);
  list.add(fresh_only(integer<O>("lora_r", at(&O::lora, &LoraOptions::rank), between(1, 65536), "Rank of the update.")
                          .also("lora_rank", "LLaMA-Factory, ms-swift")
                          .also("r", "PEFT")));
  list.add(fresh_only(number<O>("lora_alpha", at(&O::lora, &LoraOptions::alpha), kAlphas,
                                "The update is scaled by lora_alpha / lora_r.")));
  list.add(number<O>("lora_dropout", at(&O::lora, &LoraOptions::dropout), {.low = 0, .high = 1, .high_open = true},
                     "Share of an adapter's input that is dropped."));
  list.add(fresh_only(target_modules()));
  list.add(fresh_only(exclude_modules()));
  list.add(fresh_only(target_regex()));
  list.add(fresh_only(target_linear()));
  list.add(fresh_only(layers()));
  list.add(fresh_only(modules_to_save()));
  list.add(fresh_only(rank_pattern()));
  list.add(fresh_only(alpha_pattern()));
  list.add(fresh_only(lora_init()));
  list.add(later<O>("lora_dtype", "Precision of the adapter."));
  list.add(fresh_only(boolean<O>("use_rslora", at(&O::lora, &LoraOptions::use_rslora),
                                 "Scale the update by lora_alpha / sqrt(lora_r) instead.")
                          .also("peft_use_rslora", "Axolotl")));
  list.add(fresh_only(boolean<O>("use_dora", at(&O::lora, &LoraOptions::use_dora),
                                 "Weight-decomposed adapters (DoRA): a trained length for every output. On the CPU.")
                          .also("peft_use_dora", "Axolotl")));
  list.add(number<O>("loraplus_lr_ratio", at(&O::schedule, &ScheduleOptions::loraplus_lr_ratio),
                     {.low = 0, .high = 1e6, .low_open = true}, "Learning rate of B over that of A (LoRA+).")
               .also("lorap_lr_ratio", "ms-swift")
               .unset("one rate for both"));
  list.add(input_path<O>("lora_model_dir", at(&O::lora, &LoraOptions::init_adapter),
                         "Folder of a PEFT adapter to go on from.")
               .also("adapter_name_or_path", "LLaMA-Factory")
               .also("adapters", "ms-swift")
               .also("resume_adapter_file", "mlx-lm")
               .unset("a fresh adapter")
               .free_on_resume());
  list.add(boolean<O>("lora_any_base", at(&O::lora, &LoraOptions::any_base),
                      "Go on from the adapter of lora_model_dir though it was trained over another base_model.")
               .when("lora_model_dir is given", {"lora_model_dir"},
                     [](const O& run) { return !run.lora.init_adapter.empty(); })
               .free_on_resume());
}

}  // namespace phi3tune::config
