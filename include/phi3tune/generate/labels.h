// Data that ask for one of a few labels: told from their references.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace phi3tune::generate {

// Lower case, without the punctuation and blanks at both ends, single blanks inside.
std::string normalized_label(std::string_view text);

// The labels, sorted: where there are at least two, each in at least two references, and four references a label or
// more; else nothing.
std::optional<std::vector<std::string>> find_labels(std::span<const std::string> references);

// How often each label was wanted and given.
struct LabelCount {
  std::string label;
  int64_t wanted = 0;
  int64_t given = 0;  // answers that are this label
  int64_t right = 0;
};
struct LabelCounts {
  std::vector<LabelCount> labels;  // as in the list given
  int64_t none = 0;                // answers that are no label
};
// Of pairs of an answer and its reference, which is one of the labels.
LabelCounts count_labels(std::span<const std::string> labels, std::span<const std::string> answers,
                         std::span<const std::string> references);

}  // namespace phi3tune::generate
