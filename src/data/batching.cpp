#include "phi3tune/data/batching.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

namespace phi3tune::data {
namespace {

int64_t tokens_of(const Row& row, std::span<const Example> examples) {
  int64_t tokens = 0;
  for (const int64_t i : row) {
    tokens += static_cast<int64_t>(examples[static_cast<size_t>(i)].input_ids.size());
  }
  return tokens;
}

// transformers' get_length_grouped_indices: mega-batches of a permutation, each sorted by length, longest row first of
// all. `batch` is the rows of one optimizer step.
std::vector<int64_t> length_grouped(const std::vector<int64_t>& permutation, const std::vector<int64_t>& lengths,
                                    int64_t batch) {
  const auto n = static_cast<int64_t>(permutation.size());
  const int64_t mega = batch * std::clamp<int64_t>(n / (batch * 4), 1, 50);
  const auto length = [&](int64_t row) { return lengths[static_cast<size_t>(row)]; };
  std::vector<int64_t> order = permutation;
  int64_t longest = 0;
  for (int64_t begin = 0; begin < n; begin += mega) {
    const auto first = order.begin() + begin;
    std::stable_sort(first, order.begin() + std::min(n, begin + mega),
                     [&](int64_t a, int64_t b) { return length(a) > length(b); });
    if (length(*first) > length(order[static_cast<size_t>(longest)])) {
      longest = begin;
    }
  }
  if (n > 0) {
    std::swap(order.front(), order[static_cast<size_t>(longest)]);
  }
  return order;
}

int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b > 0 ? 1 : 0); }

constexpr double kMostSteps = 2147483647;

}  // namespace

std::vector<int64_t> random_permutation(int64_t n, uint64_t seed) {
  std::vector<int64_t> order(static_cast<size_t>(std::max<int64_t>(n, 0)));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::mt19937 generator(static_cast<uint32_t>(seed));
  for (int64_t i = 0; i < n - 1; ++i) {
    const auto step = static_cast<int64_t>(generator() % static_cast<uint64_t>(n - i));
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(i + step)]);
  }
  return order;
}

std::vector<Row> single_rows(std::span<const Example> examples) {
  std::vector<Row> rows(examples.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i] = {static_cast<int64_t>(i)};
  }
  return rows;
}

double MicroBatch::weight_sum() const noexcept { return std::accumulate(weights.begin(), weights.end(), 0.0); }

MicroBatch make_micro_batch(std::span<const Example> examples, std::span<const Row> rows) {
  MicroBatch batch;
  batch.cu_seqlens.push_back(0);
  for (const Row& row : rows) {
    for (const int64_t index : row) {
      const Example& example = examples[static_cast<size_t>(index)];
      const auto begin = static_cast<int64_t>(batch.input_ids.size());
      batch.input_ids.insert(batch.input_ids.end(), example.input_ids.begin(), example.input_ids.end());
      // The row before a token predicts it; nothing predicts the first token of a document.
      for (size_t t = 1; t < example.labels.size(); ++t) {
        if (example.labels[t] != kIgnoreLabel) {
          batch.target_rows.push_back(begin + static_cast<int64_t>(t) - 1);
          batch.targets.push_back(example.labels[t]);
          batch.weights.push_back(example.weights.empty() ? 1.0F : example.weights[t]);
        }
      }
      batch.cu_seqlens.push_back(static_cast<int32_t>(batch.input_ids.size()));
      batch.sample_ids.push_back(example.sample_id);
      batch.examples.push_back(index);
    }
  }
  return batch;
}

StepPlan plan_steps(int64_t num_rows, const config::ScheduleOptions& options) {
  require(options.micro_batch_size > 0 && options.gradient_accumulation_steps > 0,
          "micro_batch_size and gradient_accumulation_steps are positive");
  StepPlan plan;
  plan.batches_per_epoch = ceil_div(num_rows, options.micro_batch_size);
  plan.updates_per_epoch = std::max<int64_t>(ceil_div(plan.batches_per_epoch, options.gradient_accumulation_steps), 1);
  const auto updates = static_cast<double>(plan.updates_per_epoch);
  if (options.max_steps) {
    plan.max_steps = *options.max_steps;
    plan.num_epochs = ceil_div(plan.max_steps, plan.updates_per_epoch);
  } else {
    const double steps = std::ceil(options.num_epochs * updates);
    if (!(steps <= kMostSteps)) {
      throw ConfigError("num_epochs: {} passes of {} optimizer steps each are more than the {} steps a run may have",
                        format_double(options.num_epochs), plan.updates_per_epoch, format_double(kMostSteps));
    }
    plan.max_steps = static_cast<int64_t>(steps);
    plan.num_epochs = static_cast<int64_t>(std::ceil(options.num_epochs));
  }
  return plan;
}

EpochPlan plan_epoch(std::span<const Row> rows, std::span<const Example> examples, int64_t epoch,
                     const config::ScheduleOptions& schedule, const config::DataOptions& data) {
  const auto n = static_cast<int64_t>(rows.size());
  const auto seed = static_cast<uint64_t>(schedule.data_seed.value_or(schedule.seed)) + static_cast<uint64_t>(epoch);
  std::vector<int64_t> order(rows.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  if (data.shuffle || data.group_by_length) {
    order = random_permutation(n, seed);
  }
  if (data.group_by_length) {
    std::vector<int64_t> lengths;
    for (const Row& row : rows) {
      lengths.push_back(tokens_of(row, examples));
    }
    order = length_grouped(order, lengths, schedule.micro_batch_size * schedule.gradient_accumulation_steps);
  }
  EpochPlan plan;
  for (int64_t begin = 0; begin < n; begin += schedule.micro_batch_size) {
    if (plan.empty() || static_cast<int64_t>(plan.back().size()) == schedule.gradient_accumulation_steps) {
      plan.emplace_back();
    }
    const int64_t end = std::min(n, begin + schedule.micro_batch_size);
    plan.back().emplace_back(order.begin() + begin, order.begin() + end);
  }
  return plan;
}

}  // namespace phi3tune::data
