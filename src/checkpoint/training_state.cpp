#include "checkpoint/training_state.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "phi3tune/core/error.h"
#include "phi3tune/io/json.h"

namespace phi3tune::checkpoint {
namespace {

using io::Json;

constexpr int64_t kFormat = 1;
constexpr size_t kMostBytes = size_t{16} << 20;

// ---- the members, each named once for both directions ----

template <typename Visitor>
void visit(Visitor& v, train::EvalMetrics& metrics) {
  v.member("name", metrics.name);
  v.member("step", metrics.step);
  v.member("epoch", metrics.epoch);
  v.member("eval_loss", metrics.eval_loss);
  v.member("eval_tokens", metrics.eval_tokens);
  v.member("token_accuracy", metrics.token_accuracy);
  v.member("seconds", metrics.seconds);
}

template <typename Visitor>
void visit(Visitor& v, train::TrainResult& result) {
  v.member("ended_early", result.ended_early);
  v.member("steps", result.steps);
  v.member("epoch", result.epoch);
  v.member("trained_tokens", result.trained_tokens);
  v.member("tokens", result.tokens);
  v.member("seconds", result.seconds);
  v.member("training_seconds", result.training_seconds);
  v.member("last_loss", result.last_loss);
  v.member("first_evaluation", result.first_evaluation);
  v.member("last_evaluation", result.last_evaluation);
}

template <typename Visitor>
void visit(Visitor& v, train::BestEvaluation& best) {
  v.member("step", best.step);
  v.member("value", best.value);
}

template <typename Visitor>
void visit(Visitor& v, train::LoopState& loop) {
  v.member("result", loop.result);
  v.member("evaluated_at", loop.evaluated_at);
  v.member("best", loop.best);
  v.member("stale_evaluations", loop.stale_evaluations);
  v.member("steps_above", loop.steps_above);
}

struct StateFile {
  int64_t format = kFormat;
  SavedState state;
};

template <typename Visitor>
void visit(Visitor& v, StateFile& file) {
  v.member("format", file.format);
  v.member("optimizer_step", file.state.optimizer_step);
  v.member("metrics_bytes", file.state.metrics_bytes);
  v.member("loop", file.state.loop);
}

// ---- out ----

class Writer {
 public:
  template <typename T>
  void member(const char* name, T& value) {
    place_.push_back(name);
    json_[name] = json_of(value);
    place_.pop_back();
  }
  template <typename T>
  Json write(T& object) {
    Json outer = std::exchange(json_, Json::object());
    visit(*this, object);
    return std::exchange(json_, std::move(outer));
  }

 private:
  Json json_of(int64_t value) { return value; }
  Json json_of(uint64_t value) { return value; }
  Json json_of(bool value) { return value; }
  Json json_of(std::string& value) { return value; }
  Json json_of(double value) {
    if (!std::isfinite(value)) {
      std::string name;
      for (const char* part : place_) {
        name += (name.empty() ? "" : ".") + std::string(part);
      }
      throw NumericsError("the loop's {} is {}; nothing is saved", name, value);
    }
    return value;
  }
  template <typename T>
  Json json_of(std::optional<T>& value) {
    return value ? write(*value) : Json(nullptr);
  }
  template <typename T>
  Json json_of(std::vector<T>& values) {
    Json array = Json::array();
    for (T& value : values) {
      array.push_back(write(value));
    }
    return array;
  }
  template <typename T>
  Json json_of(T& object) {
    return write(object);
  }

  Json json_ = Json::object();
  std::vector<const char*> place_;
};

// ---- in ----

class Reader {
 public:
  template <typename T>
  static void read_object(const Json& json, const std::string& place, T& object) {
    if (!json.is_object()) {
      throw CheckpointError("{}: found {}, an object is wanted", place, json.dump());
    }
    Reader reader(json, place);
    visit(reader, object);
    for (const auto& [name, value] : json.items()) {
      if (!reader.known_.contains(name)) {
        throw CheckpointError("{}: {} is no member that this program knows", place, Json(name).dump());
      }
    }
  }
  template <typename T>
  void member(const char* name, T& value) {
    const auto found = json_.find(name);
    if (found == json_.end()) {
      throw CheckpointError("{}: {} is missing", place_, name);
    }
    known_.insert(name);
    read(*found, name, value);
  }

 private:
  Reader(const Json& json, std::string place) : json_(json), place_(std::move(place)) {}

  void want(bool right, const Json& json, const char* name, const char* what) const {
    if (!right) {
      throw CheckpointError("{}: {}: found {}, wanted {}", place_, name, json.dump(), what);
    }
  }
  void read(const Json& json, const char* name, int64_t& value) const {
    constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    want(json.is_number_integer() && (!json.is_number_unsigned() || json.get<uint64_t>() <= kMost), json, name,
         "a whole number");
    value = json.get<int64_t>();
  }
  void read(const Json& json, const char* name, uint64_t& value) const {
    want(json.is_number_unsigned(), json, name, "a whole number that is not negative");
    value = json.get<uint64_t>();
  }
  void read(const Json& json, const char* name, double& value) const {
    want(json.is_number_float(), json, name, "a number with a fraction");
    value = json.get<double>();
  }
  void read(const Json& json, const char* name, bool& value) const {
    want(json.is_boolean(), json, name, "true or false");
    value = json.get<bool>();
  }
  void read(const Json& json, const char* name, std::string& value) const {
    want(json.is_string(), json, name, "a text");
    value = json.get<std::string>();
  }
  template <typename T>
  void read(const Json& json, const char* name, std::optional<T>& value) const {
    value.reset();
    if (!json.is_null()) {
      read_object(json, inside(name), value.emplace());
    }
  }
  template <typename T>
  void read(const Json& json, const char* name, std::vector<T>& values) const {
    want(json.is_array(), json, name, "a list");
    values.clear();
    for (const Json& item : json) {
      read_object(item, inside(name), values.emplace_back());
    }
  }
  template <typename T>
  void read(const Json& json, const char* name, T& object) const {
    read_object(json, inside(name), object);
  }
  std::string inside(const char* name) const { return place_ + ": " + name; }

  const Json& json_;
  std::string place_;
  std::set<std::string> known_;
};

}  // namespace

std::string training_state_text(const SavedState& state) {
  StateFile file{kFormat, state};
  return Writer().write(file).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

SavedState read_training_state(const std::string& path) {
  StateFile file;
  Reader::read_object(io::read_json_file<CheckpointError>(path, kMostBytes), path, file);
  if (file.format != kFormat) {
    throw CheckpointError("{}: of format {}; this program reads format {}", path, file.format, kFormat);
  }
  return std::move(file.state);
}

}  // namespace phi3tune::checkpoint
