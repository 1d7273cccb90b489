#include "phi3tune/phi3/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <set>

#include "phi3tune/core/error.h"
#include "phi3tune/phi3/init_model.h"
#include "support/temp_folder.h"

namespace phi3tune::phi3 {
namespace {

namespace fs = std::filesystem;
using io::DType;
using io::Json;
using test::message_of;
using test::read_all;
using test::TempFolder;
using ::testing::HasSubstr;

const std::string kReferences = std::string(PHI3TUNE_SOURCE_DIR) + "/tests/references/models";

// A model folder in memory, to be spoiled and written.
struct Draft {
  struct Tensor {
    DType dtype;
    std::vector<int64_t> shape;
    std::string bytes;
  };
  std::map<std::string, Tensor> tensors;
  Json config;

  static Draft of(const std::string& folder) {
    Draft draft;
    draft.config = io::read_json_file<ModelError>(folder + "/config.json");
    const auto file = io::SafetensorsFile::open(folder + "/model.safetensors");
    for (const auto& entry : file.header().tensors) {
      const auto data = file.data(entry);
      draft.tensors[entry.name] = {entry.dtype, entry.shape,
                                   std::string(reinterpret_cast<const char*>(data.data()), data.size())};
    }
    return draft;
  }

  void write_file(const std::string& path, const std::set<std::string>& without = {}) const {
    std::vector<io::TensorToWrite> entries;
    for (const auto& [name, tensor] : tensors) {
      if (!without.contains(name)) {
        entries.push_back(
            {name, tensor.dtype, tensor.shape, std::as_bytes(std::span(tensor.bytes.data(), tensor.bytes.size()))});
      }
    }
    io::write_safetensors(path, entries);
  }

  void write(const TempFolder& folder) const {
    folder.write("config.json", config.dump());
    write_file(folder / "model.safetensors");
  }

  // Two shards: the embedding alone, and the rest. Returns the index for spoiling.
  Json write_sharded(const TempFolder& folder) const {
    folder.write("config.json", config.dump());
    std::set<std::string> rest;
    Json index = {{"metadata", {{"total_size", 0}}}, {"weight_map", Json::object()}};
    for (const auto& [name, tensor] : tensors) {
      const bool first = name == "model.embed_tokens.weight";
      index["weight_map"][name] = first ? "model-00001-of-00002.safetensors" : "model-00002-of-00002.safetensors";
      if (!first) {
        rest.insert(name);
      }
    }
    write_file(folder / "model-00001-of-00002.safetensors", rest);
    write_file(folder / "model-00002-of-00002.safetensors", {"model.embed_tokens.weight"});
    folder.write("model.safetensors.index.json", index.dump());
    return index;
  }
};

TEST(ModelFolder, OpensEveryReferenceModel) {
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator(kReferences)) {
    const std::string kind = entry.path().filename().string();
    const auto folder = ModelFolder::open(entry.path().string());
    EXPECT_EQ(folder.config().num_layers, 2) << kind;
    EXPECT_EQ(folder.config().tie_word_embeddings, kind == "partial");
    EXPECT_EQ(folder.config().rotary_dim, kind == "partial" ? 12 : 16);
    EXPECT_EQ(folder.is_prequantized(1, LinearKind::kDown), kind.find("nf4") != std::string::npos);
    EXPECT_EQ(folder.has("model.layers.0.mlp.down_proj.weight.nested_absmax"), kind.find("nf4") != std::string::npos);
    ++count;
  }
  EXPECT_EQ(count, 6u);
}

TEST(ModelFolder, ShowsTheBytesOfATensor) {
  const auto folder = ModelFolder::open(kReferences + "/mha");
  const auto draft = Draft::of(kReferences + "/mha");
  uint64_t total = 0;
  for (const auto& [name, tensor] : draft.tensors) {
    const auto located = folder.tensor(name);
    ASSERT_EQ(located.data().size(), tensor.bytes.size());
    EXPECT_EQ(std::memcmp(located.data().data(), tensor.bytes.data(), tensor.bytes.size()), 0);
    located.release();
    EXPECT_EQ(std::memcmp(located.data().data(), tensor.bytes.data(), tensor.bytes.size()), 0);
    total += tensor.bytes.size();
  }
  EXPECT_EQ(folder.total_bytes(), total);
  EXPECT_THROW(folder.tensor("model.layers.2.mlp.down_proj.weight"), InternalError);
}

TEST(ModelFolder, ShardsReadLikeOneFile) {
  const TempFolder temp;
  const auto draft = Draft::of(kReferences + "/gqa");
  draft.write_sharded(temp);
  auto opened = ModelFolder::open(temp.path());
  const auto folder = std::move(opened);  // tensors stay valid when the folder moves
  for (const auto& [name, tensor] : draft.tensors) {
    EXPECT_EQ(std::memcmp(folder.tensor(name).data().data(), tensor.bytes.data(), tensor.bytes.size()), 0);
  }
}

TEST(ModelFolder, RotaryBuffersOfOldFilesArePassedOver) {
  const TempFolder temp;
  auto draft = Draft::of(kReferences + "/mha");
  draft.tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = {DType::kF32, {8}, std::string(32, '\0')};
  draft.write(temp);
  EXPECT_NO_THROW(ModelFolder::open(temp.path()));
}

TEST(ModelFolder, TheCacheOfTheHubIsRead) {
  const TempFolder temp;
  const auto draft = Draft::of(kReferences + "/mha");
  temp.write("hub/blobs/aaa", draft.config.dump());
  draft.write_file(temp / "hub/blobs/bbb");
  fs::create_directories(temp / "hub/snapshots/main");
  fs::create_symlink("../../blobs/aaa", temp / "hub/snapshots/main/config.json");
  fs::create_symlink("../../blobs/bbb", temp / "hub/snapshots/main/model.safetensors");
  EXPECT_NO_THROW(ModelFolder::open(temp / "hub/snapshots/main"));
}

TEST(ModelFolder, FingerprintChangesWithConfigHeaderAndContents) {
  const TempFolder a, b, c, d;
  auto draft = Draft::of(kReferences + "/mha");
  draft.write(a);
  draft.write(b);
  EXPECT_EQ(ModelFolder::open(a.path()).fingerprint(), ModelFolder::open(b.path()).fingerprint());
  auto other = draft;
  other.config["rope_theta"] = 20000.0;
  other.write(c);
  EXPECT_NE(ModelFolder::open(a.path()).fingerprint(), ModelFolder::open(c.path()).fingerprint());
  draft.tensors["model.norm.weight"].bytes[0] ^= 1;
  draft.write(d);
  EXPECT_NE(ModelFolder::open(a.path()).fingerprint(), ModelFolder::open(d.path()).fingerprint());
}

TEST(StopIds, ComeFromTheGenerationConfigElseFromTheConfig) {
  const TempFolder temp;
  ModelConfig config;
  config.vocab_size = 100;
  config.eos_token_ids = {7};
  EXPECT_EQ(read_stop_ids(temp.path(), config), std::vector<int64_t>{7});
  temp.write("generation_config.json", R"({"eos_token_id": [32, 1]})");
  EXPECT_EQ(read_stop_ids(temp.path(), config), (std::vector<int64_t>{32, 1}));
  temp.write("generation_config.json", R"({"eos_token_id": 5})");
  EXPECT_EQ(read_stop_ids(temp.path(), config), std::vector<int64_t>{5});
  temp.write("generation_config.json", R"({"eos_token_id": null})");
  EXPECT_EQ(read_stop_ids(temp.path(), config), std::vector<int64_t>{7});
  for (const char* bad : {R"({"eos_token_id": [1, 100]})", R"({"eos_token_id": "x"})", "[]", "{"}) {
    temp.write("generation_config.json", bad);
    EXPECT_THAT(message_of<ModelError>([&] { read_stop_ids(temp.path(), config); }),
                HasSubstr("generation_config.json"))
        << bad;
  }
}

// Folders that are not sound: each is one report, whose message says place, found and wanted.
struct BadFolder {
  const char* name;
  std::function<void(const TempFolder&, Draft)> make;
  const char* base;  // the reference model it starts from
  std::vector<std::string> says;
};

constexpr const char* kDown = "model.layers.0.mlp.down_proj.weight";

// Writes `text` where JSON text stands in the index.
void with_index(const TempFolder& folder, const Draft& draft, const std::function<void(Json&)>& spoil) {
  auto index = draft.write_sharded(folder);
  spoil(index["weight_map"]);
  folder.write("model.safetensors.index.json", index.dump());
}

const BadFolder kBadFolders[] = {
    {"Empty", [](const TempFolder&, Draft) {}, "mha", {"config.json: cannot be read", "no weights; wanted"}},
    {"NoConfig",
     [](const TempFolder& f, Draft d) {
       d.write(f);
       fs::remove(f / "config.json");
     },
     "mha",
     {"config.json: cannot be read: No such file"}},
    {"ConfigNotJson",
     [](const TempFolder& f, Draft d) {
       d.write(f);
       f.write("config.json", "{\"model_type\": \"phi3\",}");
     },
     "mha",
     {"config.json:1:23: "}},
    {"ConfigDuplicateKey",
     [](const TempFolder& f, Draft d) {
       d.write(f);
       f.write("config.json", "{\"model_type\": \"phi3\",\n\"model_type\": \"phi3\"}");
     },
     "mha",
     {"config.json:2:1: key \"model_type\" is given twice"}},
    {"OtherArchitecture",
     [](const TempFolder& f, Draft d) {
       d.config["model_type"] = "llama";
       d.config["architectures"] = {"LlamaForCausalLM"};
       d.write(f);
     },
     "mha",
     {"config.json: model_type: found \"llama\"", "wanted \"phi3\""}},
    {"Mixture",
     [](const TempFolder& f, Draft d) {
       d.config["model_type"] = "phimoe";
       d.write(f);
     },
     "mha",
     {"mixture of experts"}},
    {"NoWeights",
     [](const TempFolder& f, Draft d) {
       d.write(f);
       fs::remove(f / "model.safetensors");
     },
     "mha",
     {"no weights; wanted model.safetensors or model.safetensors.index.json"}},
    {"PickleWeights",
     [](const TempFolder& f, Draft d) {
       d.write(f);
       fs::remove(f / "model.safetensors");
       f.write("pytorch_model.bin", "\x80\x02.");
     },
     "mha",
     {"pickle file (pytorch_model.bin)", "never opened", "save_pretrained"}},
    {"GgufWeights",
     [](const TempFolder& f, Draft d) {
       d.write(f);
       fs::rename(f / "model.safetensors", f / "phi3.gguf");
     },
     "mha",
     {"GGUF file (phi3.gguf)"}},
    {"AdapterForBase",
     [](const TempFolder& f, Draft) {
       f.write("adapter_config.json", "{}");
       f.write("adapter_model.safetensors", "");
     },
     "mha",
     {"an adapter, not a base model"}},
    {"ShardsWithoutIndex",
     [](const TempFolder& f, Draft d) {
       d.write_sharded(f);
       fs::remove(f / "model.safetensors.index.json");
     },
     "mha",
     {"model-00001-of-00002.safetensors is there, but no model.safetensors.index.json"}},
    {"WeightsCutShort",
     [](const TempFolder& f, Draft d) {
       d.write(f);
       fs::resize_file(f / "model.safetensors", fs::file_size(f / "model.safetensors") - 100);
     },
     "mha",
     {"model.safetensors: tensor ", "data bytes of the file (cut short, or not fully downloaded?)"}},
    {"WeightsArePickle",
     [](const TempFolder& f, Draft d) {
       d.write(f);
       f.write("model.safetensors", "\x80\x02}q\x01X\x05\x06\x07hello");
     },
     "mha",
     {"model.safetensors: not a safetensors file"}},
    {"LfsPointer",
     [](const TempFolder& f, Draft d) {
       d.write(f);
       f.write("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
     },
     "mha",
     {"model.safetensors: not a safetensors file", "Git LFS"}},
    {"TensorMissing",
     [](const TempFolder& f, Draft d) {
       d.tensors.erase(kDown);
       d.write(f);
     },
     "mha",
     {"1 tensors of the 15 that config.json asks for are missing: model.layers.0.mlp.down_proj.weight"}},
    {"TensorUnexpected",
     [](const TempFolder& f, Draft d) {
       d.tensors["model.layers.0.mlp.up_proj.weight"] = d.tensors[kDown];
       d.write(f);
     },
     "mha",
     {"1 tensors are not part of the model that config.json describes: model.layers.0.mlp.up_proj.weight"}},
    {"MoreLayersThanTheConfig",
     [](const TempFolder& f, Draft d) {
       d.config["num_hidden_layers"] = 1;
       d.write(f);
     },
     "mha",
     {"6 tensors are not part of the model"}},
    {"FewerLayersThanTheConfig",
     [](const TempFolder& f, Draft d) {
       d.config["num_hidden_layers"] = 40;
       d.write(f);
     },
     "mha",
     {"228 tensors of the 243", "and 216 more"}},
    {"WrongShape",
     [](const TempFolder& f, Draft d) {
       d.tensors[kDown].shape = {32, 128};
       d.write(f);
     },
     "mha",
     {"model.layers.0.mlp.down_proj.weight: shape [32, 128], wanted [64, 64]"}},
    {"WrongVocabulary",
     [](const TempFolder& f, Draft d) {
       d.config["vocab_size"] = 128;
       d.write(f);
     },
     "mha",
     {"model.embed_tokens.weight: shape [96, 64], wanted [128, 64]",
      "lm_head.weight: shape [96, 64], wanted [128, 64]"}},
    {"WrongDtype",
     [](const TempFolder& f, Draft d) {
       d.tensors["model.norm.weight"].dtype = DType::kI16;
       d.write(f);
     },
     "mha",
     {"model.norm.weight: dtype I16, wanted BF16, F16 or F32"}},
    {"QuantisedWithoutSayingSo",
     [](const TempFolder& f, Draft d) {
       d.config.erase("quantization_config");
       d.write(f);
     },
     "mha_nf4_bfloat16",
     {"dtype U8, but config.json has no quantization_config"}},
    {"QuantisedPartMissing",
     [](const TempFolder& f, Draft d) {
       d.tensors.erase(std::string(kDown) + ".quant_map");
       d.write(f);
     },
     "mha_nf4_bfloat16",
     {"model.layers.0.mlp.down_proj.weight: its part .quant_map is missing"}},
    {"QuantisedStateMissing",
     [](const TempFolder& f, Draft d) {
       d.tensors.erase(std::string(kDown) + ".quant_state.bitsandbytes__nf4");
       d.write(f);
     },
     "mha_nf4_bfloat16",
     {"its part .quant_state.bitsandbytes__nf4 is missing"}},
    {"QuantisedBlocksWrong",
     [](const TempFolder& f, Draft d) {
       auto& absmax = d.tensors[std::string(kDown) + ".absmax"];
       absmax.shape = {63};
       absmax.bytes.resize(63);
       d.write(f);
     },
     "mha_nf4_bfloat16",
     {"down_proj.weight.absmax: shape [63], wanted [64]"}},
    {"QuantisedOtherShape",
     [](const TempFolder& f, Draft d) {
       auto& state = d.tensors[std::string(kDown) + ".quant_state.bitsandbytes__nf4"].bytes;
       state.replace(state.find("[64, 64]"), 8, "[32,128]");
       d.write(f);
     },
     "mha_nf4_bfloat16",
     {"shape: found [32,128], wanted [64, 64]"}},
    {"TiedHeadStored",
     [](const TempFolder& f, Draft d) {
       d.tensors["lm_head.weight"] = d.tensors["model.embed_tokens.weight"];
       d.write(f);
     },
     "partial",
     {"lm_head.weight is there, but config.json says tie_word_embeddings"}},
    {"UntiedHeadMissing",
     [](const TempFolder& f, Draft d) {
       d.config["tie_word_embeddings"] = false;
       d.write(f);
     },
     "partial",
     {"are missing: lm_head.weight"}},
    {"ShardMissing",
     [](const TempFolder& f, Draft d) {
       d.write_sharded(f);
       fs::remove(f / "model-00002-of-00002.safetensors");
     },
     "mha",
     {"model-00002-of-00002.safetensors: missing"}},
    {"ShardEscapes",
     [](const TempFolder& f, Draft d) {
       with_index(f, d, [](Json& map) { map["lm_head.weight"] = "../other/model.safetensors"; });
     },
     "mha",
     {"weight_map: \"../other/model.safetensors\" is not the name of a .safetensors file beside the index"}},
    {"ShardAbsolute",
     [](const TempFolder& f, Draft d) {
       with_index(f, d, [](Json& map) { map["lm_head.weight"] = "/etc/model.safetensors"; });
     },
     "mha",
     {"\"/etc/model.safetensors\" is not the name"}},
    {"ShardPickle",
     [](const TempFolder& f, Draft d) {
       with_index(f, d, [](Json& map) { map["lm_head.weight"] = "pytorch_model.bin"; });
     },
     "mha",
     {"a pickle file is never opened"}},
    {"IndexNotJson",
     [](const TempFolder& f, Draft d) {
       d.write_sharded(f);
       f.write("model.safetensors.index.json", "{\"weight_map\": {]}");
     },
     "mha",
     {"model.safetensors.index.json:1:17: "}},
    {"IndexWithoutMap",
     [](const TempFolder& f, Draft d) {
       d.write_sharded(f);
       f.write("model.safetensors.index.json", "{\"metadata\": {}}");
     },
     "mha",
     {"weight_map: found nothing"}},
    {"IndexMapsToNumbers",
     [](const TempFolder& f, Draft d) { with_index(f, d, [](Json& map) { map["lm_head.weight"] = 2; }); },
     "mha",
     {"weight_map: lm_head.weight is 2, wanted a file name"}},
    {"IndexNamesTheWrongShard",
     [](const TempFolder& f, Draft d) {
       with_index(f, d, [](Json& map) { map["lm_head.weight"] = "model-00001-of-00002.safetensors"; });
     },
     "mha",
     {"tensor lm_head.weight is not in model-00001-of-00002.safetensors but in"}},
    {"IndexNamesATensorOfNoShard",
     [](const TempFolder& f, Draft d) {
       with_index(f, d, [](Json& map) { map["ghost"] = "model-00001-of-00002.safetensors"; });
     },
     "mha",
     {"tensor ghost is not in model-00001-of-00002.safetensors"}},
    {"IndexLeavesATensorOut",
     [](const TempFolder& f, Draft d) { with_index(f, d, [](Json& map) { map.erase("lm_head.weight"); }); },
     "mha",
     {"tensor lm_head.weight is not in the weight_map"}},
    {"TensorInTwoShards",
     [](const TempFolder& f, Draft d) {
       d.write_sharded(f);
       d.write_file(f / "model-00002-of-00002.safetensors");
     },
     "mha",
     {"tensor model.embed_tokens.weight is also in"}},
    {"LinkOutOfTheFolder",
     [](const TempFolder& f, Draft d) {
       d.write(f);
       fs::rename(f / "model.safetensors", f.path() + "-outside.safetensors");
       fs::create_symlink(f.path() + "-outside.safetensors", f / "model.safetensors");
     },
     "mha",
     {"model.safetensors: a link that leads out of the model folder"}},
    {"LinkToNothing",
     [](const TempFolder& f, Draft d) {
       d.write(f);
       fs::remove(f / "model.safetensors");
       fs::create_symlink("nowhere", f / "model.safetensors");
     },
     "mha",
     {"a link to a file that is not there"}},
    {"WeightsAreAFolder",
     [](const TempFolder& f, Draft d) {
       d.write(f);
       fs::remove(f / "model.safetensors");
       fs::create_directory(f / "model.safetensors");
     },
     "mha",
     {"model.safetensors: a folder, wanted a file"}},
    {"ManyFaultsAtOnce",
     [](const TempFolder& f, Draft d) {
       d.config["hidden_act"] = "relu";
       with_index(f, d, [](Json& map) { map["lm_head.weight"] = "../x.safetensors"; });
       fs::resize_file(f / "model-00001-of-00002.safetensors", 10);
     },
     "mha",
     {"hidden_act: found \"relu\"", "../x.safetensors", "model-00001-of-00002.safetensors: the header has"}},
};

class BadModelFolder : public ::testing::TestWithParam<BadFolder> {};

TEST_P(BadModelFolder, IsOneReportThatNamesThePlace) {
  const TempFolder folder;
  GetParam().make(folder, Draft::of(kReferences + "/" + GetParam().base));
  const auto message = message_of<ModelError>([&] { ModelFolder::open(folder.path()); });
  for (const auto& part : GetParam().says) {
    EXPECT_THAT(message, HasSubstr(part));
  }
  std::istringstream lines(message);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_TRUE(line.starts_with(folder.path())) << line;
    EXPECT_LT(line.size(), 1200u);
  }
  std::error_code ignored;
  fs::remove(folder.path() + "-outside.safetensors", ignored);
}
INSTANTIATE_TEST_SUITE_P(Folders, BadModelFolder, ::testing::ValuesIn(kBadFolders),
                         [](const auto& info) { return std::string(info.param.name); });
TEST(ModelFolder, BadFoldersAreAllThere) { EXPECT_EQ(std::size(kBadFolders), 43u); }

TEST(ModelFolder, APathThatIsNoFolderIsSaid) {
  const TempFolder temp;
  EXPECT_THAT(message_of<ModelError>([&] { ModelFolder::open(temp / "none"); }), HasSubstr("no such folder"));
  EXPECT_THAT(message_of<ModelError>([&] { ModelFolder::open(temp.write("file", "")); }), HasSubstr("a file, wanted"));
  EXPECT_THAT(message_of<ModelError>([&] { ModelFolder::open("microsoft/Phi-3-mini-4k-instruct"); }),
              HasSubstr("hf download microsoft/Phi-3-mini-4k-instruct"));
}

}  // namespace
}  // namespace phi3tune::phi3
