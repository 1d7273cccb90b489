// What is read piece by piece gives the logits of the whole.
#include "phi3tune/model/decode.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "reference.h"

namespace phi3tune {
namespace {

using model::Decoder;
using model::NewTokens;
using Ids = std::vector<int32_t>;

model::Phi3Options options(at::ScalarType dtype, bool quantize = false) {
  model::Phi3Options made;
  made.compute_dtype = dtype;
  made.quantize = quantize;
  return made;
}

Ids some_ids(int64_t count, int64_t seed = 0) {
  Ids ids;
  for (int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<int32_t>((i * i * 7 + i * (11 + seed) + seed) % 95));
  }
  return ids;
}

// Of the whole sequence's last token.
at::Tensor whole(model::Phi3Model& model, const Ids& ids) {
  model::TokenBatch batch;
  batch.input_ids = at::tensor(std::vector<int64_t>(ids.begin(), ids.end()), at::dtype(at::kLong));
  batch.cu_seqlens = {0, static_cast<int32_t>(ids.size())};
  batch.sample_ids = {0};
  batch.target_rows = at::zeros({0}, at::kLong);
  batch.targets = at::zeros({0}, at::kLong);
  batch.weights = at::ones({0}, at::dtype(model.wide_dtype()));
  return model.logits(batch).narrow(0, static_cast<int64_t>(ids.size()) - 1, 1).to(model.wide_dtype());
}

at::Tensor append(Decoder& decoder, int64_t place, const Ids& ids) {
  const NewTokens step{place, ids};
  return decoder.advance({&step, 1});
}

// bfloat16: of the roundings of a few layers; float32 and float64: the order of sums.
double bound(at::ScalarType dtype) { return dtype == at::kDouble ? 1e-12 : dtype == at::kFloat ? 1e-5 : 3e-2; }

// Appends `ids` in pieces of `sizes` tokens (the last size again and again), each held to the whole.
void hold_in_pieces(Decoder& decoder, model::Phi3Model& model, int64_t place, const Ids& ids,
                    const std::vector<size_t>& sizes) {
  size_t at = 0;
  for (size_t i = 0; at < ids.size(); ++i) {
    const size_t count = std::min(sizes[std::min(i, sizes.size() - 1)], ids.size() - at);
    const auto logits = append(decoder, place, Ids(ids.begin() + at, ids.begin() + at + count));
    at += count;
    const auto wanted = whole(model, Ids(ids.begin(), ids.begin() + at));
    EXPECT_EQ(logits.scalar_type(), model.wide_dtype());
    EXPECT_LE(test::relative_error(logits, wanted), bound(model.compute_dtype())) << "after " << at << " tokens";
    EXPECT_TRUE(std::equal(ids.begin(), ids.begin() + at, decoder.tokens(place).begin(), decoder.tokens(place).end()));
  }
}

class Decode : public testing::TestWithParam<at::ScalarType> {};

// mha: no window bites; gqa: none is set; longrope: one of 16 does, and beyond 24 tokens the long factors serve;
// partial: the same switch over heads that turn in part.
TEST_P(Decode, PiecesGiveTheLogitsOfTheWhole) {
  for (const char* kind : {"mha", "gqa", "longrope", "partial", "gqa_dora", "mha_nf4_float32_dora"}) {
    SCOPED_TRACE(kind);
    auto setup = test::make_setup(kind, options(GetParam()));
    const auto ids = some_ids(40);
    for (const auto& sizes : {std::vector<size_t>{1}, {12, 1}, {20, 3, 10, 1}, {40}, {1, 30, 5}, {9, 9, 1}}) {
      Decoder decoder(*setup.model, 1);
      hold_in_pieces(decoder, *setup.model, 0, ids, sizes);
    }
  }
}

TEST_P(Decode, SequencesSideBySideAreAsAlone) {
  for (const char* kind : {"gqa", "longrope"}) {
    SCOPED_TRACE(kind);
    auto setup = test::make_setup(kind, options(GetParam()));
    Decoder decoder(*setup.model, 4);
    std::vector<Ids> held(4);
    // Some places take many tokens, some one, some none; longrope's switch comes for one at a time.
    const std::vector<std::vector<int64_t>> rounds{{10, 1, 22, 0}, {1, 1, 1, 30}, {0, 12, 1, 1}, {1, 1, 1, 1},
                                                   {15, 1, 1, 1},  {1, 1, 0, 20}, {1, 11, 1, 1}};
    int64_t seed = 0;
    for (const auto& round : rounds) {
      std::vector<Ids> fresh(4);
      std::vector<NewTokens> steps;
      for (const int64_t place : {3, 0, 2, 1}) {  // in no order
        const auto p = static_cast<size_t>(place);
        if (round[p] > 0) {
          fresh[p] = some_ids(round[p], ++seed);
          held[p].insert(held[p].end(), fresh[p].begin(), fresh[p].end());
          steps.push_back({place, fresh[p]});
        }
      }
      const auto logits = decoder.advance(steps);
      ASSERT_EQ(logits.size(0), static_cast<int64_t>(steps.size()));
      for (size_t i = 0; i < steps.size(); ++i) {
        const auto wanted = whole(*setup.model, held[static_cast<size_t>(steps[i].place)]);
        EXPECT_LE(test::relative_error(logits[static_cast<int64_t>(i)].unsqueeze(0), wanted), bound(GetParam()))
            << "place " << steps[i].place;
      }
    }
  }
}

TEST_P(Decode, ATruncatedSequenceGoesOnAsIfTheRestHadNeverBeen) {
  for (const char* kind : {"mha", "longrope"}) {
    SCOPED_TRACE(kind);
    auto setup = test::make_setup(kind, options(GetParam()));
    Decoder decoder(*setup.model, 2);
    append(decoder, 1, some_ids(33));
    for (const int64_t length : {30, 20, 19, 0}) {  // longrope: still long, back to short
      decoder.truncate(1, length);
      EXPECT_EQ(decoder.tokens(1).size(), static_cast<size_t>(length));
      auto ids = some_ids(33);
      ids.resize(static_cast<size_t>(length));
      for (const int64_t more : {1, 2, 9}) {
        const auto fresh = some_ids(more, 5);
        ids.insert(ids.end(), fresh.begin(), fresh.end());
        EXPECT_LE(test::relative_error(append(decoder, 1, fresh), whole(*setup.model, ids)), bound(GetParam()))
            << length << " kept, " << more << " more";
      }
      decoder.truncate(1, length);
      auto rest = some_ids(33);
      rest.erase(rest.begin(), rest.begin() + length);
      append(decoder, 1, rest);
    }
  }
}

TEST_P(Decode, TheAdapterIsInTheLogitsWhileItIsAttached) {
  auto setup = test::make_setup("gqa", options(GetParam()));
  Decoder decoder(*setup.model, 1);
  const auto ids = some_ids(30);
  hold_in_pieces(decoder, *setup.model, 0, ids, {20, 1});
  const auto with = append(decoder, 0, {7});
  decoder.truncate(0, 0);
  setup.model->attach(nullptr);
  hold_in_pieces(decoder, *setup.model, 0, ids, {20, 1});
  EXPECT_GT(test::relative_error(append(decoder, 0, {7}), with), 10 * bound(GetParam()));
}

TEST_P(Decode, QuantisedWeightsServe) {
  for (const bool saved : {false, true}) {
    if (saved && GetParam() == at::kDouble) {
      continue;
    }
    SCOPED_TRACE(saved ? "saved quantised" : "quantised on the way in");
    const std::string kind = !saved ? "mha" : GetParam() == at::kFloat ? "mha_nf4_float32" : "mha_nf4_bfloat16";
    auto setup = test::make_setup(kind, options(GetParam(), true));
    Decoder decoder(*setup.model, 1);
    hold_in_pieces(decoder, *setup.model, 0, some_ids(24), {10, 1, 1, 9, 1});
    append(decoder, 0, some_ids(17));  // too many for the product that reads 4-bit weights
    const int64_t before = setup.model->dequantisations();
    append(decoder, 0, {3, 4});
    EXPECT_EQ(setup.model->dequantisations(), before);
    append(decoder, 0, some_ids(17));
    EXPECT_GT(setup.model->dequantisations(), before);
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, Decode, testing::Values(at::kFloat, at::kBFloat16, at::kDouble),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

TEST(Decoder, PromptsLongerThanAPassAreReadPieceByPiece) {
  auto setup = test::make_setup("mha", options(at::kFloat));  // its window of 2047 bites
  const auto ids = some_ids(4200);
  Decoder decoder(*setup.model, 2);
  const auto beside = some_ids(50);
  const std::vector<NewTokens> steps{{0, ids}, {1, beside}};
  const auto logits = decoder.advance(steps);
  EXPECT_LE(test::relative_error(logits[0].unsqueeze(0), whole(*setup.model, ids)), 1e-5);
  EXPECT_LE(test::relative_error(logits[1].unsqueeze(0), whole(*setup.model, beside)), 1e-5);
  auto all = ids;
  all.push_back(3);
  EXPECT_LE(test::relative_error(append(decoder, 0, {3}), whole(*setup.model, all)), 1e-5);
}

TEST(Decoder, AStopLeavesTheCacheAsItWas) {
  for (const char* kind : {"mha", "longrope"}) {  // longrope: while the sequence is read again
    auto setup = test::make_setup(kind, options(at::kFloat));
    Decoder decoder(*setup.model, 2);
    const auto ids = some_ids(20);
    append(decoder, 0, ids);
    const auto more = some_ids(100, 3);
    const std::vector<NewTokens> steps{{1, ids}, {0, more}};
    request_stop();
    EXPECT_THROW(decoder.advance(steps), Interrupted);
    forget_stop();
    EXPECT_TRUE(std::equal(ids.begin(), ids.end(), decoder.tokens(0).begin(), decoder.tokens(0).end()));
    EXPECT_TRUE(decoder.tokens(1).empty());
    auto all = ids;
    all.push_back(4);
    EXPECT_LE(test::relative_error(append(decoder, 0, {4}), whole(*setup.model, all)), 1e-5);
    all.insert(all.end(), more.begin(), more.end());
    EXPECT_LE(test::relative_error(append(decoder, 0, more), whole(*setup.model, all)), 1e-5);
  }
}

TEST(Decoder, AStopDoesNotEndAPassOfFewTokens) {
  auto setup = test::make_setup("mha", options(at::kFloat));
  Decoder decoder(*setup.model, 1);
  request_stop();
  EXPECT_NO_THROW(append(decoder, 0, {1}));
  forget_stop();
}

TEST(Decoder, TheCacheCountsItsBytes) {
  auto setup = test::make_setup("gqa", options(at::kBFloat16));
  Decoder decoder(*setup.model, 3);
  EXPECT_EQ(decoder.places(), 3);
  EXPECT_EQ(decoder.cache_bytes(), 0U);
  append(decoder, 2, some_ids(10));
  const uint64_t few = decoder.cache_bytes();
  EXPECT_GE(few, 10U * 2 * 2 * 2 * 16 * 2);  // tokens, keys and values, layers, heads, width, bytes
  append(decoder, 2, some_ids(300));
  EXPECT_GE(decoder.cache_bytes(), 31 * few / 10);
  decoder.truncate(2, 0);
  const uint64_t kept = decoder.cache_bytes();
  append(decoder, 2, some_ids(300));
  EXPECT_EQ(decoder.cache_bytes(), kept);  // a place's room is used again
}

TEST(Decoder, WrongUseIsOurBug) {
  auto setup = test::make_setup("gqa", options(at::kFloat));
  Decoder decoder(*setup.model, 1);
  EXPECT_THROW(append(decoder, 1, {1}), InternalError);
  EXPECT_THROW(append(decoder, 0, {}), InternalError);
  EXPECT_THROW(append(decoder, 0, {96}), InternalError);
  EXPECT_THROW(append(decoder, 0, {-1}), InternalError);
  EXPECT_THROW(decoder.truncate(0, 1), InternalError);
  const Ids one{1};
  const std::vector<NewTokens> twice{{0, one}, {0, one}};
  EXPECT_THROW(decoder.advance(twice), InternalError);
  EXPECT_TRUE(decoder.tokens(0).empty());
}

}  // namespace
}  // namespace phi3tune
