#include "ops/cpu/attention_tiles.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/cpu/dispatch.h"
#include "ops/cpu/packing.h"

namespace phi3tune::ops::cpu {
namespace {

using Bf16 = uint16_t;

constexpr int64_t kTile = 128;    // keys and queries of a tile
constexpr int64_t kPadding = 32;  // their number is rounded up to a multiple, with zeros

int64_t padded(int64_t count) { return (count + kPadding - 1) / kPadding * kPadding; }

// c [rows, columns] (=, or += with add) a [rows, depth] b, b packed as pairs of its rows.
void multiply(float* c, const Bf16* a, const Bf16* b, int64_t rows, int64_t columns, int64_t depth, bool add) {
  at::native::cpublas::brgemm(rows, columns, depth, depth, columns, columns, add,
                              reinterpret_cast<const at::BFloat16*>(a), reinterpret_cast<const at::BFloat16*>(b), c);
}

// Where the heads lie in the tensors.
struct Layout {
  int64_t tokens;
  HeadShape heads;
  int64_t window;

  int64_t width() const { return heads.head_dim; }
  int64_t group() const { return heads.num_heads / heads.num_kv_heads; }
  int64_t row() const { return (heads.num_heads + 2 * heads.num_kv_heads) * width(); }
  int64_t out_row() const { return heads.num_heads * width(); }
  int64_t q_column(int64_t head) const { return head * width(); }
  int64_t k_column(int64_t head) const { return (heads.num_heads + head) * width(); }
  int64_t v_column(int64_t head) const { return (heads.num_heads + heads.num_kv_heads + head) * width(); }
};

// f(tile) for the tiles of keys that queries [query, query + count) of a document of `length` tokens see.
template <typename F>
void for_visible_tiles(const Layout& layout, int64_t query, int64_t count, int64_t length, const F& f) {
  const int64_t oldest = layout.window > 0 ? std::max<int64_t>(0, query - layout.window + 1) : 0;
  for (int64_t key = oldest / kTile * kTile; key < query + count; key += kTile) {
    f(ScoreTile{.key = key,
                .query = query,
                .keys = padded(std::min(kTile, length - key)),
                .queries = count,
                .stride = padded(count),
                .window = layout.window,
                .scale = 1.0 / std::sqrt(static_cast<double>(layout.width()))});
  }
}

class ForwardTask {
 public:
  ForwardTask(const Layout& layout, const Bf16* qkv, Bf16* out, float* lse, int64_t longest)
      : at_(layout), qkv_(qkv), out_(out), lse_(lse), width_(layout.width()) {
    const auto all = static_cast<size_t>(padded(longest) * width_);
    const auto some = static_cast<size_t>(kTile * width_);
    for (auto* rows : {&keys_, &values_, &value_pairs_}) {
      rows->resize(all);
    }
    for (auto* rows : {&queries_, &query_columns_}) {
      rows->resize(some);
    }
    for (auto* tile : {&shares_, &shares_turned_}) {
      tile->resize(kTile * kTile);
    }
    scores_.resize(kTile * kTile);
    mixed_.resize(some);
    for (auto* row : {&maxima_, &sums_, &factors_}) {
      row->resize(kTile);
    }
  }

  void run(int64_t kv_head, int64_t begin, int64_t length) {
    const int64_t rows = padded(length);
    const Bf16* first = qkv_ + begin * at_.row();
    copy_padded(keys_.data(), first + at_.k_column(kv_head), at_.row(), length, rows, width_);
    copy_padded(values_.data(), first + at_.v_column(kv_head), at_.row(), length, rows, width_);
    pack_row_pairs(value_pairs_.data(), values_.data(), rows, width_);
    for (int64_t head = kv_head * at_.group(); head < (kv_head + 1) * at_.group(); ++head) {
      for (int64_t query = 0; query < length; query += kTile) {
        run_queries(head, begin, query, std::min(kTile, length - query), length);
      }
    }
  }

 private:
  void run_queries(int64_t head, int64_t begin, int64_t query, int64_t count, int64_t length) {
    const int64_t row = begin + query;
    const int64_t columns = padded(count);
    copy_padded(queries_.data(), qkv_ + row * at_.row() + at_.q_column(head), at_.row(), count, columns, width_);
    pack_column_pairs(query_columns_.data(), queries_.data(), columns, width_);
    std::fill(maxima_.begin(), maxima_.end(), -1e30F);
    std::fill(sums_.begin(), sums_.end(), 0.0F);
    std::fill_n(mixed_.begin(), columns * width_, 0.0F);
    for_visible_tiles(at_, query, count, length, [&](const ScoreTile& tile) {
      const int64_t key = tile.key * width_;
      multiply(scores_.data(), keys_.data() + key, query_columns_.data(), tile.keys, columns, width_, false);
      kernels_.attention_shares(shares_.data(), maxima_.data(), sums_.data(), factors_.data(), scores_.data(), tile);
      transpose(shares_turned_.data(), shares_.data(), tile.keys, columns);
      kernels_.scale_rows(mixed_.data(), factors_.data(), count, width_);
      multiply(mixed_.data(), shares_turned_.data(), value_pairs_.data() + key, columns, width_, tile.keys, true);
    });
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(i);
      factors_[at] = 1.0F / sums_[at];
      lse_[head * at_.tokens + row + i] = maxima_[at] + std::log(sums_[at]);
    }
    kernels_.scale_rows(mixed_.data(), factors_.data(), count, width_);
    for (int64_t i = 0; i < count; ++i) {
      kernels_.round_sum(out_ + (row + i) * at_.out_row() + at_.q_column(head), mixed_.data() + i * width_, width_);
    }
  }

  const Layout& at_;
  const Bf16* qkv_;
  Bf16* out_;
  float* lse_;
  const Kernels<Bf16, float>& kernels_ = kernels().bf16;
  int64_t width_;
  std::vector<Bf16> keys_, values_, value_pairs_, queries_, query_columns_, shares_, shares_turned_;
  std::vector<float> scores_, mixed_, maxima_, sums_, factors_;
};

struct Problem : Layout {
  const Bf16* qkv;
  const Bf16* out;
  const Bf16* dout;
  const float* lse;
  Bf16* dqkv;
};

// One key/value head of one document after the other; holds the buffers.
class BackwardTask {
 public:
  BackwardTask(const Problem& problem, int64_t longest) : p_(problem), width_(problem.width()) {
    const auto all = static_cast<size_t>(padded(longest) * width_);
    const auto some = static_cast<size_t>(kTile * width_);
    for (auto* rows : {&keys_, &key_pairs_, &values_}) {
      rows->resize(all);
    }
    for (auto* sums : {&d_keys_, &d_values_}) {
      sums->resize(all);
    }
    for (auto* rows : {&queries_, &query_columns_, &query_pairs_, &douts_, &dout_columns_, &dout_pairs_}) {
      rows->resize(some);
    }
    d_queries_.resize(some);
    for (auto* tile : {&shares_, &d_scores_, &d_scores_turned_}) {
      tile->resize(kTile * kTile);
    }
    for (auto* tile : {&scores_, &d_shares_}) {
      tile->resize(kTile * kTile);
    }
    lse_.resize(kTile);
    dots_.resize(kTile);
  }

  void run(int64_t kv_head, int64_t begin, int64_t length) {
    const int64_t rows = padded(length);
    const Bf16* first = p_.qkv + begin * p_.row();
    copy_padded(keys_.data(), first + p_.k_column(kv_head), p_.row(), length, rows, width_);
    copy_padded(values_.data(), first + p_.v_column(kv_head), p_.row(), length, rows, width_);
    pack_row_pairs(key_pairs_.data(), keys_.data(), rows, width_);
    std::fill_n(d_keys_.begin(), rows * width_, 0.0F);
    std::fill_n(d_values_.begin(), rows * width_, 0.0F);
    for (int64_t head = kv_head * p_.group(); head < (kv_head + 1) * p_.group(); ++head) {
      for (int64_t query = 0; query < length; query += kTile) {
        run_queries(head, begin, query, std::min(kTile, length - query), length);
      }
    }
    write(d_keys_.data(), begin, length, p_.k_column(kv_head));
    write(d_values_.data(), begin, length, p_.v_column(kv_head));
  }

 private:
  void run_queries(int64_t head, int64_t begin, int64_t query, int64_t count, int64_t length) {
    const int64_t row = begin + query;
    const int64_t columns = padded(count);
    const Bf16* out = p_.out + row * p_.out_row() + p_.q_column(head);
    const Bf16* dout = p_.dout + row * p_.out_row() + p_.q_column(head);
    copy_padded(queries_.data(), p_.qkv + row * p_.row() + p_.q_column(head), p_.row(), count, columns, width_);
    copy_padded(douts_.data(), dout, p_.out_row(), count, columns, width_);
    pack_column_pairs(query_columns_.data(), queries_.data(), columns, width_);
    pack_column_pairs(dout_columns_.data(), douts_.data(), columns, width_);
    pack_row_pairs(query_pairs_.data(), queries_.data(), columns, width_);
    pack_row_pairs(dout_pairs_.data(), douts_.data(), columns, width_);
    std::copy_n(p_.lse + head * p_.tokens + row, count, lse_.begin());
    kernels_.row_dots(dots_.data(), out, dout, count, width_, p_.out_row(), p_.out_row());

    bool add = false;
    for_visible_tiles(p_, query, count, length, [&](const ScoreTile& tile) {
      run_tile(tile, add);
      add = true;
    });
    write(d_queries_.data(), row, count, p_.q_column(head));
  }

  void run_tile(const ScoreTile& tile, bool add) {
    const int64_t at = tile.key * width_;
    multiply(scores_.data(), keys_.data() + at, query_columns_.data(), tile.keys, tile.stride, width_, false);
    multiply(d_shares_.data(), values_.data() + at, dout_columns_.data(), tile.keys, tile.stride, width_, false);
    kernels_.attention_gradients(shares_.data(), d_scores_.data(), scores_.data(), d_shares_.data(), lse_.data(),
                                 dots_.data(), tile);
    multiply(d_values_.data() + at, shares_.data(), dout_pairs_.data(), tile.keys, width_, tile.stride, true);
    multiply(d_keys_.data() + at, d_scores_.data(), query_pairs_.data(), tile.keys, width_, tile.stride, true);
    transpose(d_scores_turned_.data(), d_scores_.data(), tile.keys, tile.stride);
    multiply(d_queries_.data(), d_scores_turned_.data(), key_pairs_.data() + at, tile.stride, width_, tile.keys, add);
  }

  void write(const float* sums, int64_t row, int64_t count, int64_t column) const {
    for (int64_t i = 0; i < count; ++i) {
      kernels_.round_sum(p_.dqkv + (row + i) * p_.row() + column, sums + i * width_, width_);
    }
  }

  const Problem& p_;
  const Kernels<Bf16, float>& kernels_ = kernels().bf16;
  int64_t width_;
  std::vector<Bf16> keys_, key_pairs_, values_;
  std::vector<Bf16> queries_, query_columns_, query_pairs_, douts_, dout_columns_, dout_pairs_;
  std::vector<Bf16> shares_, d_scores_, d_scores_turned_;
  std::vector<float> scores_, d_shares_, d_keys_, d_values_, d_queries_, lse_, dots_;
};

int64_t longest_of(const Documents& documents) {
  int64_t longest = 0;
  for (size_t i = 1; i < documents.cu_seqlens.size(); ++i) {
    longest = std::max<int64_t>(longest, documents.cu_seqlens[i] - documents.cu_seqlens[i - 1]);
  }
  return longest;
}

// Runs a task, made by make(longest document), on every key/value head and document.
template <typename Make>
void for_heads(const HeadShape& heads, const Documents& documents, const Make& make) {
  const auto& ends = documents.cu_seqlens;
  at::parallel_for(0, heads.num_kv_heads, 1, [&](int64_t begin, int64_t end) {
    auto task = make(longest_of(documents));
    for (int64_t head = begin; head < end; ++head) {
      for (size_t i = 1; i < ends.size(); ++i) {
        task.run(head, ends[i - 1], ends[i] - ends[i - 1]);
      }
    }
    at::native::cpublas::brgemm_release();
  });
}

}  // namespace

bool has_attention_tiles(const HeadShape& heads) {
  static const bool kMicroKernels = at::native::cpublas::could_pack(at::kBFloat16);
  return kMicroKernels && heads.head_dim % 2 == 0;
}

void attention_tiles(const at::Tensor& out, const at::Tensor& lse, const at::Tensor& qkv, const Documents& documents,
                     const HeadShape& heads, int64_t window) {
  const Layout layout{qkv.size(0), heads, window};
  for_heads(heads, documents, [&](int64_t longest) {
    return ForwardTask(layout, data<Bf16>(qkv), data<Bf16>(out), data<float>(lse), longest);
  });
}

void attention_backward_tiles(const at::Tensor& dqkv, const at::Tensor& dout, const at::Tensor& out,
                              const at::Tensor& lse, const at::Tensor& qkv, const Documents& documents,
                              const HeadShape& heads, int64_t window) {
  const Problem problem{{qkv.size(0), heads, window},
                        data<Bf16>(qkv),
                        data<Bf16>(out),
                        data<Bf16>(dout),
                        data<float>(lse),
                        data<Bf16>(dqkv)};
  for_heads(heads, documents, [&](int64_t longest) { return BackwardTask(problem, longest); });
}

}  // namespace phi3tune::ops::cpu
