// Times of one decoder layer of Phi-3-mini at 512 tokens, operation by operation: ours and plain ATen calls.
//
//   ninja ops_bench && OMP_NUM_THREADS=1 bin/ops_bench --benchmark_repetitions=7 --benchmark_report_aggregates_only
//
// On a machine that others use, read the minima of the processor time of one thread. Products of a few rows, as
// generation has them, say which share of a plain reading's speed they reach: --benchmark_filter='linear_[0-9]'.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "ops/cpu/kernels.h"
#include "phi3tune/ops/definitions.h"
#include "phi3tune/ops/ops.h"

namespace phi3tune::ops {
namespace {

constexpr int64_t kTokens = 512, kHidden = 3072, kInner = 8192, kVocabulary = 32064, kRank = 16;
constexpr HeadShape kHeads{32, 32, 96, 96};
const std::vector<int32_t> kOneDocument{0, kTokens};

at::Tensor normal(at::IntArrayRef shape, at::ScalarType dtype) { return at::randn(shape, at::kFloat).to(dtype); }

template <typename F>
void time(benchmark::State& state, const F& f) {
  f();
  for (auto _ : state) {
    f();
  }
}

// f(state, dtype, ours).
void add(const char* name, void (*f)(benchmark::State&, at::ScalarType, bool)) {
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
    for (const bool ours : {false, true}) {
      const std::string full =
          std::string(name) + (dtype == at::kFloat ? "/fp32/" : "/bf16/") + (ours ? "ours" : "aten");
      benchmark::RegisterBenchmark(full.c_str(), [=](benchmark::State& state) { f(state, dtype, ours); })
          ->Unit(benchmark::kMillisecond)
          ->MeasureProcessCPUTime()
          ->ComputeStatistics("min",
                              [](const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); });
    }
  }
}

void bench_linear(benchmark::State& state, at::ScalarType dtype, bool ours) {
  const at::Tensor x = normal({kTokens, kHidden}, dtype), w = normal({2 * kInner, kHidden}, dtype);
  at::Tensor y = at::empty({kTokens, 2 * kInner}, dtype);
  time(state, [&] { ours ? ops::linear(y, x, {w}) : void(y = at::linear(x, w)); });
  state.counters["GFLOP/s"] =
      benchmark::Counter(2e-9 * kTokens * kHidden * 2 * kInner, benchmark::Counter::kIsIterationInvariantRate);
}

void bench_linear_gradient(benchmark::State& state, at::ScalarType dtype, bool ours) {
  const at::Tensor dy = normal({kTokens, 2 * kInner}, dtype), w = normal({2 * kInner, kHidden}, dtype);
  at::Tensor dx = at::empty({kTokens, kHidden}, dtype);
  time(state, [&] { ours ? linear_input_gradient(dx, dy, {w}) : void(dx = at::mm(dy, w)); });
  state.counters["GFLOP/s"] =
      benchmark::Counter(2e-9 * kTokens * kHidden * 2 * kInner, benchmark::Counter::kIsIterationInvariantRate);
}

void attention_of(benchmark::State& state, at::ScalarType dtype, bool ours, bool backward, int64_t tokens,
                  int64_t window) {
  const std::vector<int32_t> ends{0, static_cast<int32_t>(tokens)};
  const int64_t width = kHeads.num_heads * kHeads.head_dim;
  const at::Tensor qkv = normal({tokens, 3 * width}, dtype), dout = normal({tokens, width}, dtype);
  const at::Tensor dqkv = at::empty_like(qkv), out = at::empty_like(dout);
  const at::Tensor lse = at::empty({kHeads.num_heads, tokens}, at::kFloat);
  const auto heads = [&](const at::Tensor& flat, int64_t first) {
    return flat.narrow(1, first * width, width)
        .view({tokens, kHeads.num_heads, kHeads.head_dim})
        .transpose(0, 1)
        .unsqueeze(0);
  };
  const at::Tensor q = heads(qkv, 0), k = heads(qkv, 1), v = heads(qkv, 2);
  at::Tensor flash, flash_lse;
  std::tie(flash, flash_lse) = at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, true);
  attention(out, lse, qkv, {ends}, kHeads, window);
  time(state, [&] {
    if (ours) {
      backward ? attention_backward(dqkv, dout, out, lse, qkv, {ends}, kHeads, window)
               : attention(out, lse, qkv, {ends}, kHeads, window);
    } else if (backward) {
      at::_scaled_dot_product_flash_attention_for_cpu_backward(heads(dout, 0), q, k, v, flash, flash_lse, 0.0, true);
    } else {
      at::_scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, true);
    }
  });
}
void bench_attention(benchmark::State& s, at::ScalarType d, bool ours) { attention_of(s, d, ours, false, 512, 0); }
void bench_attention_gradient(benchmark::State& s, at::ScalarType d, bool ours) {
  attention_of(s, d, ours, true, 512, 0);
}
void bench_attention_2048(benchmark::State& s, at::ScalarType d, bool ours) {
  attention_of(s, d, ours, false, 2048, 0);
}
void bench_attention_gradient_2048(benchmark::State& s, at::ScalarType d, bool ours) {
  attention_of(s, d, ours, true, 2048, 0);
}
// ATen without the window: it has none.
void bench_attention_window(benchmark::State& s, at::ScalarType d, bool ours) {
  attention_of(s, d, ours, false, 2048, 512);
}
void bench_attention_gradient_window(benchmark::State& s, at::ScalarType d, bool ours) {
  attention_of(s, d, ours, true, 2048, 512);
}

void bench_swiglu(benchmark::State& state, at::ScalarType dtype, bool ours) {
  const at::Tensor gate_up = normal({kTokens, 2 * kInner}, dtype);
  at::Tensor hidden = at::empty({kTokens, kInner}, dtype);
  time(state, [&] { ours ? swiglu(hidden, gate_up) : void(hidden = definition::swiglu(gate_up)); });
}

void bench_swiglu_gradient(benchmark::State& state, at::ScalarType dtype, bool ours) {
  const at::Tensor gate_up = normal({kTokens, 2 * kInner}, dtype), dh = normal({kTokens, kInner}, dtype);
  at::Tensor d_gate_up = at::empty_like(gate_up);
  const at::Tensor gate = gate_up.narrow(1, 0, kInner), up = gate_up.narrow(1, kInner, kInner);
  time(state, [&] {
    if (ours) {
      swiglu_backward(d_gate_up, {}, dh, gate_up);
    } else {
      d_gate_up = at::cat({at::silu_backward(dh * up, gate), dh * at::silu(gate)}, 1);
    }
  });
}

void bench_norm(benchmark::State& state, at::ScalarType dtype, bool ours) {
  const at::Tensor x = normal({kTokens, kHidden}, dtype), weight = normal({kHidden}, dtype);
  const at::Tensor rstd = at::empty({kTokens}, at::kFloat);
  at::Tensor y = at::empty_like(x);
  time(state, [&] { ours ? rms_norm(y, rstd, x, weight, 1e-5) : void(y = at::rms_norm(x, {kHidden}, weight, 1e-5)); });
}

void bench_norm_gradient(benchmark::State& state, at::ScalarType dtype, bool ours) {
  const at::Tensor x = normal({kTokens, kHidden}, dtype), weight = normal({kHidden}, dtype);
  const at::Tensor rstd = at::empty({kTokens}, at::kFloat), y = at::empty_like(x), dy = normal(x.sizes(), dtype);
  rms_norm(y, rstd, x, weight, 1e-5);
  at::Tensor dx = at::zeros_like(x);
  time(state, [&] {
    if (ours) {
      rms_norm_backward(dx, dy, x, rstd, weight);
    } else {
      const at::Tensor wide = x.to(at::kFloat), r = rstd.unsqueeze(1), g = (dy * weight).to(at::kFloat);
      dx.add_((r * (g - wide * r.square() * (g * wide).mean(1, true))).to(dtype));
    }
  });
}

void bench_rope(benchmark::State& state, at::ScalarType dtype, bool ours) {
  at::Tensor qkv = normal({kTokens, 3 * kHidden}, dtype);
  const at::Tensor cosine = normal({kTokens, 48}, at::kFloat), sine = normal({kTokens, 48}, at::kFloat);
  time(state, [&] {
    ours ? rope(qkv, cosine, sine, kHeads, false) : void(definition::rope(qkv, cosine, sine, kHeads, false));
  });
}

void bench_cross_entropy(benchmark::State& state, at::ScalarType dtype, bool ours) {
  const at::Tensor logits = normal({1024, kVocabulary}, dtype), targets = at::randint(kVocabulary, {1024}, at::kLong);
  const at::Tensor weights = at::ones({1024}, at::kFloat);
  const at::Tensor sums = at::zeros({2}, at::kDouble), row_losses = at::empty({2, 1024}, at::kFloat);
  time(state, [&] {
    if (ours) {
      cross_entropy(sums, row_losses, logits, targets, weights, 1.0, true);
    } else {
      at::Tensor shares = at::log_softmax(logits.to(at::kFloat), 1);
      shares.gather(1, targets.unsqueeze(1)).sum();
      shares.exp_().scatter_add_(1, targets.unsqueeze(1), at::full({1024, 1}, -1.0F));
      logits.copy_(shares);
    }
  });
}

// The two shapes of a layer's adapted linears that cost most, base and adapter: gate_up and down.
void lora_of(benchmark::State& state, at::ScalarType dtype, bool ours, bool backward, int64_t in, int64_t out) {
  const at::Tensor x = normal({kTokens, in}, dtype), a = normal({kRank, in}, dtype), b = normal({out, kRank}, dtype);
  at::Tensor y = normal({kTokens, out}, dtype), u = at::empty({kTokens, kRank}, dtype), dx = at::zeros_like(x);
  const at::Tensor dy = normal({kTokens, out}, dtype);
  const at::Tensor grad_a = at::zeros({kRank, in}, at::kFloat), grad_b = at::zeros({out, kRank}, at::kFloat);
  at::Tensor du = at::empty_like(u);
  const LinearWeight weight{normal({out, in}, dtype)};
  const LowRank adapter{a, b, 2.0};
  adapted_linear(y, u, x, x, weight, adapter);
  time(state, [&] {
    if (ours && backward) {
      lora_output_gradient(grad_b, du, dy, u, weight, adapter);
      adapted_input_gradient(dx, {}, dy, du, weight, adapter, {kOneDocument}, {});
      lora_input_weight_gradient(grad_a, du, x);
    } else if (ours) {
      adapted_linear(y, u, x, x, weight, adapter);
    } else if (backward) {
      du = at::mm(dy, b).mul_(2.0);
      grad_b.add_(at::mm(dy.t(), u), 2.0);
      grad_a.add_(at::mm(du.t(), x));
      at::mm_out(dx, dy, weight.matrix);
      dx.addmm_(du, a);
    } else {
      at::mm_out(y, x, weight.matrix.t());
      y.add_(at::mm(at::mm(x, a.t()), b.t()), 2.0);
    }
  });
}
void bench_lora_gate_up(benchmark::State& s, at::ScalarType d, bool o) { lora_of(s, d, o, false, kHidden, 2 * kInner); }
void bench_lora_gate_up_gradient(benchmark::State& s, at::ScalarType d, bool o) {
  lora_of(s, d, o, true, kHidden, 2 * kInner);
}
void bench_lora_down(benchmark::State& s, at::ScalarType d, bool o) { lora_of(s, d, o, false, kInner, kHidden); }
void bench_lora_down_gradient(benchmark::State& s, at::ScalarType d, bool o) {
  lora_of(s, d, o, true, kInner, kHidden);
}

void bench_dropout(benchmark::State& state, at::ScalarType dtype, bool ours) {
  const at::Tensor x = normal({kTokens, kHidden}, dtype);
  at::Tensor out = at::empty_like(x);
  const std::vector<uint64_t> ids{1};
  const DropoutKey key{.p = 0.05, .seed = 1, .sample_ids = ids};
  time(state, [&] { ours ? dropout(out, x, {kOneDocument}, key) : void(out = at::dropout(x, 0.05, true)); });
}

void bench_adamw(benchmark::State& state, at::ScalarType dtype, bool ours) {
  if (dtype != at::kFloat) {
    state.SkipWithError("the optimizer's state is float32");
    return;
  }
  constexpr int64_t kCount = 25'000'000;
  std::vector<at::Tensor> p{normal({kCount}, dtype)}, g{normal({kCount}, dtype)}, m{at::zeros({kCount}, dtype)},
      v{at::zeros({kCount}, dtype)};
  const std::vector<at::Tensor> steps{at::scalar_tensor(7.0, at::kFloat)};
  const at::Tensor control = at::tensor({1.0, 0.0}, at::kDouble);
  time(state, [&] {
    if (ours) {
      adamw(p[0], g[0], m[0], v[0], {}, {.learning_rate = 1e-4, .step = 7}, control);
    } else {
      at::_fused_adamw_(p, g, m, v, {}, steps, 1e-4, 0.9, 0.999, 0.0, 1e-8, false, false);
    }
  });
}

void bench_norm_of_gradients(benchmark::State& state, at::ScalarType dtype, bool ours) {
  if (dtype != at::kFloat) {
    state.SkipWithError("gradients are float32");
    return;
  }
  const at::Tensor g = normal({25'000'000}, dtype);
  const at::Tensor control = at::zeros({2}, at::kDouble), norm = at::zeros({1}, at::kDouble);
  const at::Tensor losses = at::zeros({1, 2}, at::kDouble);
  const at::Tensor partials = at::empty({(g.numel() + kNormBlock - 1) / kNormBlock}, at::kDouble);
  time(state, [&] {
    if (ours) {
      step_norm(control, norm, losses, partials, g, 1.0);
    } else {
      benchmark::DoNotOptimize(at::norm(g).item<double>());
    }
  });
}

// ---- generation: a few rows, and weights that no cache holds ----

constexpr int64_t kReadBytes = int64_t{1} << 30;  // of all copies of a weight: more than a cache keeps

// Every byte, by all threads, each from four places at once.
void read(const void* from, int64_t bytes) {
  const auto* words = static_cast<const uint64_t*>(from);
  at::parallel_for(0, bytes / 4096, 1, [&](int64_t begin, int64_t end) {
    uint64_t sums[4] = {};
    const int64_t quarter = (end - begin) / 4 * 512;
    for (int64_t i = 0; i < quarter; i += 8) {
      for (int64_t part = 0; part < 4; ++part) {
        const uint64_t* at = words + begin * 512 + part * quarter + i;
        __builtin_prefetch(at + 128);
        sums[part] += at[0] + at[1] + at[2] + at[3] + at[4] + at[5] + at[6] + at[7];
      }
    }
    benchmark::DoNotOptimize(sums);
  });
}

double seconds(const std::function<void()>& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The product with copy after copy, and a plain reading of the same bytes between: the ratio of the least times.
void beside_reading(benchmark::State& state, int64_t copies, int64_t bytes,
                    const std::function<const void*(int64_t)>& at, const std::function<void(int64_t)>& product) {
  double best = 1e9, best_read = 1e9;
  int64_t next = 0;
  for (auto _ : state) {
    best_read = std::min(best_read, seconds([&] { read(at(next % copies), bytes); }));
    ++next;
    const double time = seconds([&] { product(next % copies); });
    ++next;
    best = std::min(best, time);
    state.SetIterationTime(time);
  }
  state.counters["GB/s"] = 1e-9 * static_cast<double>(bytes) / best;
  state.counters["of reading"] = best_read / best;
}

void bench_few_rows(benchmark::State& state, at::ScalarType dtype, bool ours, int64_t rows, int64_t out, int64_t in) {
  const int64_t bytes = out * in * at::elementSize(dtype), copies = kReadBytes / bytes + 1;
  const at::Tensor all = normal({out, in}, dtype).unsqueeze(0).repeat({copies, 1, 1});
  const at::Tensor x = normal({rows, in}, dtype);
  at::Tensor y = at::empty({rows, out}, dtype);
  beside_reading(
      state, copies, bytes, [&](int64_t i) { return all[i].data_ptr(); },
      [&](int64_t i) { ours ? ops::linear(y, x, {all[i]}) : void(at::mm_out(y, x, all[i].t())); });
}

// ATen: dequantised, then multiplied.
void bench_nf4_few_rows(benchmark::State& state, at::ScalarType dtype, bool ours, int64_t rows, int64_t out,
                        int64_t in) {
  const at::Tensor dense = normal({out, in}, at::kBFloat16);
  const std::span bytes(static_cast<const std::byte*>(dense.data_ptr()), dense.nbytes());
  const auto first = quant::quantize_nf4(bytes, quant::FloatType::kBF16, out, in, {});
  const int64_t copies = kReadBytes / static_cast<int64_t>(first.bytes()) + 1;
  const std::vector<quant::Nf4Tensor> all(static_cast<size_t>(copies), first);
  const at::Tensor x = normal({rows, in}, dtype), scratch = at::empty({out, in}, dtype);
  at::Tensor y = at::empty({rows, out}, dtype);
  beside_reading(
      state, copies, static_cast<int64_t>(first.packed.size()), [&](int64_t i) { return all[i].packed.data(); },
      [&](int64_t i) {
        if (ours) {
          quantized_linear(y, x, all[i]);
        } else {
          dequantize(scratch, all[i], {});
          at::mm_out(y, x, scratch.t());
        }
      });
}

// "avx2": with its kernels, where others are better.
void measured_by(benchmark::State& state, const std::string& by, const std::function<void()>& f) {
  const std::string best = cpu::kernels().isa;
  if (by == "avx2" && (best == by || !cpu::force_kernels("avx2"))) {
    state.SkipWithError("AVX2 is the best here, or not there");
    return;
  }
  f();
  cpu::force_kernels(best.c_str());
}

void add_few_rows() {
  for (const auto& [kind, f] :
       {std::pair("linear", &bench_few_rows), std::pair("quantized_linear", &bench_nf4_few_rows)}) {
    for (const auto& [out, in] :
         {std::pair(3 * kHidden, kHidden), std::pair(kHidden, kInner), std::pair(kVocabulary, kHidden)}) {
      for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
        for (const int64_t rows : {1, 2, 4, 8, 16}) {
          for (const std::string by : {"aten", "ours", "avx2"}) {
            const std::string name = std::string(kind) + "_" + std::to_string(rows) + "x" + std::to_string(out) + "x" +
                                     std::to_string(in) + (dtype == at::kFloat ? "/fp32/" : "/bf16/") + by;
            benchmark::RegisterBenchmark(name.c_str(),
                                         [=, f = f, out = out, in = in](benchmark::State& state) {
                                           measured_by(state, by,
                                                       [&] { f(state, dtype, by != "aten", rows, out, in); });
                                         })
                ->Unit(benchmark::kMillisecond)
                ->UseManualTime();
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace phi3tune::ops

int main(int argc, char** argv) {
  using namespace phi3tune::ops;
  add("linear_gate_up", bench_linear);
  add("linear_gate_up_gradient", bench_linear_gradient);
  add("attention_512", bench_attention);
  add("attention_512_gradient", bench_attention_gradient);
  add("attention_2048", bench_attention_2048);
  add("attention_2048_gradient", bench_attention_gradient_2048);
  add("attention_2048_window_512", bench_attention_window);
  add("attention_2048_window_512_gradient", bench_attention_gradient_window);
  add("swiglu", bench_swiglu);
  add("swiglu_gradient", bench_swiglu_gradient);
  add("rms_norm", bench_norm);
  add("rms_norm_gradient", bench_norm_gradient);
  add("rope", bench_rope);
  add("cross_entropy_1024", bench_cross_entropy);
  add("lora_gate_up", bench_lora_gate_up);
  add("lora_gate_up_gradient", bench_lora_gate_up_gradient);
  add("lora_down", bench_lora_down);
  add("lora_down_gradient", bench_lora_down_gradient);
  add("dropout", bench_dropout);
  add("adamw_25M", bench_adamw);
  add("step_norm_25M", bench_norm_of_gradients);
  add_few_rows();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
