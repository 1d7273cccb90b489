#include "phi3tune/plan/choose.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "phi3tune/core/error.h"

namespace phi3tune::plan {
namespace {

using Saved = SavedActivations;

// From the one that keeps most to the one that keeps least.
constexpr std::array kLevels{Saved::kNone, Saved::kGateUp, Saved::kAttention, Saved::kBlock};

// So many layers from the first on keep everything, the next ones all but gate_up, and so on.
struct Mix {
  int64_t none, gate_up, attention;
};

std::vector<Saved> layers_of(const Mix& mix, int64_t layers) {
  std::vector<Saved> saved(static_cast<size_t>(layers), Saved::kBlock);
  auto next = saved.begin();
  for (const auto& [count, level] : {std::pair(mix.none, Saved::kNone), std::pair(mix.gate_up, Saved::kGateUp),
                                     std::pair(mix.attention, Saved::kAttention)}) {
    next = std::fill_n(next, count, level);
  }
  return saved;
}

// The most of 0..limit for which `holds`, which is true up to some number and false from there on; -1: for none.
template <typename Predicate>
int64_t last_that_holds(int64_t limit, const Predicate& holds) {
  int64_t low = -1;
  for (int64_t high = limit + 1; high - low > 1;) {
    const int64_t middle = low + (high - low) / 2;
    (holds(middle) ? low : high) = middle;
  }
  return low;
}

// Memory of one micro-batch for different saved activations: only the step's part changes.
class StepMemory {
 public:
  StepMemory(const PlanContext& context, const RunShape& shape) : context_(context), step_(shape.step) {
    const auto block = evaluate(context, with_saved(shape, Saved::kBlock));
    rest_ = block.device_bytes() - block.plan.bytes[static_cast<size_t>(Part::kStep)];
    if (shape.evaluation.tokens > 0) {
      evaluation_ = declare_step_buffers(context.model, shape.evaluation, Purpose::kEvaluate).bytes;
    }
  }
  bool fits(std::vector<Saved> saved) {
    step_.saved = std::move(saved);
    const size_t training = declare_step_buffers(context_.model, step_, Purpose::kTrain).bytes;
    return rest_ + std::max(training, evaluation_) <= context_.memory;
  }

 private:
  const PlanContext& context_;
  StepShape step_;
  size_t rest_ = 0;
  size_t evaluation_ = 0;
};

// All layers are alike but the last, so a policy for each is a number of layers for each policy. For every number of
// layers that keep all, and all but gate_up, as many as fit keep attention.
std::vector<Mix> mixes_that_fit(const PlanContext& context, const RunShape& shape) {
  const int64_t layers = context.model.num_layers;
  StepMemory memory(context, shape);
  const auto fit = [&](const Mix& mix) { return memory.fits(layers_of(mix, layers)); };
  std::vector<Mix> mixes;
  const int64_t most_none = last_that_holds(layers, [&](int64_t n) { return fit({n, 0, 0}); });
  for (int64_t none = 0; none <= most_none; ++none) {
    const int64_t most = last_that_holds(layers - none, [&](int64_t n) { return fit({none, n, 0}); });
    for (int64_t gate_up = 0; gate_up <= most; ++gate_up) {
      const int64_t attention = last_that_holds(layers - none - gate_up, [&](int64_t n) {
        return fit({none, gate_up, n});
      });
      mixes.push_back({none, gate_up, attention});
    }
  }
  return mixes;
}

std::optional<Candidate> fitting(const PlanContext& context, RunShape shape) {
  auto candidate = evaluate(context, std::move(shape));
  return fits(context, candidate) ? std::optional(std::move(candidate)) : std::nullopt;
}

int64_t rows_of(const PlanContext& context, const RunShape& shape) {
  return shape.step.tokens / std::max<int64_t>(1, context.rows.longest);
}

Saved uniform(const RunShape& shape) { return shape.step.saved.empty() ? Saved::kNone : shape.step.saved.front(); }

// One change of a run that does not fit; nullopt where it changes nothing.
struct Change {
  std::string text;
  PlanContext context;
  RunShape shape;
};

std::optional<Change> smaller_micro_batch(const PlanContext& context, const RunShape& shape) {
  const int64_t rows = rows_of(context, shape);
  if (rows <= 1) {
    return std::nullopt;
  }
  const int64_t step_rows = rows * shape.micro_batches;
  int64_t best = 1;
  for (int64_t divisor = 2; divisor < rows; ++divisor) {
    if (step_rows % divisor == 0 &&
        fitting(context, with_micro_batch(shape, context.rows, divisor, step_rows / divisor))) {
      best = divisor;
    }
  }
  return Change{fmt::format("micro_batch_size: {} and gradient_accumulation_steps: {}", best, step_rows / best),
                context, with_micro_batch(shape, context.rows, best, step_rows / best)};
}

std::optional<Change> less_saved(const PlanContext& context, const RunShape& shape) {
  const auto level = std::find(kLevels.begin(), kLevels.end(), uniform(shape));
  if (level == kLevels.end() || *level == Saved::kBlock) {
    return std::nullopt;
  }
  for (auto next = level + 1; next != kLevels.end(); ++next) {
    auto changed = with_saved(shape, *next);
    if (*next == Saved::kBlock || fitting(context, changed)) {
      return Change{fmt::format("gradient_checkpointing: {}", policy_name(*next)), context, std::move(changed)};
    }
  }
  return std::nullopt;
}

std::optional<Change> four_bits(const PlanContext& context, const RunShape& shape) {
  if (shape.weights.quantize) {
    return std::nullopt;
  }
  auto changed = shape;
  changed.weights.quantize = true;
  return Change{"adapter: qlora", context, std::move(changed)};
}

std::optional<Change> offloaded(const PlanContext& context, const RunShape& shape) {
  if (uniform(shape) == Saved::kOffload) {
    return std::nullopt;
  }
  return Change{"gradient_checkpointing: offload", context, with_saved(shape, Saved::kOffload)};
}

std::optional<Change> smaller_evaluation(const PlanContext& context, const RunShape& shape) {
  if (context.rows.evaluation_longest == 0 || shape.evaluation.tokens <= context.rows.evaluation_longest) {
    return std::nullopt;
  }
  auto changed = context;
  changed.rows.evaluation_rows = 1;
  return Change{"eval_batch_size: 1", changed,
                with_micro_batch(shape, changed.rows, rows_of(context, shape), shape.micro_batches)};
}

// The longest multiple of 64 tokens with which it fits.
std::optional<Change> shorter_rows(const PlanContext& context, const RunShape& shape) {
  constexpr int64_t kMultiple = 64;
  const int64_t rows = rows_of(context, shape);
  const auto cut = [&](int64_t length) {
    auto changed = context;
    changed.rows.longest = std::min(context.rows.longest, length);
    changed.rows.evaluation_longest = std::min(context.rows.evaluation_longest, length);
    changed.keys = std::min(context.keys, static_cast<double>(length + 1) / 2);
    auto cut_shape = with_micro_batch(shape, changed.rows, rows, shape.micro_batches);
    return Change{fmt::format("sequence_len: {}", length), changed, std::move(cut_shape)};
  };
  const int64_t multiples = last_that_holds((context.rows.longest - 1) / kMultiple, [&](int64_t n) {
    if (n == 0) {
      return true;
    }
    const auto change = cut(n * kMultiple);
    return fitting(change.context, change.shape).has_value();
  });
  return multiples > 0 ? std::optional(cut(multiples * kMultiple)) : std::nullopt;
}

using Changer = std::optional<Change> (*)(const PlanContext&, const RunShape&);
// From what costs least speed to what costs most.
constexpr std::array<Changer, 6> kChangers{smaller_evaluation, smaller_micro_batch, less_saved,
                                           four_bits,          offloaded,           shorter_rows};

}  // namespace

Candidate evaluate(const PlanContext& context, RunShape shape) {
  Candidate candidate;
  candidate.plan = plan_run(context.model, shape);
  if (context.device.gpu) {
    candidate.libraries = library_memory(context.model, shape, context.device.multiprocessors);
    candidate.libraries.context = context.opened ? 0 : candidate.libraries.context;
    candidate.outside = candidate.libraries.total();
  } else {
    candidate.weights = host_weights(context.model, shape.weights, shape.step.element_size);
    candidate.outside = candidate.weights.held + candidate.plan.host_bytes;
  }
  candidate.seconds =
      modelled_step(context.model, shape, context.keys, context.gpu != nullptr ? *context.gpu : *find_gpu("h200"));
  candidate.shape = std::move(shape);
  return candidate;
}

bool fits(const PlanContext& context, const Candidate& candidate) noexcept {
  return candidate.device_bytes() <= context.memory;
}

std::optional<Candidate> choose_saved_activations(const PlanContext& context, const RunShape& shape) {
  std::optional<Candidate> best;
  auto trial = shape;
  for (const auto& mix : mixes_that_fit(context, shape)) {
    trial.step.saved = layers_of(mix, context.model.num_layers);
    auto candidate = evaluate(context, trial);
    const double seconds = candidate.seconds.total();
    // Of equals the smaller, then the one with fewer kinds: those come last.
    if (!best || seconds < best->seconds.total() ||
        (seconds == best->seconds.total() && candidate.device_bytes() <= best->device_bytes())) {
      best = std::move(candidate);
    }
  }
  return best ? best : fitting(context, with_saved(shape, Saved::kOffload));
}

int64_t largest_micro_batch(const PlanContext& context, const RunShape& shape, Saved saved, int64_t most) {
  if (saved == Saved::kAuto) {
    return std::max(largest_micro_batch(context, shape, Saved::kBlock, most),
                    largest_micro_batch(context, shape, Saved::kOffload, most));
  }
  const auto trial = with_saved(shape, saved);
  return last_that_holds(most, [&](int64_t rows) {
    return rows == 0 || fitting(context, with_micro_batch(trial, context.rows, rows, shape.micro_batches)).has_value();
  });
}

std::optional<Candidate> choose_micro_batch(const PlanContext& context, const RunShape& shape, Saved saved,
                                            int64_t rows_per_step) {
  constexpr double kAsFast = 0.995;
  require(rows_per_step > 0, "a step has rows");
  std::optional<Candidate> best;
  for (int64_t rows = 1; rows <= rows_per_step; ++rows) {
    if (rows_per_step % rows != 0) {
      continue;
    }
    const auto trial = with_micro_batch(shape, context.rows, rows, rows_per_step / rows);
    auto candidate =
        saved == Saved::kAuto ? choose_saved_activations(context, trial) : fitting(context, with_saved(trial, saved));
    if (!candidate) {
      break;  // more rows take more
    }
    if (!best || candidate->tokens_per_second() >= kAsFast * best->tokens_per_second()) {
      best = std::move(candidate);
    }
  }
  return best;
}

Candidate settle(const PlanContext& context, const RunShape& shape, Saved saved, int64_t rows_per_step) {
  std::optional<Candidate> chosen;
  auto least = shape;
  if (rows_per_step > 0) {
    chosen = choose_micro_batch(context, shape, saved, rows_per_step);
    least = with_micro_batch(shape, context.rows, 1, rows_per_step);
  } else if (saved == Saved::kAuto) {
    chosen = choose_saved_activations(context, shape);
  }
  if (chosen) {
    return *chosen;
  }
  return evaluate(context, with_saved(least, saved == Saved::kAuto ? Saved::kBlock : saved));
}

Remedies what_would_fit(const PlanContext& context, const RunShape& shape) {
  Remedies remedies;
  for (const auto changer : kChangers) {
    if (changer == shorter_rows) {
      break;  // changes what is learnt: when all else is done
    }
    if (const auto change = changer(context, shape)) {
      const auto changed = evaluate(change->context, change->shape);
      if (fits(change->context, changed)) {
        remedies.changes.push_back({change->text, changed.device_bytes(), true});
      }
    }
  }
  if (!remedies.changes.empty()) {
    return remedies;
  }
  Change now{"", context, shape};
  size_t before = evaluate(context, shape).device_bytes();
  for (const auto changer : kChangers) {
    auto change = changer(now.context, now.shape);
    if (!change) {
      continue;
    }
    const auto changed = evaluate(change->context, change->shape);
    if (changed.device_bytes() >= before) {
      continue;
    }
    before = changed.device_bytes();
    const bool enough = fits(change->context, changed);
    remedies.changes.push_back({change->text, before, enough});
    if (enough) {
      break;
    }
    now = std::move(*change);
  }
  remedies.together = remedies.changes.size() > 1;
  return remedies;
}

std::string describe_saved(const StepShape& step) {
  const auto& saved = step.saved;
  if (std::all_of(saved.begin(), saved.end(), [&](Saved one) { return one == saved.front(); })) {
    return saved.empty() ? "none" : policy_name(saved.front());
  }
  std::string text;
  for (size_t begin = 0; begin < saved.size();) {
    const auto end = std::find_if(saved.begin() + static_cast<ptrdiff_t>(begin), saved.end(),
                                  [&](Saved one) { return one != saved[begin]; });
    const auto next = static_cast<size_t>(end - saved.begin());
    text +=
        fmt::format("{}{} in {}", text.empty() ? "" : ", ", policy_name(saved[begin]),
                    next - begin == 1 ? fmt::format("layer {}", begin) : fmt::format("layers {}-{}", begin, next - 1));
    begin = next;
  }
  return text;
}

}  // namespace phi3tune::plan
