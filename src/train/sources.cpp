#include "train/sources.h"

#include <fmt/format.h>

#include <algorithm>

namespace phi3tune::train {

std::string describe_sources(const data::Dataset* dataset, std::span<const data::Example> examples,
                             std::span<const int64_t> indices) {
  constexpr size_t kMost = 16;
  const size_t shown = std::min(kMost, indices.size());
  std::string text;
  for (const int64_t index : indices.first(shown)) {
    const data::Example& example = examples[static_cast<size_t>(index)];
    text += text.empty() ? "" : ", ";
    text += dataset != nullptr ? dataset->place(example.source) : fmt::format("sample {:016x}", example.sample_id);
  }
  if (indices.size() > shown) {
    text += fmt::format(" and {} more", indices.size() - shown);
  }
  return text;
}

}  // namespace phi3tune::train
