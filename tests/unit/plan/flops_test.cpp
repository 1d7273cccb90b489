#include "phi3tune/plan/flops.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "phi3tune/core/error.h"
#include "phi3tune/io/json.h"
#include "shapes.h"

namespace phi3tune::plan {
namespace {

constexpr int64_t kTokens = 4096;
constexpr size_t kCases = 6;

const io::Json& cases() {
  static const io::Json json =
      io::read_json_file<DataError>(PHI3TUNE_SOURCE_DIR "/tests/references/plan/arithmetic.json").at("cases");
  return json;
}

struct Case {
  std::string name;
  phi3::ModelConfig config;
  double keys;
  const io::Json& expected;
};
std::vector<Case> all_cases() {
  std::vector<Case> list;
  for (const auto& one : cases()) {
    const auto model = one.at("model").get<std::string>();
    const auto length = one.at("length").get<int64_t>();
    auto config = model == "mini" ? mini() : medium();
    if (!one.at("window").is_null()) {
      config.sliding_window = one.at("window").get<int64_t>();
    }
    const double keys = mean_keys(std::vector<int64_t>{length, length}, config.sliding_window);
    list.push_back({model + " " + std::to_string(length), config, keys, one});
  }
  EXPECT_EQ(list.size(), kCases);
  return list;
}

StepFlops per_token(const Case& one, SavedActivations saved) {
  const auto shape = run_of(one.config, kTokens, false, saved);
  auto flops = step_flops(one.config, shape.step, one.keys);
  for (auto* part : {&flops.forward, &flops.backward, &flops.recompute}) {
    for (auto* value : {&part->linear, &part->head, &part->lora, &part->attention}) {
      *value /= kTokens;
    }
  }
  return flops;
}

void expect_near(double found, double wanted) { EXPECT_NEAR(found, wanted, 1e-12 * wanted); }

TEST(MeanKeys, AreThoseOfEveryQueryCounted) {
  const auto counted = [](const std::vector<int64_t>& documents, int64_t window) {
    double keys = 0, tokens = 0;
    for (const int64_t length : documents) {
      for (int64_t q = 0; q < length; ++q) {
        keys += static_cast<double>(std::min(q + 1, window));
        ++tokens;
      }
    }
    return keys / tokens;
  };
  const std::vector<int64_t> documents{1, 7, 300, 2, 100};
  for (const int64_t window : {1, 2, 7, 100, 299, 300, 1000}) {
    EXPECT_DOUBLE_EQ(mean_keys(documents, window), counted(documents, window)) << window;
  }
  EXPECT_DOUBLE_EQ(mean_keys(documents, std::nullopt), counted(documents, 1000));
  EXPECT_EQ(mean_keys({}, std::nullopt), 0);
}

TEST(StepFlops, AreThoseOfTheClosedFormulas) {
  for (const auto& one : all_cases()) {
    SCOPED_TRACE(one.name);
    expect_near(one.keys, one.expected["keys"].get<double>());
    const auto flops = per_token(one, SavedActivations::kNone);
    for (const auto& [name, part] : {std::pair("forward", flops.forward), std::pair("backward", flops.backward)}) {
      const auto& expected = one.expected[name];
      expect_near(part.linear, expected["linear"].get<double>());
      expect_near(part.head, expected["head"].get<double>());
      expect_near(part.lora, expected["lora"].get<double>());
      expect_near(part.attention, expected["attention"].get<double>());
    }
  }
}

TEST(StepFlops, RecomputeWhatAPolicyDoesNotKeep) {
  using S = SavedActivations;
  for (const auto& one : all_cases()) {
    for (const auto& [name, saved] :
         {std::pair("none", S::kNone), std::pair("gate_up", S::kGateUp), std::pair("attention", S::kAttention),
          std::pair("block", S::kBlock), std::pair("block", S::kOffload)}) {
      SCOPED_TRACE(one.name + " " + name);
      expect_near(per_token(one, saved).recompute.total(), one.expected["recompute"][name].get<double>());
    }
  }
}

TEST(StepFlops, TheHeadWorksForTrainedRowsAlone) {
  auto shape = run_of(mini(), kTokens, false);
  const auto all = step_flops(mini(), shape.step, 1024);
  shape.step.trained_rows = kTokens / 4;
  const auto quarter = step_flops(mini(), shape.step, 1024);
  EXPECT_DOUBLE_EQ(quarter.forward.head, all.forward.head / 4);
  EXPECT_DOUBLE_EQ(quarter.backward.head, all.backward.head / 4);
  EXPECT_DOUBLE_EQ(quarter.forward.linear, all.forward.linear);
}

TEST(StepBytes, ElementwiseKernelsReadAndWriteOnce) {
  // Phi-3-mini in bf16: 122,880 bytes forward and 196,608 backward per token and layer; the loss over the logits is 3
  // V.
  const auto shape = run_of(mini(), kTokens, false);
  EXPECT_DOUBLE_EQ(step_bytes(mini(), shape).elementwise, kTokens * (32.0 * (122880 + 196608) + 3 * 32064 * 2));
}

TEST(StepBytes, TheAdaptersSideReadsEachOperandOnce) {
  // 133,120 bytes per token and layer: x for u, dY for dU and dB, x for dA.
  auto shape = run_of(mini(), kTokens, false);
  EXPECT_DOUBLE_EQ(step_bytes(mini(), shape).lora, kTokens * 32.0 * 133120);
  shape.step.extended = false;  // y and dX are read and written again: (31744 + 17408) elements twice
  EXPECT_DOUBLE_EQ(step_bytes(mini(), shape).lora, kTokens * 32.0 * (133120 + 2 * 2 * (31744 + 17408)));
  shape.step.ranks.assign(32, {0, 0, 0, 0});
  EXPECT_EQ(step_bytes(mini(), shape).lora, 0);
}

TEST(StepBytes, FourBitWeightsAreReadInTwoPasses) {
  for (const auto& one : all_cases()) {
    const auto shape = run_of(one.config, kTokens, true);
    // The code tables of each weight and the alignment of its parts come on top.
    const double pass = one.expected["dequantise_pass_bytes"].get<double>();
    EXPECT_NEAR(step_bytes(one.config, shape).dequantise, 2 * pass, 5e-5 * pass);
    EXPECT_EQ(step_bytes(one.config, run_of(one.config, kTokens, false)).dequantise, 0);
  }
}

TEST(StepBytes, OffloadingMovesEachBlocksInputOutAndIn) {
  const auto bytes = step_bytes(mini(), run_of(mini(), kTokens, true, SavedActivations::kOffload));
  // All but the two that the backward begins with.
  EXPECT_DOUBLE_EQ(bytes.offload_out, kTokens * cases()[0]["checkpoint_bytes"].get<double>() * 30 / 32);
  EXPECT_DOUBLE_EQ(bytes.offload_in, bytes.offload_out);
  EXPECT_EQ(step_bytes(mini(), run_of(mini(), kTokens, true, SavedActivations::kBlock)).offload_out, 0);
}

}  // namespace
}  // namespace phi3tune::plan
