#include "data/excess.h"

#include <algorithm>

namespace phi3tune::data {
namespace {

using config::ExcessLength;

Piece slice(const EncodedRecord& row, size_t begin, size_t end) {
  const auto at = [](const auto& values, size_t i) { return values.begin() + static_cast<std::ptrdiff_t>(i); };
  Piece piece{{at(row.input_ids, begin), at(row.input_ids, end)}, {at(row.weights, begin), at(row.weights, end)}};
  piece.weights.front() = 0.0F;  // nothing predicts the first token
  return piece;
}

// Marks the first `excess` tokens of a kind and returns how many are still wanted.
size_t mark(const EncodedRecord& row, Cut kind, size_t excess, std::vector<char>& gone) {
  for (size_t t = 0; t < row.cuts.size() && excess > 0; ++t) {
    if (row.cuts[t] == kind) {
      gone[t] = 1;
      --excess;
    }
  }
  return excess;
}

Piece without(const EncodedRecord& row, const std::vector<char>& gone) {
  Piece piece;
  for (size_t t = 0; t < row.input_ids.size(); ++t) {
    if (gone[t] == 0) {
      piece.input_ids.push_back(row.input_ids[t]);
      piece.weights.push_back(piece.weights.empty() ? 0.0F : row.weights[t]);
    }
  }
  return piece;
}

}  // namespace

FittedRow fit_row(EncodedRecord&& row, int64_t sequence_len, ExcessLength strategy) {
  const size_t length = row.input_ids.size();
  const auto limit = static_cast<size_t>(std::max<int64_t>(sequence_len, 1));
  FittedRow fitted;
  if (length <= limit) {
    fitted.pieces.push_back({std::move(row.input_ids), std::move(row.weights)});
    return fitted;
  }
  switch (strategy) {
    case ExcessLength::kError:
    case ExcessLength::kDrop:
      break;
    case ExcessLength::kTruncateEnd:
      fitted.truncated = true;
      fitted.pieces.push_back(slice(row, 0, limit));
      break;
    case ExcessLength::kTruncatePrompt: {
      std::vector<char> gone(length, 0);
      if (mark(row, Cut::kSystem, mark(row, Cut::kFirst, length - limit, gone), gone) == 0) {
        fitted.truncated = true;
        fitted.pieces.push_back(without(row, gone));
      }
      break;
    }
    case ExcessLength::kSplit:
      for (size_t begin = 0; begin < length; begin += limit) {
        fitted.pieces.push_back(slice(row, begin, std::min(length, begin + limit)));
      }
      break;
  }
  return fitted;
}

}  // namespace phi3tune::data
