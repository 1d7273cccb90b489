// Writes logits, loss and adapter gradients of one forward and backward, in the layout of dump_forward_backward.py.
//
//   parity_dump --model DIR --adapter DIR --batch FILE.json --out FILE.safetensors
//               [--dtype float64|float32|bfloat16] [--quantize] [--nested-rule cuda|lookup] [--recompute]
//
// The batch is JSON: {"input_ids": [[...]], "labels": [[...]]?, "cu_seqlens": [...]?, "attention_mask": [[...]]?}: with
// cu_seqlens one packed row; without, each row is a document (right padding cut by the mask). Without labels every
// token is trained.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "phi3tune/checkpoint/adapter.h"
#include "phi3tune/core/error.h"
#include "phi3tune/io/json.h"
#include "phi3tune/io/safetensors.h"
#include "phi3tune/model/lora.h"
#include "phi3tune/model/phi3_model.h"

namespace phi3tune {
namespace {

using Arguments = std::map<std::string, std::string>;

Arguments parse(int argc, char** argv) {
  Arguments arguments{{"dtype", "float64"}};
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (!name.starts_with("--")) {
      throw ConfigError("{}: wanted an option", name);
    }
    const bool flag = name == "--quantize" || name == "--recompute";
    if (!flag && i + 1 >= argc) {
      throw ConfigError("{} wants a value", name);
    }
    arguments[name.substr(2)] = flag ? "yes" : argv[++i];
  }
  return arguments;
}

at::ScalarType dtype_of(const std::string& name) {
  if (name == "float64") {
    return at::kDouble;
  }
  if (name == "float32") {
    return at::kFloat;
  }
  if (name == "bfloat16") {
    return at::kBFloat16;
  }
  throw ConfigError("--dtype {}: wanted float64, float32 or bfloat16", name);
}

struct Inputs {
  std::vector<int64_t> ids;
  std::vector<int64_t> labels;
  model::TokenBatch batch;
  std::vector<std::pair<int64_t, int64_t>> places;  // (row, length) of each document in the [B, T] of the file
  int64_t rows = 0;
  int64_t columns = 0;
  at::Tensor original_ids;   // [B, T] as the file has them
  at::Tensor original_mask;  // [B, T]; undefined without one
};

at::Tensor matrix(const std::vector<std::vector<int64_t>>& rows) {
  std::vector<at::Tensor> tensors;
  for (const auto& row : rows) {
    tensors.push_back(at::tensor(row, at::dtype(at::kLong)));
  }
  return at::stack(tensors);
}

Inputs read_inputs(const std::string& path, at::ScalarType wide) {
  const auto json = io::read_json_file<DataError>(path);
  const auto ids = json.at("input_ids").get<std::vector<std::vector<int64_t>>>();
  auto labels = ids;
  if (json.contains("labels")) {
    labels = json.at("labels").get<std::vector<std::vector<int64_t>>>();
  }
  Inputs inputs;
  inputs.rows = static_cast<int64_t>(ids.size());
  inputs.columns = static_cast<int64_t>(ids.at(0).size());
  inputs.original_ids = matrix(ids);
  if (json.contains("attention_mask")) {
    inputs.original_mask = matrix(json.at("attention_mask").get<std::vector<std::vector<int64_t>>>());
  }
  std::vector<int64_t> rows, targets;
  inputs.batch.cu_seqlens.push_back(0);
  const auto add_document = [&](size_t row, size_t begin, size_t end) {
    const auto start = static_cast<int64_t>(inputs.ids.size());
    for (size_t i = begin; i < end; ++i) {
      if (i > begin && labels[row][i] != -100) {
        rows.push_back(start + static_cast<int64_t>(i - begin) - 1);
        targets.push_back(labels[row][i]);
      }
      inputs.ids.push_back(ids[row][i]);
    }
    inputs.batch.sample_ids.push_back(inputs.batch.sample_ids.size());
    inputs.batch.cu_seqlens.push_back(static_cast<int32_t>(inputs.ids.size()));
    inputs.places.emplace_back(static_cast<int64_t>(row), static_cast<int64_t>(end - begin));
  };
  if (json.contains("cu_seqlens")) {
    const auto cu = json.at("cu_seqlens").get<std::vector<size_t>>();
    for (size_t i = 1; i < cu.size(); ++i) {
      add_document(0, cu[i - 1], cu[i]);
    }
  } else {
    for (size_t row = 0; row < ids.size(); ++row) {
      size_t length = ids[row].size();
      if (json.contains("attention_mask")) {
        length = 0;
        for (const auto& kept : json.at("attention_mask").at(row)) {
          length += kept.get<size_t>();
        }
      }
      add_document(row, 0, length);
    }
  }
  inputs.batch.input_ids = at::tensor(inputs.ids, at::dtype(at::kLong));
  inputs.batch.target_rows = at::tensor(rows, at::dtype(at::kLong));
  inputs.batch.targets = at::tensor(targets, at::dtype(at::kLong));
  inputs.batch.weights = at::ones({static_cast<int64_t>(targets.size())}, at::dtype(wide));
  return inputs;
}

// [M, V] of flat documents to the file's [B, T, V]; what no document covers is 0.
at::Tensor unflatten(const at::Tensor& logits, const Inputs& inputs) {
  if (inputs.rows == 1 && logits.size(0) == inputs.columns) {
    return logits.unsqueeze(0);
  }
  auto out = at::zeros({inputs.rows, inputs.columns, logits.size(1)}, logits.options());
  int64_t begin = 0;
  for (const auto& [row, length] : inputs.places) {
    out[row].narrow(0, 0, length).copy_(logits.narrow(0, begin, length));
    begin += length;
  }
  return out;
}

class Dump {
 public:
  void add(const std::string& name, const at::Tensor& tensor) { tensors_.emplace_back(name, tensor.contiguous()); }
  void write(const std::string& path) const {
    std::vector<io::TensorToWrite> out;
    for (const auto& [name, tensor] : tensors_) {
      const auto type = tensor.scalar_type();
      const auto dtype = type == at::kDouble     ? io::DType::kF64
                         : type == at::kFloat    ? io::DType::kF32
                         : type == at::kBFloat16 ? io::DType::kBF16
                                                 : io::DType::kI64;
      out.push_back({name,
                     dtype,
                     tensor.sizes().vec(),
                     {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()}});
    }
    io::write_safetensors(path, std::move(out));
  }

 private:
  std::vector<std::pair<std::string, at::Tensor>> tensors_;
};

int run(const Arguments& arguments) {
  model::Phi3Options options;
  options.compute_dtype = dtype_of(arguments.at("dtype"));
  options.quantize = arguments.contains("quantize");
  if (arguments.contains("recompute")) {
    options.saved = {config::SavedActivations::kBlock};
  }
  if (const auto rule = arguments.find("nested-rule"); rule != arguments.end() && rule->second == "lookup") {
    options.nf4.nested_rule = quant::NestedRule::kLookup;
  }
  const auto folder = phi3::ModelFolder::open(arguments.at("model"));
  auto model = model::Phi3Model::load(folder, options);
  model::LoraAdapters adapters(folder.config(), phi3::read_adapter_config(arguments.at("adapter")),
                               options.compute_dtype, 0, false);
  checkpoint::load_adapter(arguments.at("adapter"), adapters);
  model.attach(&adapters);
  const auto inputs = read_inputs(arguments.at("batch"), model.wide_dtype());

  Dump dump;
  dump.add("input_ids", inputs.original_ids);
  if (inputs.original_mask.defined()) {
    dump.add("attention_mask", inputs.original_mask);
  }
  dump.add("logits", unflatten(model.logits(inputs.batch), inputs));
  const auto targets = inputs.batch.targets.numel();
  const auto sums = model.forward_backward(inputs.batch, 1.0 / static_cast<double>(targets), 1);
  dump.add("loss", at::full({1}, sums.weighted_loss / sums.weight, at::dtype(at::kDouble)));
  for (const auto& pair : adapters.pairs()) {
    dump.add("grad." + phi3::lora_tensor_name(pair.module_path, 'A'), pair.grad_a);
    dump.add("grad." + phi3::lora_tensor_name(pair.module_path, 'B'), pair.grad_b);
    if (pair.magnitude.defined()) {
      dump.add("grad." + phi3::magnitude_tensor_name(pair.module_path), pair.grad_magnitude);
    }
  }
  dump.write(arguments.at("out"));
  fmt::print("{{\"loss\": {}, \"targets\": {}}}\n", sums.weighted_loss / sums.weight, targets);
  return 0;
}

}  // namespace
}  // namespace phi3tune

int main(int argc, char** argv) {
  try {
    return phi3tune::run(phi3tune::parse(argc, argv));
  } catch (const std::exception& error) {
    fmt::print(stderr, "parity_dump: {}\n", error.what());
    return 1;
  }
}
