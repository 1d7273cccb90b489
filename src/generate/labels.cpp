#include "phi3tune/generate/labels.h"

#include <algorithm>
#include <map>

#include "generate/python_text.h"
#include "phi3tune/core/error.h"

namespace phi3tune::generate {
namespace {

constexpr int64_t kLeastUses = 2;           // of each label
constexpr int64_t kReferencesPerLabel = 4;  // on the whole

}  // namespace

std::string normalized_label(std::string_view text) {
  const auto low = lower(text);
  const auto begin = std::find_if(low.begin(), low.end(), is_word);
  const auto end = std::find_if(low.rbegin(), std::make_reverse_iterator(begin), is_word).base();
  const auto inner = to_utf8(std::u32string(begin, end));
  return join(split(inner), " ");
}

std::optional<std::vector<std::string>> find_labels(std::span<const std::string> references) {
  std::map<std::string, int64_t> uses;
  for (const auto& reference : references) {
    ++uses[normalized_label(reference)];
  }
  const auto labels = static_cast<int64_t>(uses.size());
  const bool each_repeated = std::all_of(
      uses.begin(), uses.end(), [](const auto& use) { return use.second >= kLeastUses && !use.first.empty(); });
  if (labels < 2 || !each_repeated || static_cast<int64_t>(references.size()) < kReferencesPerLabel * labels) {
    return std::nullopt;
  }
  std::vector<std::string> names;
  for (const auto& [label, count] : uses) {
    names.push_back(label);
  }
  return names;
}

LabelCounts count_labels(std::span<const std::string> labels, std::span<const std::string> answers,
                         std::span<const std::string> references) {
  LabelCounts counts;
  for (const auto& label : labels) {
    counts.labels.push_back({label});
  }
  const auto find = [&](const std::string& label) {
    return std::find_if(counts.labels.begin(), counts.labels.end(),
                        [&](const LabelCount& count) { return count.label == label; });
  };
  for (size_t row = 0; row < answers.size(); ++row) {
    const auto given = find(normalized_label(answers[row]));
    const auto wanted = find(normalized_label(references[row]));
    require(wanted != counts.labels.end(), "a reference that is no label");
    ++wanted->wanted;
    if (given == counts.labels.end()) {
      ++counts.none;
    } else {
      ++given->given;
      given->right += given == wanted ? 1 : 0;
    }
  }
  return counts;
}

}  // namespace phi3tune::generate
