#include "phi3tune/plan/step_buffers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace phi3tune {
namespace {

phi3::ModelConfig mini() {
  phi3::ModelConfig config;
  config.hidden_size = 3072;
  config.intermediate_size = 8192;
  config.num_layers = 32;
  config.num_heads = config.num_kv_heads = 32;
  config.head_dim = config.rotary_dim = 96;
  config.vocab_size = 32064;
  return config;
}

plan::StepShape shape(int64_t tokens) {
  plan::StepShape made;
  made.tokens = made.trained_rows = tokens;
  made.head_chunk = 1024;
  made.element_size = 2;
  made.ranks.assign(32, {16, 16, 16, 16});
  return made;
}

size_t bytes(int64_t tokens, plan::Purpose purpose) {
  return plan::declare_step_buffers(mini(), shape(tokens), purpose).bytes;
}

struct Range {
  size_t begin, end;
};

size_t size_of(const plan::Buffer& buffer, const plan::StepShape& shape) {
  return static_cast<size_t>(buffer.rows * buffer.cols) * (buffer.wide ? shape.wide_size : shape.element_size);
}

TEST(StepBuffers, WhatLivesTogetherDoesNotOverlap) {
  auto config = mini();
  config.num_layers = 3;
  auto s = shape(40);
  s.dropout = true;
  for (const auto purpose : {plan::Purpose::kTrainSaving, plan::Purpose::kTrainRecomputing}) {
    const auto b = plan::declare_step_buffers(config, s, purpose);
    std::vector<plan::Buffer> all{b.cosine,     b.sine,        b.normed,    b.delta,  b.hidden, b.dropped,
                                  b.d_residual, b.d_normed,    b.d_hidden,  b.d_qkv,  b.d_lora, b.d_attention,
                                  b.head_input, b.head_normed, b.head_rstd, b.d_head, b.logits};
    all.insert(all.end(), b.residuals.begin(), b.residuals.end());
    for (size_t i = 0; i < b.layers.size(); ++i) {
      const auto& layer = b.layers[i];
      all.insert(all.end(), layer.lora_product.begin(), layer.lora_product.end());
      if (purpose == plan::Purpose::kTrainSaving || i == 0) {
        for (const auto& one : {layer.rstd_attention, layer.qkv, layer.attention, layer.lse, layer.middle,
                                layer.rstd_mlp, layer.gate_up}) {
          all.push_back(one);
        }
      }
    }
    std::vector<Range> ranges;
    for (const auto& one : all) {
      EXPECT_EQ(one.offset % 64, 0U);
      ASSERT_GT(size_of(one, s), 0U);
      ranges.push_back({one.offset, one.offset + size_of(one, s)});
    }
    std::sort(ranges.begin(), ranges.end(), [](Range x, Range y) { return x.begin < y.begin; });
    for (size_t i = 1; i < ranges.size(); ++i) {
      EXPECT_LE(ranges[i - 1].end, ranges[i].begin);
    }
    EXPECT_LE(ranges.back().end, b.bytes);
  }
}

TEST(StepBuffers, SavedBytesPerTokenAreThoseOfTheArithmetic) {
  // Of a layer: residual before and after attention, qkv, attention output, gate_up in bf16; log-sum-exp and two norms
  // in fp32; four LoRA products of rank 16. 2 (2 * 3072 + 9216 + 3072 + 16384) + 4 (32 + 2) + 2 * 64 bytes.
  constexpr size_t kPerLayer = 2 * (2 * 3072 + 9216 + 3072 + 16384) + 4 * (32 + 2) + 2 * 64;
  const size_t slope = (bytes(4096, plan::Purpose::kTrainSaving) - bytes(2048, plan::Purpose::kTrainSaving)) / 2048;
  const size_t working =
      (bytes(4096, plan::Purpose::kTrainRecomputing) - bytes(2048, plan::Purpose::kTrainRecomputing)) / 2048;
  // Recomputing keeps per layer the input and the LoRA products; one layer's worth of the rest is shared.
  constexpr size_t kRecomputed = kPerLayer - 2 * 3072 - 2 * 64;
  EXPECT_EQ(slope - working, 31 * kRecomputed);
}

TEST(StepBuffers, EvaluationKeepsTwoResiduals) {
  const auto b = plan::declare_step_buffers(mini(), shape(64), plan::Purpose::kEvaluate);
  ASSERT_EQ(b.residuals.size(), 33U);
  EXPECT_EQ(b.residuals[0].offset, b.residuals[2].offset);
  EXPECT_NE(b.residuals[0].offset, b.residuals[1].offset);
  EXPECT_LT(b.bytes, bytes(64, plan::Purpose::kTrainRecomputing));
}

}  // namespace
}  // namespace phi3tune
