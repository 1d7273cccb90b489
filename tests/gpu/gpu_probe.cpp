// Times the back end's operations at the shapes of Phi-3-mini, one JSON object a line:
//   {"table": "gemm", "name": "qkv_proj forward", "m": 8192, "ms": 0.64, "iqr_ms": 0.01, "calls": 20, "tflops": 720.1}
// An operation that throws is a line with "error". scripts/gpu_check reads them.
//
//   gpu_probe [--plugin FILE] [--device N] [--tiny]     --plugin cpu: the CPU's back end
//
// A sample is as many calls as take 2 ms, then one download, which waits for all of them; 20 samples after 5 calls to
// warm up (fewer where an operation takes longer than a second in all). Inputs are random: zeros are faster.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>

#include "phi3tune/core/error.h"
#include "phi3tune/cuda/plugin.h"
#include "phi3tune/ops/ops.h"
#include "phi3tune/quant/nf4_layout.h"

namespace phi3tune {
namespace {

using at::Tensor;

struct Shape {
  int64_t hidden = 3072, inner = 8192, heads = 32, head_dim = 96, vocabulary = 32064, rank = 16;
  std::vector<int64_t> tokens{2048, 4096, 8192, 16384}, lengths{2048, 4096};
  std::vector<std::array<int64_t, 3>> attentions{{32, 32, 96}, {40, 10, 128}};  // heads, key heads, width: mini, medium
  int64_t copied = int64_t{1} << 30, parameters = 25165824, samples = 20;
};
const Shape kTiny{64, 128, 4, 16, 512, 8, {32, 64}, {32}, {{4, 4, 16}, {4, 2, 32}}, 1 << 16, 4096, 3};

Shape shape;
bool on_cpu = false;
at::TensorOptions bf16() { return at::TensorOptions(ops::backend().memory.device).dtype(at::kBFloat16); }
at::TensorOptions wide() { return bf16().dtype(at::kFloat); }
Tensor normal(at::IntArrayRef sizes, double deviation = 1.0) { return at::randn(sizes, bf16()).mul_(deviation); }

template <typename T>
Tensor sent(const std::vector<T>& values, at::ScalarType dtype) {
  Tensor tensor = at::empty({static_cast<int64_t>(values.size())}, bf16().dtype(dtype));
  ops::backend().memory.upload(tensor, values.data());
  return tensor;
}

void wait() {
  static const Tensor one = at::zeros({1}, wide());
  float value = 0;
  ops::backend().memory.download(&value, one);
}

// `work`: what is counted and how often it is done in a call, e.g. {"tflops", FLOP / 1e12}; told per second.
void measure(const std::string& table, const std::string& name, int64_t m, const char* unit, double work,
             const std::function<void()>& call) {
  const auto head = fmt::format(R"({{"table": "{}", "name": "{}", "m": {})", table, name, m);
  using Clock = std::chrono::steady_clock;
  const auto seconds_of = [&](int64_t calls) {
    const auto start = Clock::now();
    for (int64_t i = 0; i < calls; ++i) call();
    wait();
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  try {
    seconds_of(on_cpu ? 1 : 5);
    const double once = std::max(seconds_of(1), 1e-6);
    const auto calls = std::clamp<int64_t>(static_cast<int64_t>(2e-3 / once), 1, 1000);
    const auto samples =
        std::clamp<int64_t>(static_cast<int64_t>(1.0 / (once * static_cast<double>(calls))), 3, shape.samples);
    std::vector<double> ms;
    for (int64_t i = 0; i < samples; ++i) ms.push_back(seconds_of(calls) * 1e3 / static_cast<double>(calls));
    std::sort(ms.begin(), ms.end());
    const double median = ms[ms.size() / 2];
    fmt::print("{}, \"ms\": {:.6g}, \"iqr_ms\": {:.3g}, \"calls\": {}, \"{}\": {:.6g}}}\n", head, median,
               ms[ms.size() * 3 / 4] - ms[ms.size() / 4], calls * samples, unit, work / (median * 1e-3));
  } catch (const std::exception& fault) {
    std::string what = fault.what();
    what = what.substr(0, std::min<size_t>(what.find('\n'), 120));
    std::replace_if(
        what.begin(), what.end(), [](char c) { return c == '"' || c == '\\' || c < ' '; }, '\'');
    fmt::print("{}, \"error\": \"{}\"}}\n", head, what);
  }
  std::fflush(stdout);
}

void products() {
  const int64_t d = shape.hidden, f = shape.inner;
  const std::vector<std::tuple<const char*, int64_t, int64_t>> linears{
      {"qkv_proj", 3 * d, d}, {"o_proj", d, d}, {"gate_up_proj", 2 * f, d}, {"down_proj", d, f}};
  for (const auto& [name, out, in] : linears) {
    for (const int64_t m : shape.tokens) {
      const double tflop = 2e-12 * static_cast<double>(m * out * in);  // the adapter's columns are not counted
      for (const int64_t more : {int64_t{0}, shape.rank}) {
        const std::string with = more ? " K+r" : "";
        const Tensor w = normal({out, in + more}, 0.02), x = normal({m, in + more}), y = at::empty({m, out}, bf16());
        measure("gemm", name + std::string(" forward") + with, m, "tflops", tflop, [&] { ops::linear(y, x, {w}); });
        const Tensor v = normal({out + more, in}, 0.02), dy = normal({m, out + more}), dx = at::empty({m, in}, bf16());
        measure("gemm", name + std::string(" backward") + with, m, "tflops", tflop,
                [&] { ops::linear_input_gradient(dx, dy, {v}); });
      }
      const Tensor a = normal({shape.rank, in}, 0.02), x = normal({m, in}), u = at::empty({m, shape.rank}, bf16());
      const Tensor grad = at::zeros({shape.rank, in}, wide());
      const double skinny = 2e-12 * static_cast<double>(m * in * shape.rank);
      measure("skinny", name + std::string(" x A^T"), m, "tflops", skinny, [&] { ops::linear(u, x, {a}); });
      measure("skinny", name + std::string(" du^T x"), m, "tflops", skinny,
              [&] { ops::lora_input_weight_gradient(grad, u, x); });
    }
  }
}

// Documents of `length` (0: of 1 to 700 tokens) that fill about the largest micro-batch.
void our_attention(const ops::HeadShape& heads, int64_t length, double unit) {
  std::vector<int32_t> ends{0};
  double pairs = 0;
  for (int64_t next = length; ends.back() < shape.tokens.back();) {
    if (length == 0) next = 1 + (static_cast<int64_t>(ends.size()) * 7919) % (shape.tokens.back() > 700 ? 700 : 7);
    ends.push_back(ends.back() + static_cast<int32_t>(next));
    pairs += static_cast<double>(next) * static_cast<double>(next + 1) / 2;
  }
  const int64_t m = ends.back(), n = heads.num_heads * heads.head_dim, g = heads.num_kv_heads * heads.head_dim;
  const ops::Documents documents{ends, sent(ends, at::kInt)};
  const Tensor qkv = normal({m, n + 2 * g}), out = at::empty({m, n}, bf16()), dout = normal({m, n});
  const Tensor lse = at::empty({heads.num_heads, m}, wide()), dqkv = at::empty_like(qkv);
  const auto name = fmt::format("ours {} {}", heads.head_dim, length ? fmt::format("S={}", length) : "packed");
  measure("attention", name + " forward", m, "tflops", pairs * unit,
          [&] { ops::attention(out, lse, qkv, documents, heads, 0); });
  measure("attention", name + " backward", m, "tflops", 2.5 * pairs * unit,
          [&] { ops::attention_backward(dqkv, dout, out, lse, qkv, documents, heads, 0); });
}

void library_attention(const ops::HeadShape& heads, int64_t s, double unit) {
  const int64_t b = std::max<int64_t>(1, shape.tokens.back() / s), m = b * s;
  const double tflop = unit * static_cast<double>(b) * static_cast<double>(s) * static_cast<double>(s + 1) / 2;
  const auto part = [&] { return normal({b, s, heads.num_heads, heads.head_dim}).transpose(1, 2); };
  const Tensor q = part(), k = part(), v = part(), dout = part(), none;
  const auto name = [&](const char* kernel, const char* way) {
    return fmt::format("{} {} S={} {}", kernel, heads.head_dim, s, way);
  };
  const auto flash = [&] { return at::_scaled_dot_product_flash_attention(q, k, v, 0.0, true, false); };
  const auto cudnn = [&] { return at::_scaled_dot_product_cudnn_attention(q, k, v, none, true, 0.0, true, false); };
  measure("attention", name("FlashAttention", "forward"), m, "tflops", tflop, [&] { flash(); });
  measure("attention", name("cuDNN", "forward"), m, "tflops", tflop, [&] { cudnn(); });
  std::optional<decltype(flash())> f;
  measure("attention", name("FlashAttention", "backward"), m, "tflops", 2.5 * tflop, [&] {
    if (!f) f = flash();
    const auto& [out, lse, cq, ck, mq, mk, seed, offset, debug] = *f;
    at::_scaled_dot_product_flash_attention_backward(dout, q, k, v, out, lse, cq, ck, s, s, 0.0, true, seed, offset);
  });
  std::optional<decltype(cudnn())> c;
  measure("attention", name("cuDNN", "backward"), m, "tflops", 2.5 * tflop, [&] {
    if (!c) c = cudnn();
    const auto& [out, lse, cq, ck, mq, mk, seed, offset, debug] = *c;
    at::_scaled_dot_product_cudnn_attention_backward(dout, q, k, v, out, lse, seed, offset, none, cq, ck, s, s, 0.0,
                                                     true);
  });
}

void attentions() {
  for (const auto& [heads, key_heads, width] : shape.attentions) {
    const double unit = 4e-12 * static_cast<double>(heads * width);
    const ops::HeadShape grouped{heads, key_heads, width, width};
    for (const int64_t length : shape.lengths) {
      our_attention(grouped, length, unit);
      library_attention({heads, heads, width, width}, length, unit);
    }
    our_attention(grouped, 0, unit);
  }
}

void dequantising() {
  const auto source = at::randn({shape.copied}, wide()), target = at::empty_like(source);
  measure("memory", "copy", shape.copied, "gbytes", 2 * 4e-9 * static_cast<double>(shape.copied),
          [&] { Tensor(target).copy_(source); });
  const int64_t d = shape.hidden, f = shape.inner;
  for (const auto& [name, rows, cols] : std::vector<std::tuple<const char*, int64_t, int64_t>>{
           {"qkv_proj", 3 * d, d}, {"o_proj", d, d}, {"gate_up_proj", 2 * f, d}, {"down_proj", d, f}}) {
    quant::Nf4Tensor weight;
    Tensor block;
    const Tensor dense = normal({rows, cols}, 0.02), out = at::empty({rows, cols}, bf16());
    if (ops::backend().quantize != nullptr) {
      weight.rows = rows;
      weight.cols = cols;
      weight.source = quant::FloatType::kBF16;
      const auto layout = quant::nf4_layout(rows, cols, weight.block_size, weight.double_quant);
      block = at::empty({static_cast<int64_t>(layout.bytes)}, bf16().dtype(at::kByte));
      ops::backend().quantize(block, at::empty({rows * cols / weight.block_size}, wide()), dense, weight);
    } else {
      weight = quant::quantize_nf4({static_cast<const std::byte*>(dense.data_ptr()), dense.nbytes()},
                                   quant::FloatType::kBF16, rows, cols, {});
    }
    const double bytes = static_cast<double>(rows * cols) * (2.5 + 1.0 / 64 + 4.0 / (64 * 256));
    measure("memory", std::string("dequantise ") + name, rows, "gbytes", bytes * 1e-9,
            [&] { ops::dequantize(out, weight, block); });
  }
}

void elementwise() {
  const int64_t d = shape.hidden, f = shape.inner, n = shape.heads;
  const auto gigabytes = [](int64_t values, int64_t size = 2) { return 1e-9 * static_cast<double>(values * size); };
  const Tensor weight = normal({d});
  for (const int64_t m : shape.tokens) {
    const Tensor x = normal({m, d}), y = at::empty_like(x), z = normal({m, d}), rstd = at::ones({m}, wide());
    const Tensor dx = normal({m, d}), sum = at::empty_like(x);
    measure("memory", "rms_norm", m, "gbytes", gigabytes(2 * m * d), [&] { ops::rms_norm(y, rstd, x, weight, 1e-5); });
    measure("memory", "add_rms_norm", m, "gbytes", gigabytes(4 * m * d),
            [&] { ops::add_rms_norm(y, rstd, sum, x, z, weight, 1e-5); });
    measure("memory", "rms_norm_backward", m, "gbytes", gigabytes(4 * m * d),
            [&] { ops::rms_norm_backward(dx, z, x, rstd, weight); });
    const Tensor qkv = normal({m, 3 * n * shape.head_dim}), cosine = at::ones({m, shape.head_dim / 2}, wide());
    const Tensor sine = at::zeros_like(cosine);
    measure("memory", "rope", m, "gbytes", gigabytes(4 * m * n * shape.head_dim) + gigabytes(m * shape.head_dim, 4),
            [&] {
              ops::rope(qkv, cosine, sine, {n, n, shape.head_dim, shape.head_dim}, false);
            });
    const Tensor both = normal({m, 2 * f}), hidden = normal({m, f}), d_both = at::empty_like(both);
    measure("memory", "swiglu", m, "gbytes", gigabytes(3 * m * f), [&] { ops::swiglu(hidden, both); });
    measure("memory", "swiglu_backward", m, "gbytes", gigabytes(5 * m * f),
            [&] { ops::swiglu_backward(d_both, Tensor(), hidden, both); });
  }
  const int64_t rows = shape.tokens[1], v = shape.vocabulary, p = shape.parameters;
  const Tensor logits = normal({rows, v}), sums = at::zeros({2}, wide().dtype(at::kDouble));
  const Tensor losses = at::empty({2, rows}, wide()), weights = at::ones({rows}, wide());
  const Tensor targets = at::randint(v, {rows}, wide().dtype(at::kLong));
  measure("memory", "cross_entropy", rows, "gbytes", gigabytes(2 * rows * v),
          [&] { ops::cross_entropy(sums, losses, logits, targets, weights, 1.0, true); });
  const Tensor values = at::randn({p}, wide()), gradient = at::randn({p}, wide()), copy = at::empty({p}, bf16());
  const Tensor m1 = at::zeros({p}, wide()), m2 = at::zeros({p}, wide());
  const Tensor control = sent(std::vector<double>{1.0, 0.0}, at::kDouble);
  measure("memory", "adamw", p, "gbytes", gigabytes(p, 30),
          [&] { ops::adamw(values, gradient, m1, m2, copy, {.learning_rate = 1e-4}, control); });
}

void schemas() {
  for (const char* name : {"aten::_flash_attention_forward", "aten::_flash_attention_backward",
                           "aten::_scaled_dot_product_cudnn_attention",
                           "aten::_scaled_dot_product_cudnn_attention_backward", "aten::_cudnn_attention_forward"}) {
    const auto found = c10::Dispatcher::singleton().findSchema({name, ""});
    fmt::print("{{\"table\": \"schema\", \"name\": \"{}\", \"schema\": \"{}\"}}\n", name,
               found ? fmt::format("{}", toString(found->schema())) : "not in this libtorch");
  }
}

std::string beside_the_program() {
  Dl_info info{};
  dladdr(reinterpret_cast<void*>(&beside_the_program), &info);
  const std::string path = info.dli_fname;
  return (path.find('/') == std::string::npos ? "" : path.substr(0, path.rfind('/') + 1)) + cuda::kPluginLibrary;
}

int run(const std::string& plugin, int device) {
  on_cpu = plugin == "cpu";
  if (on_cpu) {
    ops::choose_backend(ops::cpu_backend());
  } else {
    void* const library = dlopen(plugin.c_str(), RTLD_NOW | RTLD_GLOBAL);
    void* const open = library == nullptr ? nullptr : dlsym(library, cuda::kPluginOpenSymbol);
    if (open == nullptr) throw ResourceError("{}: {}", plugin, dlerror());
    ops::choose_backend(reinterpret_cast<cuda::PluginOpen*>(open)(device));
  }
  schemas();
  for (const auto& part : {dequantising, products, attentions, elementwise}) part();
  return 0;
}

}  // namespace
}  // namespace phi3tune

int main(int argc, char** argv) {
  std::string plugin = phi3tune::beside_the_program();
  int device = 0;
  for (int i = 1; i < argc; ++i) {
    if (!std::strcmp(argv[i], "--plugin") && i + 1 < argc) {
      plugin = argv[++i];
    } else if (!std::strcmp(argv[i], "--device") && i + 1 < argc) {
      device = std::atoi(argv[++i]);
    } else if (!std::strcmp(argv[i], "--tiny")) {
      phi3tune::shape = phi3tune::kTiny;
    } else {
      std::fputs("gpu_probe [--plugin FILE|cpu] [--device N] [--tiny]\n", stderr);
      return 2;
    }
  }
  try {
    return phi3tune::run(plugin, device);
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "gpu_probe: %s\n", fault.what());
    return 1;
  }
}
