#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "phi3tune/core/error.h"
#include "support/references.h"
#include "support/temp_folder.h"
#include "support/tensors.h"
#include "tiny.h"

namespace phi3tune {
namespace {

using test::TempFolder;
using test::tiny_adapters;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const std::string kFirst = "base_model.model.model.layers.0.self_attn.qkv_proj.lora_A.weight";

// PEFT's adapter with changes: written as a folder.
struct Altered {
  std::map<std::string, at::Tensor> tensors =
      test::read_tensors(std::string(test::kPeftAdapter) + "/adapter_model.safetensors");

  std::string write(const TempFolder& folder) const {
    std::vector<io::TensorToWrite> list;
    for (const auto& [name, tensor] : tensors) {
      const io::DType dtype = tensor.scalar_type() == at::kFloat      ? io::DType::kF32
                              : tensor.scalar_type() == at::kBFloat16 ? io::DType::kBF16
                              : tensor.scalar_type() == at::kHalf     ? io::DType::kF16
                                                                      : io::DType::kF64;
      list.push_back({name,
                      dtype,
                      tensor.sizes().vec(),
                      {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()}});
    }
    folder.write("adapter/adapter_config.json",
                 test::read_all(std::string(test::kPeftAdapter) + "/adapter_config.json"));
    io::write_safetensors(folder / "adapter/adapter_model.safetensors", list);
    return folder / "adapter";
  }
};

TEST(LoadAdapter, TakesWhatPeftWroteAndRefreshesTheCopies) {
  const auto reference = test::read_tensors(std::string(test::kPeftAdapter) + "/adapter_model.safetensors");
  auto adapters = tiny_adapters(at::kBFloat16);
  checkpoint::load_adapter(test::kPeftAdapter, adapters);
  EXPECT_EQ(adapters.pairs().size(), 8U);
  for (const auto& pair : adapters.pairs()) {
    EXPECT_TRUE(test::same_bits(pair.a, reference.at(phi3::lora_tensor_name(pair.module_path, 'A'))));
    EXPECT_TRUE(test::same_bits(pair.b, reference.at(phi3::lora_tensor_name(pair.module_path, 'B'))));
    EXPECT_TRUE(test::same_bits(pair.compute_b, pair.b.to(at::kBFloat16)));
  }
}

TEST(LoadAdapter, TakesHalfPrecisionFiles) {
  for (const auto dtype : {at::kBFloat16, at::kHalf}) {
    const TempFolder folder;
    Altered altered;
    for (auto& [name, tensor] : altered.tensors) {
      tensor = tensor.to(dtype);
    }
    auto adapters = tiny_adapters();
    checkpoint::load_adapter(altered.write(folder), adapters);
    EXPECT_TRUE(test::same_bits(adapters.pairs()[0].a, altered.tensors.at(kFirst).to(at::kFloat)));
  }
}

TEST(LoadAdapter, NamesEveryFaultAtOnceAndTakesNothing) {
  const TempFolder folder;
  Altered altered;
  auto& tensors = altered.tensors;
  tensors.erase(kFirst);
  const std::string shaped = "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight";
  tensors[shaped] = tensors.at(shaped).narrow(0, 0, 63).contiguous();
  const std::string nan = "base_model.model.model.layers.0.mlp.gate_up_proj.lora_A.weight";
  tensors[nan][1][2] = std::numeric_limits<double>::quiet_NaN();
  const std::string wide = "base_model.model.model.layers.1.self_attn.o_proj.lora_A.weight";
  tensors[wide] = tensors.at(wide).to(at::kDouble);
  tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"] = at::zeros({4, 64});
  tensors["base_model.model.lm_head.weight"] = at::zeros({96, 64});
  const std::string path = altered.write(folder);
  auto adapters = tiny_adapters();
  const at::Tensor before = adapters.parameters().clone();
  const std::string message = test::message_of<CheckpointError>([&] { checkpoint::load_adapter(path, adapters); });
  EXPECT_THAT(message,
              AllOf(HasSubstr(kFirst + " is missing; wanted [4, 64]"), HasSubstr(shaped + " has shape [63, 4]"),
                    HasSubstr(nan + " holds values that are not finite"), HasSubstr(wide + " is F64"),
                    HasSubstr("q_proj.lora_A.weight [4, 64] was not expected; Phi-3 has fused linears"),
                    HasSubstr("lm_head.weight [96, 64] was not expected")));
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 5);
  EXPECT_TRUE(test::same_bits(before, adapters.parameters()));
}

TEST(LoadAdapter, RefusesAScaleThatDiffers) {
  const TempFolder folder;
  const std::string path = Altered().write(folder);
  std::string config = test::read_all(path + "/adapter_config.json");
  const size_t at = config.find("\"lora_alpha\": 8");
  ASSERT_NE(at, std::string::npos);
  config.replace(at, 15, "\"lora_alpha\": 9");
  folder.write("adapter/adapter_config.json", config);
  auto adapters = tiny_adapters();
  EXPECT_THAT(test::message_of<CheckpointError>([&] { checkpoint::load_adapter(path, adapters); }),
              AllOf(HasSubstr("qkv_proj is scaled by 2.25 there and by 2 in this run")));
}

TEST(LoadAdapter, NeverReadsAPickle) {
  const TempFolder folder;
  folder.write("a/adapter_config.json", test::read_all(std::string(test::kPeftAdapter) + "/adapter_config.json"));
  auto adapters = tiny_adapters();
  EXPECT_THAT(test::message_of<CheckpointError>([&] { checkpoint::load_adapter(folder / "a", adapters); }),
              HasSubstr("adapter_model.safetensors: there is no such file"));
  folder.write("a/adapter_model.bin", "x");
  EXPECT_THAT(test::message_of<CheckpointError>([&] { checkpoint::load_adapter(folder / "a", adapters); }),
              HasSubstr("adapter_model.bin: a pickle"));
}

TEST(LoadAdapter, DamagedFileIsACheckpointError) {
  const TempFolder folder;
  const std::string path = Altered().write(folder);
  const std::string whole = test::read_all(path + "/adapter_model.safetensors");
  for (const size_t size : {size_t{0}, size_t{7}, size_t{100}, whole.size() - 1}) {
    folder.write("adapter/adapter_model.safetensors", whole.substr(0, size));
    auto adapters = tiny_adapters();
    EXPECT_THROW(checkpoint::load_adapter(path, adapters), CheckpointError) << size;
  }
}

}  // namespace
}  // namespace phi3tune
