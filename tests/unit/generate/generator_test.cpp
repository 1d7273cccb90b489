// Answers of the tiny reference models: what must not change them, and what ends them.
#include "phi3tune/generate/generator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "phi3tune/core/stop.h"
#include "unit/model/reference.h"

namespace phi3tune::generate {
namespace {

using Prompts = std::vector<std::vector<int32_t>>;

test::Setup setup_of(const std::string& kind) {
  model::Phi3Options options;
  options.compute_dtype = at::kDouble;  // neighbours change the order of sums: no greedy tie is near enough to turn
  return test::make_setup(kind, options);
}

Prompts some_prompts() {
  Prompts prompts;
  for (int32_t i = 0; i < 7; ++i) {
    std::vector<int32_t> prompt;
    for (int32_t t = 0; t < 3 + 4 * i; ++t) {
      prompt.push_back((7 + 13 * i + 5 * t * t) % 96);
    }
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

config::GenerationOptions options_of(int64_t batch, int64_t length, double temperature = 0.0) {
  config::GenerationOptions options;
  options.batch_size = batch;
  options.max_new_tokens = length;
  options.sampling.temperature = temperature;
  options.log_probabilities = true;
  return options;
}

// The whole sequence passed again for every token: no cache.
std::vector<int32_t> answer_without_cache(test::Setup& setup, std::vector<int32_t> tokens, int64_t length) {
  std::vector<int32_t> answer;
  for (int64_t i = 0; i < length; ++i) {
    model::TokenBatch batch;
    batch.input_ids = at::tensor(std::vector<int64_t>(tokens.begin(), tokens.end()), at::kLong);
    batch.cu_seqlens = {0, static_cast<int32_t>(tokens.size())};
    batch.sample_ids = {0};
    batch.target_rows = batch.targets = at::empty({0}, at::kLong);
    batch.weights = at::empty({0}, at::kDouble);
    const auto logits = setup.model->logits(batch);
    answer.push_back(static_cast<int32_t>(logits[-1].argmax().item<int64_t>()));
    tokens.push_back(answer.back());
  }
  return answer;
}

class Generating : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Kinds, Generating, testing::Values("mha", "gqa", "longrope", "partial"));

TEST_P(Generating, GreedyAnswersAreThoseOfThePlainForwardPass) {
  auto setup = setup_of(GetParam());
  const auto prompts = some_prompts();
  Generator generator(*setup.model, options_of(3, 12), {});
  const auto answers = generator.run(prompts);
  ASSERT_EQ(answers.size(), prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(answers[i].tokens, answer_without_cache(setup, prompts[i], 12)) << "prompt " << i;
    EXPECT_EQ(answers[i].finish, Finish::kLength);
    EXPECT_EQ(answers[i].log_probabilities.size(), 12U);
  }
  EXPECT_EQ(generator.timing().new_tokens, 7 * 12);
  EXPECT_EQ(generator.timing().first_tokens, 7);
  EXPECT_EQ(generator.timing().prompt_tokens, 7 * 3 + 4 * 21);
}

TEST_P(Generating, AnAnswerDoesNotDependOnItsNeighbours) {
  auto setup = setup_of(GetParam());
  const auto prompts = some_prompts();
  for (const double temperature : {0.0, 1.3}) {
    std::vector<std::vector<int32_t>> alone;
    for (size_t i = 0; i < prompts.size(); ++i) {
      Generator generator(*setup.model, options_of(1, 10, temperature), {});
      alone.push_back(generator.run(std::span(&prompts[i], 1), {}, 100 + i).front().tokens);
    }
    for (const int64_t batch : {2, 4, 7}) {
      // A stop id ends some answers early, so that prompts take places at different times.
      const int64_t stop = alone[2][4];
      Generator generator(*setup.model, options_of(batch, 10, temperature), {stop});
      const auto answers = generator.run(prompts, {}, 100);
      for (size_t i = 0; i < prompts.size(); ++i) {
        auto wanted = alone[i];
        const auto end = std::find(wanted.begin(), wanted.end(), stop);
        const bool stops = end != wanted.end();
        wanted.erase(end, wanted.end());
        EXPECT_EQ(answers[i].tokens, wanted) << "prompt " << i << " of a batch of " << batch;
        EXPECT_EQ(answers[i].finish, stops ? Finish::kStop : Finish::kLength);
        EXPECT_EQ(answers[i].stop_id.has_value(), stops);
        EXPECT_EQ(answers[i].log_probabilities.size(), wanted.size() + (stops ? 1 : 0));
      }
    }
  }
}

TEST_P(Generating, AConversationReadsOnlyWhatIsNew) {
  auto setup = setup_of(GetParam());
  Generator talking(*setup.model, options_of(1, 6), {});
  std::vector<int32_t> history{5, 60, 31, 7};
  for (int turn = 0; turn < 4; ++turn) {
    const int64_t read_before = talking.timing().prompt_tokens;
    const auto answer = talking.run(Prompts{history}).front().tokens;
    Generator fresh(*setup.model, options_of(1, 6), {});
    EXPECT_EQ(answer, fresh.run(Prompts{history}).front().tokens) << "turn " << turn;
    // The last token of an answer was never read; then the three of the user.
    EXPECT_EQ(talking.timing().prompt_tokens - read_before, 4);
    history.insert(history.end(), answer.begin(), answer.end());
    history.insert(history.end(), {static_cast<int32_t>(11 + turn), 2, 80});
  }
  // Another beginning: what does not fit is forgotten.
  history[1] = 61;
  const auto answer = talking.run(Prompts{history}).front().tokens;
  Generator fresh(*setup.model, options_of(1, 6), {});
  EXPECT_EQ(answer, fresh.run(Prompts{history}).front().tokens);
}

TEST(Generator, AnAnswerEndsWhereTheModelHasNoPositionLeft) {
  auto setup = setup_of("gqa");
  const auto positions = static_cast<size_t>(setup.model->config().max_position_embeddings);
  std::vector<int32_t> nearly(positions - 3, 9);
  Generator generator(*setup.model, options_of(2, 50), {});
  const auto answers = generator.run(Prompts{nearly, std::vector<int32_t>(positions, 9), {1, 2}});
  EXPECT_EQ(answers[0].tokens.size(), 3U);
  EXPECT_EQ(answers[0].finish, Finish::kLength);
  EXPECT_TRUE(answers[1].tokens.empty());
  EXPECT_EQ(answers[1].finish, Finish::kLength);
  EXPECT_EQ(answers[2].tokens.size(), 50U);
}

TEST(Generator, TokensAndAnswersAreReportedAsTheyCome) {
  auto setup = setup_of("mha");
  const auto prompts = some_prompts();
  std::vector<std::vector<int32_t>> seen(prompts.size());
  std::vector<int> ended(prompts.size());
  Generator generator(*setup.model, options_of(2, 8), {});
  const auto answers = generator.run(
      prompts,
      [&](size_t prompt, int32_t token) {
        EXPECT_EQ(ended[prompt], 0);
        seen[prompt].push_back(token);
        return prompt != 1 || seen[1].size() < 3;
      },
      0,
      [&](size_t prompt, const Answer& answer) {
        ++ended[prompt];
        EXPECT_EQ(answer.tokens, seen[prompt]);
      });
  EXPECT_EQ(answers[1].tokens.size(), 3U);
  EXPECT_EQ(answers[1].finish, Finish::kInterrupted);
  EXPECT_EQ(answers[2].tokens.size(), 8U);
  EXPECT_EQ(ended, std::vector<int>(prompts.size(), 1));
}

TEST(Generator, AStopLeavesAnswersAsTheyAre) {
  auto setup = setup_of("mha");
  const auto prompts = some_prompts();
  Generator generator(*setup.model, options_of(2, 8), {});
  int tokens = 0;
  const auto answers = generator.run(prompts, [&](size_t, int32_t) {
    if (++tokens == 5) {
      request_stop();
    }
    return true;
  });
  forget_stop();
  EXPECT_GE(answers[0].tokens.size() + answers[1].tokens.size(), 5U);
  EXPECT_LE(answers[0].tokens.size() + answers[1].tokens.size(), 6U);
  for (const auto& answer : answers) {
    EXPECT_EQ(answer.finish, Finish::kInterrupted);
  }
  EXPECT_TRUE(answers[2].tokens.empty());
}

TEST(Generator, AnotherAdapterAnswersAfterForget) {
  auto setup = setup_of("gqa");
  const Prompts prompts{{4, 8, 15, 16, 23, 42, 8, 15}};
  Generator generator(*setup.model, options_of(1, 8), {});
  const auto with = generator.run(prompts).front().tokens;
  setup.model->attach(nullptr);
  generator.forget();
  const auto without = generator.run(prompts).front().tokens;
  EXPECT_NE(with, without);
  EXPECT_EQ(without, answer_without_cache(setup, prompts[0], 8));
}

}  // namespace
}  // namespace phi3tune::generate
