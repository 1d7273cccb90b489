// All faults of a folder, one a line, so that a person repairs it in one go.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "phi3tune/core/error.h"

namespace phi3tune::checkpoint {

class Faults {
 public:
  template <typename... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    constexpr int64_t kShown = 50;
    if (++count_ <= kShown) {
      text_ += fmt::format("{}{}", text_.empty() ? "" : "\n", fmt::format(format, std::forward<Args>(args)...));
    }
    hidden_ = count_ - std::min(count_, kShown);
  }
  void throw_if_any() const {
    if (count_ > 0) {
      throw CheckpointError(hidden_ > 0 ? fmt::format("{}\nand {} more faults", text_, hidden_) : text_);
    }
  }

 private:
  std::string text_;
  int64_t count_ = 0;
  int64_t hidden_ = 0;
};

}  // namespace phi3tune::checkpoint
