#include "phi3tune/model/decode.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "decode_pass.h"
#include "phi3tune/core/error.h"
#include "phi3tune/ops/backend.h"

namespace phi3tune::model {
namespace {

constexpr size_t kPassRows = 2048;  // tokens of a pass at most: prompts beyond are read piece by piece

struct Sequence {
  std::vector<int32_t> tokens;
  KeyValueCache cache;
  bool long_factors = false;  // what the cached keys were rotated by
};

// What a call does for one place: reads tokens[first..) into a cache, its own or, where all is read again, a new one.
struct Reading {
  Sequence* sequence = nullptr;
  size_t before = 0;  // tokens that the sequence had
  size_t read = 0;    // tokens whose keys and values the cache has by now
  bool long_factors = false;
  std::unique_ptr<KeyValueCache> again;
  KeyValueCache& cache() { return again ? *again : sequence->cache; }
  size_t left() const { return sequence->tokens.size() - read; }
};

// The new tokens stand behind the sequences while they are read; what was not committed takes them away again.
class Readings {
 public:
  explicit Readings(size_t count) { all_.reserve(count); }
  Readings(const Readings&) = delete;
  Readings& operator=(const Readings&) = delete;
  ~Readings() {
    for (auto& reading : all_) {
      reading.sequence->tokens.resize(reading.before);
    }
  }

  void add(Sequence& sequence, std::span<const int32_t> tokens) {
    Reading reading;
    reading.sequence = &sequence;
    reading.before = reading.read = sequence.tokens.size();
    sequence.tokens.insert(sequence.tokens.end(), tokens.begin(), tokens.end());
    all_.push_back(std::move(reading));
  }
  void commit() noexcept {
    for (auto& reading : all_) {
      if (reading.again) {
        reading.sequence->cache = std::move(*reading.again);
      }
      reading.sequence->long_factors = reading.long_factors;
    }
    all_.clear();
  }
  std::vector<Reading>& all() noexcept { return all_; }

 private:
  std::vector<Reading> all_;
};

}  // namespace

struct Decoder::Impl {
  Impl(Network& used, int64_t places) : network(used), pass(used) {
    const auto& backend = ops::backend();
    if (backend.cached_attention == nullptr) {
      throw ResourceError("device: generating works on the CPU, and this run computes on {}; use device: cpu",
                          backend.name);
    }
    require(places > 0, "a decoder has at least one place");
    for (int64_t i = 0; i < places; ++i) {
      sequences.push_back({{}, KeyValueCache(network.config(), network.compute_dtype())});
    }
  }

  Sequence& sequence(int64_t place) {
    require(place >= 0 && place < static_cast<int64_t>(sequences.size()), "the decoder has no such place");
    return sequences[static_cast<size_t>(place)];
  }

  void begin(Readings& readings, std::span<const NewTokens> steps);
  // Reads as much as goes into one pass; rows of finished readings go to `last` [steps, D].
  void read_some(std::vector<Reading>& readings, const at::Tensor& last);

  Network& network;
  DecodePass pass;
  std::vector<Sequence> sequences;
};

void Decoder::Impl::begin(Readings& readings, std::span<const NewTokens> steps) {
  std::vector<bool> taken(sequences.size());
  for (const auto& step : steps) {
    auto& held = sequence(step.place);
    require(!taken[static_cast<size_t>(step.place)], "each place at most once in a call");
    taken[static_cast<size_t>(step.place)] = true;
    require(!step.tokens.empty(), "at least one new token for a place");
    require(std::all_of(step.tokens.begin(), step.tokens.end(),
                        [&](int32_t id) { return id >= 0 && id < network.config().vocab_size; }),
            "a token id is not in the vocabulary");
    readings.add(held, step.tokens);
  }
  for (auto& reading : readings.all()) {
    const auto length = static_cast<int64_t>(reading.sequence->tokens.size());
    reading.long_factors = network.rotary().takes_long(length);
    if (reading.before > 0 && reading.long_factors != reading.sequence->long_factors) {
      reading.again = std::make_unique<KeyValueCache>(network.config(), network.compute_dtype());
      reading.read = 0;
    }
    reading.cache().reserve(length, static_cast<int64_t>(reading.read));
  }
}

void Decoder::Impl::read_some(std::vector<Reading>& readings, const at::Tensor& last) {
  struct Piece {
    DecodePass::Part part;
    size_t reading;
  };
  std::vector<Piece> pieces;
  size_t room = kPassRows;
  for (size_t i = 0; i < readings.size() && room > 0; ++i) {
    auto& reading = readings[i];
    const size_t count = std::min(reading.left(), room);
    if (count > 0) {
      const std::span<const int32_t> tokens(reading.sequence->tokens);
      pieces.push_back({{&reading.cache(), static_cast<int64_t>(reading.read), tokens.subspan(reading.read, count),
                         reading.long_factors},
                        i});
      room -= count;
    }
  }
  std::stable_partition(pieces.begin(), pieces.end(),
                        [](const Piece& piece) { return DecodePass::begins_alone(piece.part); });
  std::vector<DecodePass::Part> parts;
  parts.reserve(pieces.size());
  for (const auto& piece : pieces) {
    parts.push_back(piece.part);
  }
  const auto residual = pass.run(parts);
  int64_t row = 0;
  for (const auto& piece : pieces) {
    auto& reading = readings[piece.reading];
    row += static_cast<int64_t>(piece.part.tokens.size());
    reading.read += piece.part.tokens.size();
    if (reading.left() == 0) {
      last[static_cast<int64_t>(piece.reading)].copy_(residual[row - 1]);
    }
  }
}

Decoder::Decoder(Phi3Model& model, int64_t places) : impl_(std::make_unique<Impl>(model.network(), places)) {}
Decoder::~Decoder() = default;

int64_t Decoder::places() const noexcept { return static_cast<int64_t>(impl_->sequences.size()); }

std::span<const int32_t> Decoder::tokens(int64_t place) const { return impl_->sequence(place).tokens; }

void Decoder::truncate(int64_t place, int64_t length) {
  auto& tokens = impl_->sequence(place).tokens;
  require(length >= 0 && length <= static_cast<int64_t>(tokens.size()), "a sequence is not longer than it is");
  tokens.resize(static_cast<size_t>(length));
}

at::Tensor Decoder::advance(std::span<const NewTokens> steps) {
  const at::NoGradGuard no_grad;
  auto& network = impl_->network;
  Readings readings(steps.size());
  impl_->begin(readings, steps);
  const auto last =
      at::empty({static_cast<int64_t>(steps.size()), network.config().hidden_size}, at::dtype(network.compute_dtype()));
  auto& all = readings.all();
  while (std::any_of(all.begin(), all.end(), [](const Reading& reading) { return reading.left() > 0; })) {
    impl_->read_some(all, last);
  }
  auto logits = impl_->pass.logits(last);
  readings.commit();
  return logits;
}

uint64_t Decoder::cache_bytes() const noexcept {
  uint64_t total = 0;
  for (const auto& sequence : impl_->sequences) {
    total += sequence.cache.bytes();
  }
  return total;
}

}  // namespace phi3tune::model
