// A tiny model, its adapter, and what transformers and PEFT made of one batch (tests/references/README.md).
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "phi3tune/model/lora.h"
#include "phi3tune/model/phi3_model.h"
#include "phi3tune/phi3/init_model.h"
#include "support/references.h"
#include "support/temp_folder.h"
#include "support/tensors.h"

namespace phi3tune::test {

inline const std::string kReferences = std::string(PHI3TUNE_SOURCE_DIR) + "/tests/references";

struct Setup {
  std::unique_ptr<phi3::ModelFolder> folder;
  std::unique_ptr<model::LoraAdapters> adapters;
  std::unique_ptr<model::Phi3Model> model;
};

inline void fill_adapters(model::LoraAdapters& adapters, const std::string& folder) {
  const auto tensors = read_tensors(folder + "/adapter_model.safetensors");
  for (const auto& pair : adapters.pairs()) {
    pair.a.copy_(tensors.at(phi3::lora_tensor_name(pair.module_path, 'A')));
    pair.b.copy_(tensors.at(phi3::lora_tensor_name(pair.module_path, 'B')));
    if (pair.magnitude.defined()) {
      pair.magnitude.copy_(tensors.at(phi3::magnitude_tensor_name(pair.module_path)));
    }
  }
  adapters.magnitudes_given();
  adapters.refresh_compute_copies();
}

inline Setup make_setup(const std::string& kind, model::Phi3Options options) {
  Setup setup;
  const bool dora = kind.ends_with("_dora");
  const auto base = dora ? kind.substr(0, kind.size() - 5) : kind;
  setup.folder = std::make_unique<phi3::ModelFolder>(phi3::ModelFolder::open(kReferences + "/models/" + base));
  const auto adapter_folder = kReferences + "/adapters/" + base.substr(0, base.find("_nf4")) + (dora ? "_dora" : "");
  const auto adapter = phi3::read_adapter_config(adapter_folder);
  options.ranks = model::ranks_of(setup.folder->config(), adapter);
  setup.adapters =
      std::make_unique<model::LoraAdapters>(setup.folder->config(), adapter, options.compute_dtype, 1, false);
  fill_adapters(*setup.adapters, adapter_folder);
  setup.model = std::make_unique<model::Phi3Model>(model::Phi3Model::load(*setup.folder, options));
  setup.model->attach(setup.adapters.get());
  return setup;
}

// A tiny model of random weights with `layers` layers, made in `path` where there is none, and an adapter beside every
// linear.
inline Setup make_deep_setup(const std::string& path, int64_t layers, model::Phi3Options options) {
  if (!std::filesystem::exists(path)) {
    phi3::InitModelOptions init;
    init.folder = path;
    init.layers = layers;
    init.tokenizer = std::string(PHI3TUNE_SOURCE_DIR) + "/data/tokenizer-small";  // a small vocabulary
    phi3::init_model(init);
  }
  Setup setup;
  setup.folder = std::make_unique<phi3::ModelFolder>(phi3::ModelFolder::open(path));
  phi3::AdapterConfig adapter;
  adapter.rank = 4;
  adapter.alpha = 8;
  adapter.target_modules = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"};
  options.ranks = model::ranks_of(setup.folder->config(), adapter);
  setup.adapters =
      std::make_unique<model::LoraAdapters>(setup.folder->config(), adapter, options.compute_dtype, 1, false);
  at::manual_seed(3);
  for (const auto& pair : setup.adapters->pairs()) {
    at::Tensor(pair.b).copy_(at::randn(pair.b.sizes()) * 0.1);
  }
  setup.adapters->refresh_compute_copies();
  setup.model = std::make_unique<model::Phi3Model>(model::Phi3Model::load(*setup.folder, options));
  setup.model->attach(setup.adapters.get());
  return setup;
}

// Two documents for it.
inline model::TokenBatch deep_batch() {
  model::TokenBatch batch;
  batch.input_ids = at::arange(40, at::kLong).mul(7).remainder(97);
  batch.cu_seqlens = {0, 25, 40};
  batch.sample_ids = {1, 2};
  batch.target_rows = at::cat({at::arange(3, 24, at::kLong), at::arange(26, 39, at::kLong)});
  batch.targets = batch.input_ids.index_select(0, batch.target_rows + 1);
  batch.weights = at::ones({batch.targets.numel()}, at::kFloat);
  return batch;
}

struct Document {
  std::vector<int64_t> ids;
  std::vector<int64_t> labels;
  uint64_t sample_id = 0;
};

// The documents of a packed reference file.
inline std::vector<Document> documents_of(const std::map<std::string, at::Tensor>& reference) {
  const auto& cu = reference.at("cu_seqlens");
  const auto* ids = reference.at("input_ids").data_ptr<int64_t>();
  const auto* labels = reference.at("labels").data_ptr<int64_t>();
  std::vector<Document> documents;
  for (int64_t i = 0; i + 1 < cu.numel(); ++i) {
    const auto begin = cu.data_ptr<int64_t>()[i];
    const auto end = cu.data_ptr<int64_t>()[i + 1];
    documents.push_back({{ids + begin, ids + end}, {labels + begin, labels + end}, 1000 + static_cast<uint64_t>(i)});
  }
  return documents;
}

inline model::TokenBatch make_batch(const std::vector<Document>& documents, at::ScalarType wide) {
  model::TokenBatch batch;
  std::vector<int64_t> ids, rows, targets;
  batch.cu_seqlens.push_back(0);
  for (const auto& document : documents) {
    const auto begin = static_cast<int64_t>(ids.size());
    ids.insert(ids.end(), document.ids.begin(), document.ids.end());
    for (size_t i = 1; i < document.labels.size(); ++i) {
      if (document.labels[i] != -100) {
        rows.push_back(begin + static_cast<int64_t>(i) - 1);
        targets.push_back(document.labels[i]);
      }
    }
    batch.cu_seqlens.push_back(static_cast<int32_t>(ids.size()));
    batch.sample_ids.push_back(document.sample_id);
  }
  batch.input_ids = at::tensor(ids, at::dtype(at::kLong));
  batch.target_rows = at::tensor(rows, at::dtype(at::kLong));
  batch.targets = at::tensor(targets, at::dtype(at::kLong));
  batch.weights = at::ones({static_cast<int64_t>(targets.size())}, at::dtype(wide));
  return batch;
}

// Largest relative error over the adapter's gradients, one by one.
inline double gradient_error(const model::LoraAdapters& adapters, const std::map<std::string, at::Tensor>& reference) {
  double worst = 0.0;
  for (const auto& pair : adapters.pairs()) {
    for (const char half : {'A', 'B'}) {
      const auto& ours = half == 'A' ? pair.grad_a : pair.grad_b;
      const double error = relative_error(ours, reference.at("grad." + phi3::lora_tensor_name(pair.module_path, half)));
      worst = error > worst || std::isnan(error) ? error : worst;
    }
    if (pair.magnitude.defined()) {
      const auto& wanted = reference.at("grad." + phi3::magnitude_tensor_name(pair.module_path));
      const double error = relative_error(pair.grad_magnitude, wanted);
      worst = error > worst || std::isnan(error) ? error : worst;
    }
  }
  return worst;
}

}  // namespace phi3tune::test
