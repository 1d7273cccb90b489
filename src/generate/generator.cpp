#include "phi3tune/generate/generator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>

#include "phi3tune/core/error.h"
#include "phi3tune/core/stop.h"
#include "phi3tune/generate/sampler.h"

namespace phi3tune::generate {
namespace {

// Prompts that are read in one pass hold at most this many tokens together, or are one: activations stay small.
constexpr size_t kReadTogether = 512;

class Stopwatch {
 public:
  explicit Stopwatch(double& seconds) : seconds_(seconds), begin_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point begin_;
};

size_t shared_beginning(std::span<const int32_t> a, std::span<const int32_t> b) {
  const auto [end, other] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
  return static_cast<size_t>(end - a.begin());
}

double rate(int64_t tokens, double seconds) { return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0; }

// An answer that is being written.
struct Growing {
  int64_t place = 0;
  size_t prompt = 0;
  std::vector<int32_t> context = {};  // prompt and answer; empty: not begun
  size_t unread = 0;                  // of its end, not yet in the cache
};

// One call of Generator::run.
class Run {
 public:
  Run(model::Phi3Model& model, model::Decoder& decoder, const config::GenerationOptions& options,
      const std::vector<int64_t>& stop_ids, Timing& timing, std::span<const std::vector<int32_t>> prompts,
      const OnToken& on_token, uint64_t first_stream, const OnAnswer& on_answer)
      : decoder_(decoder),
        options_(options),
        sampler_(options.sampling),
        stop_ids_(stop_ids),
        timing_(timing),
        prompts_(prompts),
        on_token_(on_token),
        on_answer_(on_answer),
        first_stream_(first_stream),
        positions_(model.config().max_position_embeddings),
        answers_(prompts.size()) {
    for (int64_t place = decoder.places(); place-- > 0;) {
      free_.push_back(place);  // place 0 is taken first
    }
  }

  std::vector<Answer> all() {
    try {
      while (!stop_requested() && (begin_prompts() || !growing_.empty())) {
        write_a_token();
      }
    } catch (const Interrupted&) {
      // A pass stopped half-way: the cache is as before it.
    }
    for (const auto& growing : growing_) {
      end(growing, Finish::kInterrupted);
    }
    for (; next_ < prompts_.size(); ++next_) {
      end({.prompt = next_}, Finish::kInterrupted);
    }
    return std::move(answers_);
  }

 private:
  bool has_position(size_t tokens) const { return positions_ <= 0 || static_cast<int64_t>(tokens) < positions_; }

  // Prompts take the free places and are read, several at a time.
  bool begin_prompts() {
    bool began = false;
    while (!free_.empty() && next_ < prompts_.size()) {
      const size_t before = growing_.size();
      size_t tokens = 0;
      while (!free_.empty() && next_ < prompts_.size()) {
        const auto& prompt = prompts_[next_];
        require(!prompt.empty(), "an answer to a prompt without a token");
        if (!has_position(prompt.size())) {
          end({.prompt = next_++}, Finish::kLength);
          continue;
        }
        if (tokens > 0 && tokens + prompt.size() > kReadTogether) {
          break;
        }
        growing_.push_back(take_place(next_++));
        tokens += growing_.back().unread;
      }
      if (growing_.size() > before) {
        read(before, timing_.prompt_seconds);
        timing_.prompt_tokens += static_cast<int64_t>(tokens);
        began = true;
      }
      if (stop_requested()) {
        break;
      }
    }
    return began;
  }

  Growing take_place(size_t prompt) {
    Growing growing{free_.back(), prompt, prompts_[prompt], 0};
    free_.pop_back();
    // Only what was there before the run is used again: what an answer reads does not depend on its neighbours.
    size_t kept = 0;
    if (growing.place == 0 && prompt == 0) {
      kept = std::min(shared_beginning(decoder_.tokens(0), growing.context), growing.context.size() - 1);
    }
    decoder_.truncate(growing.place, static_cast<int64_t>(kept));
    growing.unread = growing.context.size() - kept;
    return growing;
  }

  void write_a_token() {
    if (!growing_.empty()) {
      read(0, timing_.new_seconds);
    }
  }

  // Passes what is unread of the answers from `first` on, and gives each its next token.
  void read(size_t first, double& seconds) {
    std::vector<model::NewTokens> steps;
    for (size_t i = first; i < growing_.size(); ++i) {
      const std::span<const int32_t> context = growing_[i].context;
      steps.push_back({growing_[i].place, context.last(growing_[i].unread)});
    }
    at::Tensor logits;
    {
      const Stopwatch stopwatch(seconds);
      logits = decoder_.advance(steps).to(at::kFloat).contiguous();
    }
    const Stopwatch stopwatch(timing_.new_seconds);
    const auto width = static_cast<size_t>(logits.size(1));
    size_t kept = first;
    for (size_t i = first; i < growing_.size(); ++i) {
      auto& growing = growing_[i];
      growing.unread = 0;
      const std::span<const float> row(logits.const_data_ptr<float>() + (i - first) * width, width);
      if (grow(growing, row)) {
        if (kept != i) {
          growing_[kept] = std::move(growing);
        }
        ++kept;
      }
    }
    growing_.resize(kept);
  }

  // False when that was the answer's end.
  bool grow(Growing& growing, std::span<const float> logits) {
    auto& answer = answers_[growing.prompt];
    const Choice choice =
        sampler_.choose(logits, growing.context, first_stream_ + growing.prompt, answer.tokens.size());
    ++timing_.new_tokens;
    timing_.first_tokens += answer.tokens.empty() ? 1 : 0;
    if (options_.log_probabilities) {
      answer.log_probabilities.push_back(choice.log_probability);
    }
    if (std::find(stop_ids_.begin(), stop_ids_.end(), choice.token) != stop_ids_.end()) {
      answer.stop_id = choice.token;
      return end(growing, Finish::kStop);
    }
    answer.tokens.push_back(choice.token);
    growing.context.push_back(choice.token);
    growing.unread = 1;
    if (on_token_ && !on_token_(growing.prompt, choice.token)) {
      return end(growing, Finish::kInterrupted);
    }
    if (static_cast<int64_t>(answer.tokens.size()) >= options_.max_new_tokens ||
        !has_position(growing.context.size())) {
      return end(growing, Finish::kLength);
    }
    return true;
  }

  bool end(const Growing& growing, Finish finish) {
    auto& answer = answers_[growing.prompt];
    answer.finish = finish;
    if (!growing.context.empty()) {
      free_.push_back(growing.place);
    }
    if (on_answer_) {
      on_answer_(growing.prompt, answer);
    }
    return false;
  }

  model::Decoder& decoder_;
  const config::GenerationOptions& options_;
  Sampler sampler_;
  const std::vector<int64_t>& stop_ids_;
  Timing& timing_;
  std::span<const std::vector<int32_t>> prompts_;
  const OnToken& on_token_;
  const OnAnswer& on_answer_;
  uint64_t first_stream_;
  int64_t positions_;
  std::vector<Answer> answers_;
  std::vector<Growing> growing_;
  std::vector<int64_t> free_;
  size_t next_ = 0;
};

}  // namespace

double Timing::prompt_tokens_per_second() const noexcept { return rate(prompt_tokens, prompt_seconds); }

double Timing::new_tokens_per_second() const noexcept { return rate(new_tokens - first_tokens, new_seconds); }

Generator::Generator(model::Phi3Model& model, const config::GenerationOptions& options, std::vector<int64_t> stop_ids)
    : model_(model), options_(options), stop_ids_(std::move(stop_ids)), decoder_(model, options.batch_size) {}

std::vector<Answer> Generator::run(std::span<const std::vector<int32_t>> prompts, const OnToken& on_token,
                                   uint64_t first_stream, const OnAnswer& on_answer) {
  return Run(model_, decoder_, options_, stop_ids_, timing_, prompts, on_token, first_stream, on_answer).all();
}

void Generator::forget() {
  for (int64_t place = 0; place < decoder_.places(); ++place) {
    decoder_.truncate(place, 0);
  }
}

}  // namespace phi3tune::generate
