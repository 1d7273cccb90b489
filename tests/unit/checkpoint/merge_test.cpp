#include "phi3tune/checkpoint/merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "adapters.h"
#include "checkpoint/merged_folder.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/phi3/adapter_origin.h"
#include "phi3tune/phi3/fused_adapter.h"
#include "phi3tune/quant/nf4.h"
#include "support/references.h"
#include "support/temp_folder.h"
#include "support/tensors.h"
#include "tiny.h"

namespace phi3tune {
namespace {

namespace fs = std::filesystem;
using checkpoint::MergeOptions;
using test::TempFolder;
using testing::AllOf;
using testing::HasSubstr;

const std::string kModels = PHI3TUNE_SOURCE_DIR "/tests/references/models/";
const std::string kAdapters = PHI3TUNE_SOURCE_DIR "/tests/references/adapters/";

checkpoint::MergeReport merge(const std::string& model, const std::string& adapter, const std::string& out,
                              std::optional<io::DType> dtype = std::nullopt, uint64_t shard_size = 1 << 30,
                              std::optional<bool> verify = {}) {
  MergeOptions options;
  options.out = out;
  options.dtype = dtype;
  options.shard_size = shard_size;
  options.verify = verify;
  return checkpoint::merge(phi3::ModelFolder::open(model), adapter, options);
}

std::map<std::string, at::Tensor> read_model(const std::string& folder) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".safetensors") {
      tensors.merge(test::read_tensors(entry.path()));
    }
  }
  return tensors;
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

TEST(Merge, AddsTheUpdateInFloat32AndRoundsOnce) {
  const auto base = read_model(kModels + "gqa");
  const auto pairs = test::read_tensors(kAdapters + "gqa/adapter_model.safetensors");
  const auto config = phi3::read_adapter_config(kAdapters + "gqa");
  std::map<std::string, at::Tensor> wide;
  for (const auto dtype : {io::DType::kF32, io::DType::kBF16, io::DType::kF16}) {
    const TempFolder folder;
    const auto report = merge(kModels + "gqa", kAdapters + "gqa", folder / "out", dtype);
    EXPECT_EQ(report.modules, 8U);
    const auto merged = read_model(folder / "out");
    ASSERT_EQ(merged.size(), base.size());
    if (dtype == io::DType::kF32) {
      wide = merged;
    }
    int changed = 0;
    for (const auto& [name, value] : merged) {
      auto exact = base.at(name).to(at::kDouble);
      const auto path = name.substr(0, name.size() - std::string(".weight").size());
      const bool adapted = config.targets(path);
      if (adapted) {
        const auto update = at::mm(pairs.at(phi3::lora_tensor_name(path, 'B')).to(at::kDouble),
                                   pairs.at(phi3::lora_tensor_name(path, 'A')).to(at::kDouble));
        exact += update * config.scale_of(path);
        changed += at::equal(exact.to(value.scalar_type()), base.at(name).to(value.scalar_type())) ? 0 : 1;
      }
      EXPECT_EQ(io::dtype_size(dtype), value.element_size());
      const auto error = (value.to(at::kDouble) - exact).abs();
      // Half a last place of the dtype, and before it float32's error of a sum of terms as large as the largest.
      const double half = dtype == io::DType::kF32 ? 0.0 : dtype == io::DType::kBF16 ? 0x1.01p-8 : 0x1.01p-11;
      const double sum = 0x1p-22 * exact.abs().max().item<double>();
      const double tiny = dtype == io::DType::kF16 ? 0x1p-25 : 0.0;  // below float16's smallest normal number
      EXPECT_TRUE((error <= exact.abs() * half + sum + tiny).all().item<bool>()) << name;
      EXPECT_TRUE(test::same_bits(value, wide.at(name).to(value.scalar_type()))) << name;
      if (!adapted) {
        EXPECT_TRUE(test::same_bits(value, base.at(name).to(value.scalar_type()))) << name;
      }
    }
    EXPECT_EQ(changed, 8);
  }
}

TEST(Merge, TheResultComputesWhatBaseAndAdapterCompute) {
  for (const char* kind : {"mha", "gqa", "longrope", "partial"}) {
    const TempFolder folder;
    const auto report = merge(kModels + kind, kAdapters + kind, folder / "out", io::DType::kF32, 1 << 30, true);
    ASSERT_TRUE(report.check);
    EXPECT_EQ(report.check->compute_dtype, "float32");
    EXPECT_LE(report.check->max_difference, 1e-5 * report.check->max_logit) << kind;
    EXPECT_GT(report.check->max_logit, 0.1);
  }
}

// As transformers 5.23's save_pretrained(max_shard_size="20KB") cuts and lists a loaded model
// (tests/parity/live_export.py compares them live).
TEST(Merge, ShardsAndIndexAreThoseOfSavePretrained) {
  const TempFolder folder;
  const auto report = merge(kModels + "gqa", kAdapters + "gqa", folder / "out", std::nullopt, 20'000);
  const auto index = io::read_json_file<ModelError>(folder / "out/model.safetensors.index.json");
  EXPECT_EQ(index.at("metadata").at("total_parameters"), report.parameters);
  EXPECT_EQ(index.at("metadata").at("total_size"), report.bytes);
  EXPECT_EQ(report.bytes, 2 * static_cast<uint64_t>(report.parameters));
  std::vector<std::string> order;
  for (const auto& [name, file] : index.at("weight_map").items()) {
    order.push_back(name);
  }
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  const auto& map = index.at("weight_map");
  const auto count = fmt::format("-of-{:05}.safetensors", report.shards);
  EXPECT_GT(report.shards, 3U);
  // Sorted by the parts of the names: the head comes first, layers stand together, the last norm is last.
  EXPECT_EQ(map.at("lm_head.weight"), "model-00001" + count);
  EXPECT_EQ(map.at("model.norm.weight"), fmt::format("model-{:05}{}", report.shards, count));
  EXPECT_LE(map.at("model.layers.0.input_layernorm.weight"), map.at("model.layers.0.mlp.down_proj.weight"));
  EXPECT_LE(map.at("model.layers.0.self_attn.qkv_proj.weight"), map.at("model.layers.1.input_layernorm.weight"));
  for (const auto& file : report.files) {
    if (file.ends_with(".safetensors")) {
      EXPECT_EQ(io::SafetensorsFile::open(folder / "out/" + file).header().metadata.at("format"), "pt");
    }
  }
  EXPECT_EQ(names_in(folder / "out"), report.files);
  EXPECT_NO_THROW((void)phi3::ModelFolder::open(folder / "out"));
}

TEST(Merge, ConfigKeepsItsSpellingAndOtherFilesTheirBytes) {
  const TempFolder folder;
  fs::copy(kModels + "mha", folder / "base", fs::copy_options::recursive);
  folder.write("base/tokenizer.json", "{ \"any\" :  1}\n");
  folder.write("base/tokenizer_config.json", R"({"chat_template": "base's"})");
  auto config = io::read_json_file<ModelError>(kModels + "mha/config.json");
  config["auto_map"] = {{"AutoModelForCausalLM", "modeling_phi3.Phi3ForCausalLM"}};
  folder.write("base/config.json", config.dump());
  fs::copy(kAdapters + "mha", folder / "adapter", fs::copy_options::recursive);
  folder.write("adapter/chat_template.jinja", "adapter's");
  (void)merge(folder / "base", folder / "adapter", folder / "out", io::DType::kF16);
  auto wanted = io::read_json_file<ModelError>(kModels + "mha/config.json");
  wanted["torch_dtype"] = "float16";
  wanted["dtype"] = "float16";
  EXPECT_EQ(io::read_json_file<ModelError>(folder / "out/config.json"), wanted);
  EXPECT_EQ(test::read_all(folder / "out/tokenizer.json"), "{ \"any\" :  1}\n");
  EXPECT_EQ(test::read_all(folder / "out/generation_config.json"),
            test::read_all(kModels + "mha/generation_config.json"));
  EXPECT_EQ(test::read_all(folder / "out/chat_template.jinja"), "adapter's");
}

TEST(Merge, TheAdaptersTemplateTakesTheBasesPlaceWhereItDiffers) {
  for (const char* own : {"adapter's", "base's"}) {
    const TempFolder folder;
    fs::copy(kModels + "mha", folder / "base", fs::copy_options::recursive);
    fs::copy(kAdapters + "mha", folder / "adapter", fs::copy_options::recursive);
    folder.write("base/chat_template.jinja", "base's");
    folder.write("adapter/tokenizer_config.json", fmt::format(R"({{"chat_template": "{}"}})", own));
    (void)merge(folder / "base", folder / "adapter", folder / "out", io::DType::kF16);
    EXPECT_EQ(test::read_all(folder / "out/chat_template.jinja"), own);
  }
  // What only tokenizer_config.json holds stays there alone.
  const TempFolder folder;
  fs::copy(kModels + "mha", folder / "base", fs::copy_options::recursive);
  fs::copy(kAdapters + "mha", folder / "adapter", fs::copy_options::recursive);
  folder.write("base/tokenizer_config.json", R"({"chat_template": "the same"})");
  folder.write("adapter/chat_template.jinja", "the same");
  (void)merge(folder / "base", folder / "adapter", folder / "out", io::DType::kF16);
  EXPECT_FALSE(fs::exists(folder / "out/chat_template.jinja"));
}

TEST(Merge, LinksThatLeadOutAreNotCopied) {
  const TempFolder folder;
  folder.write("secret", "not for others");
  const auto refusal = [&](const std::string& side, const char* name) {
    const TempFolder own;
    fs::copy(kModels + "mha", own / "base", fs::copy_options::recursive);
    fs::copy(kAdapters + "mha", own / "adapter", fs::copy_options::recursive);
    fs::create_symlink(folder / "secret", own.path() + "/" + side + "/" + name);
    const auto said =
        test::message_of<ModelError>([&] { (void)merge(own / "base", own / "adapter", own / "out", io::DType::kF16); });
    EXPECT_EQ(names_in(own.path()), (std::vector<std::string>{"adapter", "base"}));
    return said;
  };
  for (const char* name : {"chat_template.jinja", "tokenizer_config.json"}) {
    for (const char* side : {"base", "adapter"}) {
      EXPECT_THAT(refusal(side, name),
                  AllOf(HasSubstr(std::string(side) + "/" + name), HasSubstr("a link that leads out")));
    }
  }
  EXPECT_THAT(refusal("base", "tokenizer.json"), HasSubstr("a link that leads out"));
}

TEST(Merge, QuantisedBaseIsDequantisedAndMeasured) {
  const TempFolder folder;
  const std::string base = kModels + "mha_nf4_float32";
  const auto report = merge(base, kAdapters + "mha", folder / "out", io::DType::kF32);
  ASSERT_TRUE(report.check);
  EXPECT_LE(report.check->max_difference, 1e-5 * report.check->max_logit);
  EXPECT_FALSE(io::read_json_file<ModelError>(folder / "out/config.json").contains("quantization_config"));
  EXPECT_FALSE(phi3::ModelFolder::open(folder / "out").is_prequantized(0, phi3::LinearKind::kO));
}

TEST(Merge, QuantizedBaseTakesTheWeightsThatTrainingSaw) {
  const TempFolder folder;
  MergeOptions options;
  options.out = folder / "out";
  options.dtype = io::DType::kF32;
  options.quantized_base = true;
  const auto base = phi3::ModelFolder::open(test::kTinyModel);
  const auto report = checkpoint::merge(base, test::kPeftAdapter, options);
  ASSERT_TRUE(report.check);
  EXPECT_LE(report.check->max_difference, 1e-5 * report.check->max_logit);
  // Not the weights of the folder: those of NF4, block 64 and double quantisation, plus the update.
  const std::string path = "model.layers.0.self_attn.o_proj";
  const auto located = base.tensor(path + ".weight");
  const auto held = quant::quantize_nf4(located.data(), quant::FloatType::kBF16, 64, 64, {});
  auto wanted = at::empty({64, 64}, at::kFloat);
  quant::dequantize_nf4(held, 0, 64 * 64, quant::FloatType::kF32, wanted.data_ptr());
  const auto pairs = test::read_tensors(std::string(test::kPeftAdapter) + "/adapter_model.safetensors");
  wanted += 2.0 * at::mm(pairs.at(phi3::lora_tensor_name(path, 'B')), pairs.at(phi3::lora_tensor_name(path, 'A')));
  const auto merged = read_model(folder / "out").at(path + ".weight");
  EXPECT_LE((merged - wanted).abs().max().item<double>(), 1e-6);
}

TEST(Merge, QuantizedBaseIsHeldAsTheAdapterSays) {
  const TempFolder folder;
  const auto pairs = test::read_tensors(std::string(test::kPeftAdapter) + "/adapter_model.safetensors");
  const std::string path = "model.layers.0.self_attn.o_proj";
  const auto a = pairs.at(phi3::lora_tensor_name(path, 'A'));
  const auto b = pairs.at(phi3::lora_tensor_name(path, 'B'));
  test::write_adapter(folder / "adapter", {{path, {a, b}}, {"model.layers.1.self_attn.o_proj", {a, b}}},
                      R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["o_proj"]})",
                      phi3::origin_metadata({"", phi3::HeldInNf4{128, false}}));
  MergeOptions options;
  options.out = folder / "out";
  options.dtype = io::DType::kF32;
  options.quantized_base = true;
  const auto base = phi3::ModelFolder::open(test::kTinyModel);
  const auto report = checkpoint::merge(base, folder / "adapter", options);
  EXPECT_LE(report.check->max_difference, 1e-5 * report.check->max_logit);
  quant::Nf4Options held_options;
  held_options.block_size = 128;
  held_options.double_quant = false;
  const auto held =
      quant::quantize_nf4(base.tensor(path + ".weight").data(), quant::FloatType::kBF16, 64, 64, held_options);
  auto wanted = at::empty({64, 64}, at::kFloat);
  quant::dequantize_nf4(held, 0, 64 * 64, quant::FloatType::kF32, wanted.data_ptr());
  wanted += 2.0 * at::mm(b, a);
  const auto merged = read_model(folder / "out").at(path + ".weight");
  EXPECT_LE((merged - wanted).abs().max().item<double>(), 1e-6);
}

// A model whose gate_up_proj is more than the block of rows that is merged at a time, and whose width is no multiple of
// NF4's block.
std::string write_wide_model(const TempFolder& folder) {
  auto config = io::read_json_file<ModelError>(std::string(test::kTinyModel) + "/config.json");
  config["hidden_size"] = 48;
  config["num_attention_heads"] = config["num_key_value_heads"] = 3;
  config["intermediate_size"] = 50'000;
  config["num_hidden_layers"] = 1;
  folder.write("wide/config.json", config.dump());
  std::vector<at::Tensor> values;
  std::vector<io::TensorToWrite> tensors;
  for (const auto& spec : phi3::state_dict(phi3::read_model_config(folder / "wide"))) {
    values.push_back((spec.shape.size() == 1 ? at::ones(spec.shape) : at::randn(spec.shape) * 0.05).to(at::kBFloat16));
    tensors.push_back({spec.name,
                       io::DType::kBF16,
                       spec.shape,
                       {static_cast<const std::byte*>(values.back().const_data_ptr()), values.back().nbytes()}});
  }
  io::write_safetensors(folder / "wide/model.safetensors", std::move(tensors), {{"format", "pt"}});
  return folder / "wide";
}

TEST(Merge, ATensorOfSeveralBlocksOfRowsIsMergedToItsEnd) {
  const TempFolder folder;
  const auto base = write_wide_model(folder);
  const std::string path = "model.layers.0.mlp.gate_up_proj";
  for (const bool dora : {false, true}) {
    const std::string name = dora ? "dora" : "plain";
    test::Pair pair{at::randn({1, 48}), at::randn({100'000, 1}) * 0.05};
    if (dora) {
      pair.magnitude = at::rand({100'000}) + 0.5;
    }
    test::write_adapter(folder / name, {{path, pair}},
                        fmt::format(R"({{"peft_type": "LORA", "r": 1, "lora_alpha": 1, "use_dora": {},
                                       "target_modules": ["gate_up_proj"]}})",
                                    dora));
    for (const bool held : {false, true}) {
      MergeOptions options;
      options.out = folder / fmt::format("{}-{}", name, held);
      options.dtype = io::DType::kF32;
      options.quantized_base = held;
      options.verify = true;
      const auto report = checkpoint::merge(phi3::ModelFolder::open(base), folder / name, options);
      EXPECT_LE(report.check->max_difference, 1e-5 * report.check->max_logit) << name << held;
      if (!dora && !held) {
        const auto wanted = read_model(base).at(path + ".weight").to(at::kDouble) +
                            at::mm(pair.b.to(at::kDouble), pair.a.to(at::kDouble));
        const auto error = (read_model(options.out).at(path + ".weight").to(at::kDouble) - wanted).abs().max();
        EXPECT_LE(error.item<double>(), 1e-6);
      }
    }
  }
}

// By the value of a number between dots, as transformers sorts the names of a model that was loaded.
TEST(Merge, LayersStandInTheOrderOfTheirNumbers) {
  auto config = phi3::read_model_config(test::kTinyModel);
  config.num_layers = 12;
  const auto shards = checkpoint::merged_shards(config, io::DType::kF32, 1 << 30);
  ASSERT_EQ(shards.size(), 1U);
  std::vector<std::string> norms;
  for (const auto& spec : shards[0].tensors) {
    if (spec.name.ends_with(".input_layernorm.weight")) {
      norms.push_back(spec.name);
    }
  }
  for (int layer = 0; layer < 12; ++layer) {
    EXPECT_EQ(norms.at(static_cast<size_t>(layer)), fmt::format("model.layers.{}.input_layernorm.weight", layer));
  }
}

TEST(Merge, RefusesToWriteOverWhatItReadsOrWhatIsThere) {
  const TempFolder folder;
  fs::copy(test::kPeftAdapter, folder / "adapter", fs::copy_options::recursive);
  folder.write("there/mine.txt", "mine");
  const auto refusal = [&](const std::string& out) {
    return test::message_of<ConfigError>([&] { (void)merge(test::kTinyModel, folder / "adapter", out); });
  };
  EXPECT_THAT(refusal(test::kTinyModel + std::string("/")), HasSubstr("is what is read"));
  EXPECT_THAT(refusal(folder / "adapter/../adapter"), HasSubstr("is what is read"));
  EXPECT_THAT(refusal(folder / "adapter/merged"), HasSubstr("lies in"));
  EXPECT_THAT(refusal(folder / "there"), HasSubstr("exists already"));
  EXPECT_EQ(names_in(folder / "there"), std::vector<std::string>{"mine.txt"});
  EXPECT_EQ(names_in(folder / "adapter").size(), 2U);
}

TEST(Merge, ValuesBeyondTheDtypeAreNamedAndNothingIsLeft) {
  const TempFolder folder;
  const std::string path = "model.layers.1.mlp.down_proj";
  const auto base = phi3::read_model_config(test::kTinyModel);
  test::write_adapter(folder / "adapter",
                      {{"model.layers.0.mlp.down_proj", {at::zeros({1, base.intermediate_size}), at::zeros({64, 1})}},
                       {path, {at::full({1, base.intermediate_size}, 1e3), at::full({64, 1}, 1e3)}}},
                      R"({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["down_proj"]})");
  EXPECT_THAT(test::message_of<NumericsError>(
                  [&] { (void)merge(test::kTinyModel, folder / "adapter", folder / "out", io::DType::kF16); }),
              HasSubstr(path + ".weight: holds values that are not finite as F16"));
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"adapter"});
  EXPECT_NO_THROW((void)merge(test::kTinyModel, folder / "adapter", folder / "out", io::DType::kBF16));
}

TEST(Merge, WeightsTrainedWholeTakeTheBasesPlaceAndUntieTheHead) {
  const auto config = phi3::read_model_config(kModels + "partial");
  ASSERT_TRUE(config.tie_word_embeddings);
  const auto base = read_model(kModels + "partial").at("model.embed_tokens.weight");
  for (const auto& names : {std::vector<std::string>{"lm_head"}, {"embed_tokens"}, {"embed_tokens", "lm_head"}}) {
    const TempFolder folder;
    std::map<std::string, test::Pair> modules;
    for (int64_t layer = 0; layer < config.num_layers; ++layer) {
      modules[phi3::linear_path(layer, phi3::LinearKind::kO)] = {at::randn({2, config.q_size()}),
                                                                 at::randn({config.hidden_size, 2}) * 0.01};
    }
    std::map<std::string, at::Tensor> whole;
    std::map<std::string, at::Tensor> wanted{{"model.embed_tokens.weight", base.to(at::kFloat)},
                                             {"lm_head.weight", base.to(at::kFloat)}};
    for (const auto& name : names) {
      const std::string path = (name == "lm_head" ? "lm_head" : "model.embed_tokens") + std::string(".weight");
      wanted[path] = whole["base_model.model." + path] = at::randn(base.sizes());
    }
    test::write_adapter(folder / "adapter", modules,
                        fmt::format(R"({{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["o_proj"],
                                        "modules_to_save": ["{}"]}})",
                                    fmt::join(names, "\", \"")),
                        {{"format", "pt"}}, whole);
    const auto report = merge(kModels + "partial", folder / "adapter", folder / "out", io::DType::kF32, 1 << 30, true);
    EXPECT_FALSE(report.tied);
    EXPECT_LE(report.check->max_difference, 1e-5 * report.check->max_logit);
    const auto merged = read_model(folder / "out");
    for (const auto& [name, value] : wanted) {
      EXPECT_TRUE(test::same_bits(merged.at(name), value)) << name;
    }
    EXPECT_FALSE(phi3::ModelFolder::open(folder / "out").config().tie_word_embeddings);
  }
}

TEST(Merge, AStopLeavesNothing) {
  const TempFolder folder;
  request_stop();
  EXPECT_THROW((void)merge(test::kTinyModel, test::kPeftAdapter, folder / "out"), Interrupted);
  forget_stop();
  EXPECT_TRUE(names_in(folder.path()).empty());
}

TEST(Merge, AnAdapterOfAnotherShapeIsRefusedBeforeAFileIsMade) {
  const TempFolder folder;
  EXPECT_THAT(
      test::message_of<CheckpointError>([&] { (void)merge(kModels + "gqa", test::kPeftAdapter, folder / "out"); }),
      HasSubstr("is it the base that the adapter is for?"));
  EXPECT_TRUE(names_in(folder.path()).empty());
}

}  // namespace
}  // namespace phi3tune
