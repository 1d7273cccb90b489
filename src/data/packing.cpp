// Rows of several documents: best fit decreasing, or in order.
#include <algorithm>
#include <deque>
#include <map>
#include <numeric>

#include "phi3tune/core/error.h"
#include "phi3tune/data/batching.h"

namespace phi3tune::data {
namespace {

int64_t length_of(const Example& example) { return static_cast<int64_t>(example.input_ids.size()); }

std::vector<Row> in_order(std::span<const Example> examples, int64_t capacity) {
  std::vector<Row> rows;
  int64_t left = 0;
  for (size_t i = 0; i < examples.size(); ++i) {
    const int64_t length = length_of(examples[i]);
    if (rows.empty() || length > left) {
      rows.emplace_back();
      left = capacity;
    }
    rows.back().push_back(static_cast<int64_t>(i));
    left -= length;
  }
  return rows;
}

// Each document into the open row with the least room that is enough; of rows with equal room the one that came to it
// first. TRL's "bfd" over the whole dataset.
std::vector<Row> best_fit_decreasing(std::span<const Example> examples, int64_t capacity) {
  std::vector<int64_t> order(examples.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto length = [&](int64_t i) { return length_of(examples[static_cast<size_t>(i)]); };
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return length(a) > length(b); });
  std::vector<Row> rows;
  std::map<int64_t, std::deque<size_t>> rows_with_room;  // room left -> rows
  for (const int64_t i : order) {
    size_t row = rows.size();
    int64_t room = capacity;
    const auto fit = rows_with_room.lower_bound(length(i));
    if (fit == rows_with_room.end()) {
      rows.emplace_back();
    } else {
      room = fit->first;
      row = fit->second.front();
      fit->second.pop_front();
      if (fit->second.empty()) {
        rows_with_room.erase(fit);
      }
    }
    rows[row].push_back(i);
    room -= length(i);
    if (room > 0) {
      rows_with_room[room].push_back(row);
    }
  }
  return rows;
}

}  // namespace

std::vector<Row> pack_rows(std::span<const Example> examples, const config::DataOptions& options) {
  for (const Example& example : examples) {
    require(!example.input_ids.empty() && length_of(example) <= options.sequence_len,
            "a document that is packed has between 1 and sequence_len tokens");
  }
  return options.packing_strategy == config::DataOptions::PackingStrategy::kSequential
             ? in_order(examples, options.sequence_len)
             : best_fit_decreasing(examples, options.sequence_len);
}

}  // namespace phi3tune::data
