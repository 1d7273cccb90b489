#include "phi3tune/plan/step_buffers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "shapes.h"

namespace phi3tune {
namespace {

using plan::mini;
using plan::Purpose;
using plan::SavedActivations;

plan::StepShape shape(int64_t tokens, SavedActivations saved = SavedActivations::kNone) {
  plan::StepShape made;
  made.tokens = made.trained_rows = tokens;
  made.documents = 1;
  made.head_chunk = 1024;
  made.element_size = 2;
  made.ranks.assign(32, {16, 16, 16, 16});
  made.saved.assign(32, saved);
  return made;
}

size_t bytes(int64_t tokens, SavedActivations saved) {
  return plan::declare_step_buffers(mini(), shape(tokens, saved), Purpose::kTrain).bytes;
}

struct Range {
  size_t begin, end;
};

size_t size_of(const plan::Buffer& buffer, const plan::StepShape& shape) {
  return static_cast<size_t>(buffer.rows * buffer.ld) * plan::element_size(shape, buffer.element);
}

TEST(StepBuffers, WhatLivesTogetherDoesNotOverlap) {
  auto config = mini();
  config.num_layers = 3;
  for (const bool extended : {false, true}) {
    for (const auto saved : {SavedActivations::kNone, SavedActivations::kGateUp, SavedActivations::kAttention,
                             SavedActivations::kBlock, SavedActivations::kOffload}) {
      auto s = shape(40, saved);
      s.dropout = true;
      s.extended = extended;
      s.magnitudes = extended ? 0 : 1;  // DoRA computes on the CPU
      const auto kept = plan::kept_by(saved);
      const auto b = plan::declare_step_buffers(config, s, Purpose::kTrain);
      std::vector<plan::Buffer> all{b.input_ids,   b.target_rows, b.targets,  b.weights, b.cu_seqlens,  b.sample_ids,
                                    b.cosine,      b.sine,        b.normed,   b.delta,   b.hidden,      b.dropped,
                                    b.d_residual,  b.d_normed,    b.d_hidden, b.d_qkv,   b.d_attention, b.head_input,
                                    b.head_normed, b.head_rstd,   b.d_head,   b.logits,  b.row_losses};
      if (!extended) {
        all.push_back(b.d_lora);
        all.push_back(b.scaled);
      }
      const size_t places = saved == SavedActivations::kOffload ? 3 : b.residuals.size();
      all.insert(all.end(), b.residuals.begin(), b.residuals.begin() + static_cast<ptrdiff_t>(places));
      for (size_t i = 0; i < b.layers.size(); ++i) {
        const auto& layer = b.layers[i];
        all.insert(all.end(), layer.lora_product.begin(), layer.lora_product.end());
        if (kept.qkv || i == 0) {
          all.insert(all.end(), {layer.rstd_attention, layer.qkv});
        }
        if (kept.attention || i == 0) {
          all.insert(all.end(), {layer.attention, layer.lse, layer.middle});
        }
        if (kept.gate_up || i == 0) {
          all.insert(all.end(), {layer.rstd_mlp, layer.gate_up});
        }
      }
      std::vector<Range> ranges;
      for (const auto& one : all) {
        EXPECT_EQ(one.offset % 256, 0U);
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
}

TEST(StepBuffers, SavedBytesPerTokenAreThoseOfTheArithmetic) {
  const auto slope = [](SavedActivations saved) { return (bytes(4096, saved) - bytes(2048, saved)) / 2048; };
  // Of each of the 31 layers that do not use the shared place, in bf16, with statistics in fp32:
  constexpr size_t kGateUp = 2 * 16384 + 4;                  // gate_up, a norm's statistic
  constexpr size_t kQkv = 2 * 9216 + 4;                      // qkv, a norm's statistic
  constexpr size_t kAttention = 2 * (3072 + 3072) + 4 * 32;  // attention's output, the residual after it, log-sum-exp
  EXPECT_EQ(slope(SavedActivations::kNone) - slope(SavedActivations::kGateUp), 31 * kGateUp);
  EXPECT_EQ(slope(SavedActivations::kGateUp) - slope(SavedActivations::kAttention), 31 * kQkv);
  EXPECT_EQ(slope(SavedActivations::kAttention) - slope(SavedActivations::kBlock), 31 * kAttention);
  // Offloading leaves 3 of the 33 inputs and outputs of layers.
  EXPECT_EQ(slope(SavedActivations::kBlock) - slope(SavedActivations::kOffload), 30 * 2 * 3072U);
  const auto offloaded = plan::declare_step_buffers(mini(), shape(4096, SavedActivations::kOffload), Purpose::kTrain);
  EXPECT_EQ(offloaded.host_bytes, 30U * 2 * 3072 * 4096);
}

TEST(StepBuffers, RoomForAnAdapterIsItsRankInEights) {
  auto s = shape(64);
  s.extended = true;
  s.ranks[3] = {20, 1, 8, 0};
  for (auto& layer : s.ranks) {
    layer[3] = 0;
  }
  EXPECT_EQ(plan::extension(s, phi3::LinearKind::kQkv), 24);
  EXPECT_EQ(plan::extension(s, phi3::LinearKind::kDown), 0);
  const auto b = plan::declare_step_buffers(mini(), s, Purpose::kTrain);
  EXPECT_EQ(b.normed.ld, 3072 + 24);
  EXPECT_EQ(b.hidden.ld, 8192);
  EXPECT_EQ(b.d_residual.ld, 3072 + 16);
  s.extended = false;
  EXPECT_EQ(plan::declare_step_buffers(mini(), s, Purpose::kTrain).normed.ld, 3072);
}

TEST(StepBuffers, EvaluationKeepsTwoResiduals) {
  const auto b = plan::declare_step_buffers(mini(), shape(64), Purpose::kEvaluate);
  ASSERT_EQ(b.residuals.size(), 33U);
  EXPECT_EQ(b.residuals[0].offset, b.residuals[2].offset);
  EXPECT_NE(b.residuals[0].offset, b.residuals[1].offset);
  EXPECT_LT(b.bytes, bytes(64, SavedActivations::kBlock));
}

}  // namespace
}  // namespace phi3tune
