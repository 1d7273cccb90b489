#include "phi3tune/checkpoint/export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "adapters.h"
#include "phi3tune/core/error.h"
#include "phi3tune/io/gguf.h"
#include "phi3tune/phi3/adapter_origin.h"
#include "phi3tune/phi3/fused_adapter.h"
#include "support/references.h"
#include "support/temp_folder.h"
#include "support/tensors.h"
#include "tiny.h"

namespace phi3tune {
namespace {

namespace fs = std::filesystem;
using checkpoint::ExportFormat;
using test::TempFolder;
using testing::AllOf;
using testing::HasSubstr;

const std::string kModel = PHI3TUNE_SOURCE_DIR "/tests/references/models/gqa";
const std::string kAdapter = PHI3TUNE_SOURCE_DIR "/tests/references/adapters/gqa";

checkpoint::ExportReport write(const std::string& adapter, ExportFormat format, const std::string& out,
                               io::DType dtype = io::DType::kF32) {
  return checkpoint::export_adapter(phi3::read_model_config(kModel), adapter, {format, out, dtype});
}

std::map<std::string, at::Tensor> tensors_in(const std::string& folder) {
  return test::read_tensors(folder + "/adapter_model.safetensors");
}

TEST(Export, PeftFusedIsTheAdapterInAnotherDtype) {
  const TempFolder folder;
  (void)write(kAdapter, ExportFormat::kPeftFused, folder / "same");
  EXPECT_TRUE(test::read_all(folder / "same/adapter_model.safetensors") ==
              test::read_all(kAdapter + "/adapter_model.safetensors"));
  (void)write(kAdapter, ExportFormat::kPeftFused, folder / "narrow", io::DType::kBF16);
  for (const auto& [name, value] : tensors_in(kAdapter)) {
    EXPECT_TRUE(test::same_bits(tensors_in(folder / "narrow").at(name), value.to(at::kBFloat16))) << name;
  }
}

TEST(Export, PeftSplitSharesAAndCutsB) {
  const TempFolder folder;
  const auto report = write(kAdapter, ExportFormat::kPeftSplit, folder / "out");
  EXPECT_EQ(report.modules, 14U);  // 7 a layer
  const auto whole = tensors_in(kAdapter);
  const auto split = tensors_in(folder / "out");
  EXPECT_EQ(split.size(), 28U);
  const auto of = [](const auto& tensors, const std::string& path, char half) {
    return tensors.at(phi3::lora_tensor_name("model.layers.1." + path, half));
  };
  const auto check = [&](const std::string& fused, const std::vector<std::pair<std::string, int64_t>>& parts) {
    std::vector<at::Tensor> rows;
    for (const auto& [name, count] : parts) {
      EXPECT_TRUE(test::same_bits(of(split, name, 'A'), of(whole, fused, 'A')));
      rows.push_back(of(split, name, 'B'));
      EXPECT_EQ(rows.back().size(0), count) << name;
    }
    EXPECT_TRUE(test::same_bits(at::cat(rows), of(whole, fused, 'B')));
  };
  check("self_attn.qkv_proj", {{"self_attn.q_proj", 64}, {"self_attn.k_proj", 32}, {"self_attn.v_proj", 32}});
  const auto half = phi3::read_model_config(kModel).intermediate_size;
  check("mlp.gate_up_proj", {{"mlp.gate_proj", half}, {"mlp.up_proj", half}});
  const auto config = phi3::read_adapter_config(folder / "out");
  EXPECT_EQ(config.target_modules,
            (std::vector<std::string>{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}));
  EXPECT_TRUE(config.rank_pattern.empty());
}

TEST(Export, SplitAndBackIsTheSameAdapter) {
  const TempFolder folder;
  (void)write(kAdapter, ExportFormat::kPeftSplit, folder / "split");
  (void)write(folder / "split", ExportFormat::kPeftFused, folder / "fused");
  EXPECT_TRUE(test::read_all(folder / "fused/adapter_model.safetensors") ==
              test::read_all(kAdapter + "/adapter_model.safetensors"));
  const auto config = phi3::read_adapter_config(folder / "fused");
  EXPECT_EQ(config.target_modules, (std::vector<std::string>{"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}));
}

// Pairs of q, k and v in both layers, each with an A of its own.
std::map<std::string, test::Pair> pairs_apart(const std::map<std::string, int64_t>& ranks) {
  const std::map<std::string, int64_t> rows{{"q_proj", 64}, {"k_proj", 32}, {"v_proj", 32}};
  std::map<std::string, test::Pair> modules;
  for (int layer = 0; layer < 2; ++layer) {
    for (const auto& [name, rank] : ranks) {
      modules[fmt::format("model.layers.{}.self_attn.{}", layer, name)] = {at::randn({rank, 64}),
                                                                           at::randn({rows.at(name), rank})};
    }
  }
  return modules;
}

TEST(Export, PartsThatWereAdaptedApartComeBackAsTheyWere) {
  const std::string config = R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": )";
  struct Case {
    std::string name, config;
    std::map<std::string, test::Pair> modules;
    int64_t fused_rank;
  };
  std::vector<Case> cases{
      {"equal", config + R"(["q_proj", "k_proj", "v_proj"]})",
       pairs_apart({{"q_proj", 4}, {"k_proj", 4}, {"v_proj", 4}}), 12},
      {"zeros", config + R"(["q_proj", "k_proj", "v_proj"]})",
       pairs_apart({{"q_proj", 4}, {"k_proj", 4}, {"v_proj", 4}}), 12},
      {"own",
       config + R"(["q_proj", "k_proj", "v_proj"], "rank_pattern": {"v_proj": 3}, "alpha_pattern": {"v_proj": 6}})",
       pairs_apart({{"q_proj", 4}, {"k_proj", 4}, {"v_proj", 3}}), 11},
      {"two", config + R"(["q_proj", "v_proj"]})", pairs_apart({{"q_proj", 4}, {"v_proj", 4}}), 8},
      {"one", config + R"(["k_proj"]})", pairs_apart({{"k_proj", 4}}), 4},
  };
  // Columns at the blocks' edges, and a whole part, that no training reached.
  cases[2].modules.at("model.layers.0.self_attn.q_proj").b.narrow(1, 3, 1).zero_();
  cases[1].modules.at("model.layers.0.self_attn.q_proj").b.narrow(1, 3, 1).zero_();
  cases[1].modules.at("model.layers.0.self_attn.k_proj").b.narrow(1, 0, 1).zero_();
  cases[1].modules.at("model.layers.1.self_attn.v_proj").b.zero_();
  for (const auto& [name, text, modules, fused_rank] : cases) {
    const TempFolder folder;
    const auto apart = test::write_adapter(folder / "apart", modules, text);
    (void)write(apart, ExportFormat::kPeftFused, folder / "fused");
    EXPECT_EQ(phi3::read_adapter_config(folder / "fused").rank, fused_rank) << name;
    const auto report = write(folder / "fused", ExportFormat::kPeftSplit, folder / "again");
    EXPECT_EQ(report.modules, modules.size()) << name;
    EXPECT_EQ(report.notes.empty() ? "" : report.notes.front().substr(0, 9), "2 linears") << name;
    EXPECT_TRUE(test::read_all(folder / "again/adapter_model.safetensors") ==
                test::read_all(apart + "/adapter_model.safetensors"))
        << name;
    const auto before = phi3::read_adapter_config(apart);
    const auto after = phi3::read_adapter_config(folder / "again");
    for (const auto& [path, pair] : modules) {
      EXPECT_EQ(after.rank_of(path), before.rank_of(path)) << name << " " << path;
      EXPECT_EQ(after.scale_of(path), before.scale_of(path)) << name << " " << path;
    }
  }
}

// One value outside the blocks, and the whole A belongs to all of them.
TEST(Export, ABThatTrainingFilledKeepsAWhole) {
  const TempFolder folder;
  auto a = at::randn({12, 64});
  auto b = at::zeros({128, 12});
  b.narrow(0, 0, 64).narrow(1, 0, 4).fill_(0.5);
  b.narrow(0, 64, 32).narrow(1, 4, 4).fill_(0.25);
  b.narrow(0, 96, 32).narrow(1, 8, 4).fill_(0.125);
  b[127][0] = 1e-30F;
  std::map<std::string, test::Pair> modules;
  for (int layer = 0; layer < 2; ++layer) {
    modules[fmt::format("model.layers.{}.self_attn.qkv_proj", layer)] = {a, b};
  }
  const auto adapter = test::write_adapter(
      folder / "a", modules, R"({"peft_type": "LORA", "r": 12, "lora_alpha": 24, "target_modules": ["qkv_proj"]})");
  const auto report = write(adapter, ExportFormat::kPeftSplit, folder / "split");
  EXPECT_TRUE(report.notes.empty());
  const auto split = tensors_in(folder / "split");
  EXPECT_EQ(split.size(), 12U);
  EXPECT_TRUE(test::same_bits(split.at(phi3::lora_tensor_name("model.layers.0.self_attn.v_proj", 'A')), a));
  EXPECT_TRUE(
      test::same_bits(split.at(phi3::lora_tensor_name("model.layers.0.self_attn.v_proj", 'B')), b.narrow(0, 96, 32)));
}

// An adapter nobody trained: all of B is zero, and A is what training would go on from.
TEST(Export, AFreshAdapterKeepsAWhole) {
  const TempFolder folder;
  std::map<std::string, test::Pair> modules;
  for (int layer = 0; layer < 2; ++layer) {
    modules[fmt::format("model.layers.{}.self_attn.qkv_proj", layer)] = {at::randn({6, 64}), at::zeros({128, 6})};
  }
  const auto adapter = test::write_adapter(
      folder / "a", modules, R"({"peft_type": "LORA", "r": 6, "lora_alpha": 6, "target_modules": ["qkv_proj"]})");
  EXPECT_EQ(write(adapter, ExportFormat::kPeftSplit, folder / "split").modules, 6U);
  EXPECT_EQ(phi3::read_adapter_config(folder / "split").rank, 6);
}

// The rules of llama.cpp's loader (llama_adapter_lora_init_impl), over the shapes of the base.
void check_as_llama_cpp_does(const io::GgufFile& file, const phi3::ModelConfig& model) {
  EXPECT_EQ(file.find_key("general.type")->value, "adapter");
  EXPECT_EQ(file.find_key("general.architecture")->value, "phi3");
  EXPECT_EQ(file.find_key("adapter.type")->value, "lora");
  EXPECT_TRUE(file.find_key("adapter.lora.alpha")->value.is_number_float());
  const std::map<std::string, phi3::LinearKind> kinds{{"attn_qkv", phi3::LinearKind::kQkv},
                                                      {"attn_output", phi3::LinearKind::kO},
                                                      {"ffn_up", phi3::LinearKind::kGateUp},
                                                      {"ffn_down", phi3::LinearKind::kDown}};
  for (const auto& tensor : file.tensors()) {
    const auto base = tensor.name.substr(0, tensor.name.rfind('.'));
    const auto* a = file.find_tensor(base + ".lora_a");
    const auto* b = file.find_tensor(base + ".lora_b");
    ASSERT_TRUE(a != nullptr && b != nullptr) << tensor.name;
    ASSERT_TRUE(base.starts_with("blk.") && base.ends_with(".weight")) << base;
    const auto kind = kinds.at(base.substr(6, base.size() - 6 - 7));
    ASSERT_EQ(a->dims.size(), 2U);
    EXPECT_EQ(a->dims[0], phi3::linear_in(model, kind));
    EXPECT_EQ(b->dims[1], phi3::linear_out(model, kind));
    EXPECT_EQ(a->dims[1], b->dims[0]);
  }
}

at::Tensor values_of(const io::GgufFile& file, const std::string& name) {
  const auto& tensor = *file.find_tensor(name);
  auto value = at::empty({tensor.dims[1], tensor.dims[0]}, tensor.type == 0 ? at::kFloat : at::kHalf);
  std::memcpy(value.data_ptr(), file.data(tensor).data(), file.data(tensor).size());
  return value;
}

TEST(Export, GgufHoldsTheValuesUnderLlamaCppsNames) {
  const auto whole = tensors_in(kAdapter);
  for (const auto dtype : {io::DType::kF32, io::DType::kF16}) {
    const TempFolder folder;
    (void)write(kAdapter, ExportFormat::kGguf, folder / "sub/a.gguf", dtype);
    const auto file = io::GgufFile::open(folder / "sub/a.gguf");
    EXPECT_EQ(file.tensors().size(), 16U);
    check_as_llama_cpp_does(file, phi3::read_model_config(kModel));
    EXPECT_EQ(file.find_key("adapter.lora.alpha")->value, 8.0);
    EXPECT_TRUE(test::same_bits(values_of(file, "blk.1.ffn_up.weight.lora_b"),
                                whole.at(phi3::lora_tensor_name("model.layers.1.mlp.gate_up_proj", 'B'))
                                    .to(dtype == io::DType::kF32 ? at::kFloat : at::kHalf)));
  }
}

// alpha / rank of the file times B A is the module's own update, with rsLoRA and patterns too.
TEST(Export, GgufFoldsScalesThatOneAlphaCannotSay) {
  const TempFolder folder;
  std::map<std::string, test::Pair> modules;
  for (int layer = 0; layer < 2; ++layer) {
    modules[fmt::format("model.layers.{}.self_attn.o_proj", layer)] = {at::randn({4, 64}), at::randn({64, 4})};
    modules[fmt::format("model.layers.{}.self_attn.qkv_proj", layer)] = {at::randn({9, 64}), at::randn({128, 9})};
  }
  const auto adapter = test::write_adapter(folder / "a", modules,
                                           R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true,
      "target_modules": ["o_proj", "qkv_proj"], "rank_pattern": {"qkv_proj": 9}, "alpha_pattern": {"1.self_attn.o_proj": 5}})");
  const auto report = write(adapter, ExportFormat::kGguf, folder / "a.gguf");
  EXPECT_EQ(report.notes.size(), 1U);
  const auto file = io::GgufFile::open(folder / "a.gguf");
  const double alpha = file.find_key("adapter.lora.alpha")->value.get<double>();
  EXPECT_EQ(alpha, 24.0);  // of qkv_proj in both layers: 8 / sqrt(9) * 9
  const auto config = phi3::read_adapter_config(adapter);
  for (const auto& [path, pair] : modules) {
    const auto name =
        fmt::format("blk.{}.{}.weight", path[13], path.ends_with("qkv_proj") ? "attn_qkv" : "attn_output");
    const auto b = values_of(file, name + ".lora_b").to(at::kDouble);
    const auto update = at::mm(b, values_of(file, name + ".lora_a").to(at::kDouble)) * (alpha / b.size(1));
    const auto wanted = at::mm(pair.b.to(at::kDouble), pair.a.to(at::kDouble)) * config.scale_of(path);
    EXPECT_LE((update - wanted).abs().max().item<double>(), 1e-6 * wanted.abs().max().item<double>()) << path;
  }
}

TEST(Export, RefusalsLeaveNothing) {
  const TempFolder folder;
  EXPECT_THAT(test::message_of<ConfigError>(
                  [&] { (void)write(kAdapter, ExportFormat::kGguf, folder / "a.gguf", io::DType::kBF16); }),
              HasSubstr("float32 or float16"));
  folder.write("there", "mine");
  for (const auto format : {ExportFormat::kGguf, ExportFormat::kPeftFused, ExportFormat::kPeftSplit}) {
    EXPECT_THROW((void)write(kAdapter, format, folder / "there"), ConfigError);
  }
  const auto wide =
      test::write_adapter(folder / "wide",
                          {{"model.layers.0.mlp.down_proj", {at::full({1, 64}, 1e6), at::zeros({64, 1})}},
                           {"model.layers.1.mlp.down_proj", {at::zeros({1, 64}), at::zeros({64, 1})}}},
                          R"({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["down_proj"]})");
  for (const auto format : {ExportFormat::kGguf, ExportFormat::kPeftFused}) {
    EXPECT_THAT(test::message_of<NumericsError>([&] { (void)write(wide, format, folder / "out", io::DType::kF16); }),
                HasSubstr("down"));
    EXPECT_FALSE(fs::exists(folder / "out"));
    EXPECT_FALSE(fs::exists(folder / ".out.partial"));
  }
  EXPECT_EQ(test::read_all(folder / "there"), "mine");
}

TEST(Export, WhatTheAdapterSaysOfItsBaseStays) {
  const TempFolder folder;
  const phi3::AdapterOrigin origin{"00ff", phi3::HeldInNf4{128, false}};
  const auto adapter = test::write_adapter(folder / "a", pairs_apart({{"q_proj", 4}, {"k_proj", 4}, {"v_proj", 4}}),
                                           R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8,
                                               "target_modules": ["q_proj", "k_proj", "v_proj"]})",
                                           phi3::origin_metadata(origin));
  for (const auto format : {ExportFormat::kPeftFused, ExportFormat::kPeftSplit}) {
    const auto out = folder / (format == ExportFormat::kPeftSplit ? "split" : "fused");
    (void)write(adapter, format, out);
    const auto found = phi3::read_adapter_origin(out);
    EXPECT_EQ(found.base, "00ff");
    ASSERT_TRUE(found.held_in_nf4);
    EXPECT_EQ(found.held_in_nf4->block_size, 128);
    EXPECT_FALSE(found.held_in_nf4->double_quant);
  }
}

TEST(Export, WeightsTrainedWholeAreExportedAndNotToGguf) {
  const TempFolder folder;
  const auto config = phi3::read_model_config(kModel);
  const std::string name = "base_model.model.model.embed_tokens.weight";
  const auto embedding = at::randn({config.vocab_size, config.hidden_size});
  const auto adapter = test::write_adapter(folder / "a", pairs_apart({{"q_proj", 4}, {"k_proj", 4}, {"v_proj", 4}}),
                                           R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "modules_to_save":
                                               ["embed_tokens"], "target_modules": ["q_proj", "k_proj", "v_proj"]})",
                                           {{"format", "pt"}}, {{name, embedding}});
  for (const auto format : {ExportFormat::kPeftFused, ExportFormat::kPeftSplit}) {
    const auto out = folder / (format == ExportFormat::kPeftSplit ? "split" : "fused");
    const auto report = write(adapter, format, out);
    EXPECT_TRUE(test::same_bits(tensors_in(out).at(name), embedding));
    EXPECT_THAT(report.notes, testing::Contains(HasSubstr("modules_to_save")));
  }
  EXPECT_THAT(test::message_of<CheckpointError>([&] { (void)write(adapter, ExportFormat::kGguf, folder / "a.gguf"); }),
              HasSubstr("embed_tokens trained whole, which a GGUF adapter cannot hold"));
  EXPECT_FALSE(fs::exists(folder / "a.gguf"));
}

TEST(Export, DorasMagnitudesGoWithTheirRowsAndNotToGguf) {
  const TempFolder folder;
  auto modules = pairs_apart({{"q_proj", 4}, {"k_proj", 4}, {"v_proj", 4}});
  for (auto& [path, pair] : modules) {
    pair.magnitude = at::rand({pair.b.size(0)});
  }
  const auto apart = test::write_adapter(folder / "a", modules,
                                         R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_dora": true,
                                             "target_modules": ["q_proj", "k_proj", "v_proj"]})");
  (void)write(apart, ExportFormat::kPeftFused, folder / "fused");
  EXPECT_THAT(write(folder / "fused", ExportFormat::kPeftSplit, folder / "again").notes,
              testing::Contains(HasSubstr("DoRA")));
  EXPECT_TRUE(test::read_all(folder / "again/adapter_model.safetensors") ==
              test::read_all(apart + "/adapter_model.safetensors"));
  EXPECT_THAT(test::message_of<CheckpointError>([&] { (void)write(apart, ExportFormat::kGguf, folder / "a.gguf"); }),
              HasSubstr("DoRA, which a GGUF adapter cannot hold"));
  EXPECT_FALSE(fs::exists(folder / "a.gguf"));

  // A part without an update has a length all the same: none is left out.
  for (auto& [path, pair] : modules) {
    if (path.ends_with("k_proj")) {
      pair.a = at::randn({1, 64});
      pair.b = at::zeros({32, 1});
    }
  }
  const auto uneven = test::write_adapter(folder / "u", modules,
                                          R"({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_dora": true,
                                              "target_modules": ["q_proj", "k_proj", "v_proj"],
                                              "rank_pattern": {"k_proj": 1}, "alpha_pattern": {"k_proj": 2}})");
  const auto report = write(uneven, ExportFormat::kPeftSplit, folder / "whole");
  EXPECT_EQ(report.modules, 6U);
  EXPECT_EQ(phi3::read_adapter_config(folder / "whole").rank, 9);
}

TEST(Export, LinksThatLeadOutOfTheAdapterAreNotCopied) {
  const TempFolder folder;
  folder.write("secret", "not for others");
  for (const char* name : {"README.md", "chat_template.jinja", "tokenizer.json"}) {
    const TempFolder own;
    fs::copy(kAdapter, own / "adapter", fs::copy_options::recursive);
    fs::create_symlink(folder / "secret", own / "adapter/" + name);
    for (const auto format : {ExportFormat::kPeftFused, ExportFormat::kPeftSplit}) {
      EXPECT_THAT(test::message_of<CheckpointError>([&] { (void)write(own / "adapter", format, own / "out"); }),
                  AllOf(HasSubstr(name), HasSubstr("a link that leads out of the adapter folder")));
      EXPECT_FALSE(fs::exists(own / "out"));
    }
    // A link to a file beside it is that file.
    fs::remove(own / "adapter/" + name);
    own.write("adapter/inside", "its own");
    fs::create_symlink("inside", own / "adapter/" + name);
    (void)write(own / "adapter", ExportFormat::kPeftFused, own / "out");
    EXPECT_EQ(test::read_all(own / "out/" + name), "its own");
    EXPECT_FALSE(fs::is_symlink(own / "out/" + name));
  }
}

// What vLLM asks of a folder: names that parse, r, lora_alpha and target_modules, and one scale for all modules.
TEST(Export, KeepsVllmsRulesOrSaysWhatBreaksThem) {
  const TempFolder folder;
  const auto plain = write(kAdapter, ExportFormat::kPeftFused, folder / "plain");
  EXPECT_TRUE(plain.notes.empty());
  const auto json = io::read_json_file<CheckpointError>(folder / "plain/adapter_config.json");
  for (const char* key : {"r", "lora_alpha", "target_modules"}) {
    EXPECT_TRUE(json.contains(key));
  }
  EXPECT_FALSE(json.at("use_dora").get<bool>());
  EXPECT_TRUE(json.at("modules_to_save").is_null());
  for (const auto& [name, value] : tensors_in(folder / "plain")) {
    EXPECT_TRUE(name.starts_with("base_model.model.model.layers.") &&
                (name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight")))
        << name;
  }
  const auto patterned =
      test::write_adapter(folder / "p",
                          {{"model.layers.0.mlp.down_proj", {at::zeros({1, 64}), at::zeros({64, 1})}},
                           {"model.layers.1.mlp.down_proj", {at::zeros({2, 64}), at::zeros({64, 2})}}},
                          R"({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["down_proj"],
          "rank_pattern": {"layers.1.mlp.down_proj": 2}})");
  const auto report = write(patterned, ExportFormat::kPeftFused, folder / "q");
  ASSERT_EQ(report.notes.size(), 1U);
  EXPECT_THAT(report.notes[0], HasSubstr("vLLM"));
}

}  // namespace
}  // namespace phi3tune
