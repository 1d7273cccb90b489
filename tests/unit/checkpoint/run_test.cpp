// Whole runs over the tiny reference model: from PEFT's adapter, through the loop, to an adapter again.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <tuple>

#include "phi3tune/checkpoint/adapter.h"
#include "phi3tune/core/error.h"
#include "phi3tune/io/json.h"
#include "phi3tune/model/phi3_model.h"
#include "phi3tune/train/trainer.h"
#include "support/temp_folder.h"
#include "support/tensors.h"
#include "tiny.h"

namespace phi3tune {
namespace {

std::vector<io::Json> read_lines(const std::string& path) {
  std::ifstream file(path);
  std::vector<io::Json> lines;
  for (std::string text; std::getline(file, text);) {
    io::JsonFault fault;
    lines.emplace_back();
    EXPECT_TRUE(io::parse_json(text, lines.back(), fault)) << path << ": " << fault.what;
  }
  return lines;
}

// 34 rows that can be learnt.
data::Dataset reference_rows() {
  data::Dataset dataset;
  dataset.files = {"rows.jsonl"};
  for (const io::Json& line : read_lines(PHI3TUNE_SOURCE_DIR "/tests/references/loss_curve/rows.jsonl")) {
    data::Example example;
    example.input_ids = line["input_ids"].get<std::vector<int32_t>>();
    example.labels = line["labels"].get<std::vector<int32_t>>();
    example.source.line = dataset.train.size() + 1;
    example.sample_id = 7000 + example.source.line;
    dataset.train.push_back(std::move(example));
  }
  return dataset;
}

train::TrainerOptions reference_options() {
  train::TrainerOptions options;
  options.schedule.micro_batch_size = 2;
  options.schedule.gradient_accumulation_steps = 4;
  options.schedule.max_steps = 50;
  options.schedule.learning_rate = 1e-2;
  options.schedule.warmup_steps = 5;
  options.schedule.weight_decay = 0.1;
  options.schedule.seed = 42;
  options.eval.eval_on_start = false;
  return options;
}

struct Losses final : train::TrainObserver {
  void on_step(const train::StepMetrics& metrics) override { steps.push_back(metrics); }
  std::vector<train::StepMetrics> steps;
};

struct TinyRun {
  explicit TinyRun(const std::string& model_kind, model::Phi3Options options)
      : folder(phi3::ModelFolder::open(PHI3TUNE_SOURCE_DIR "/tests/references/models/" + model_kind)),
        adapters(folder.config(), phi3::read_adapter_config(test::kPeftAdapter), options.compute_dtype, 1, false),
        model(model::Phi3Model::load(folder, options)),
        learner(model, adapters) {
    checkpoint::load_adapter(test::kPeftAdapter, adapters);
    model.adapter_changed();
  }
  std::vector<train::StepMetrics> train(const data::Dataset& dataset, const train::TrainerOptions& options) {
    Losses losses;
    train::Trainer(learner, dataset, {}, options, losses).run();
    return losses.steps;
  }
  phi3::ModelFolder folder;
  model::LoraAdapters adapters;
  model::Phi3Model model;
  train::AdapterLearner learner;
};

model::Phi3Options in_dtype(at::ScalarType dtype) {
  model::Phi3Options options;
  options.compute_dtype = dtype;
  return options;
}

// PEFT's adapter trained on here gives the losses of a plain loop over transformers and PEFT, at each of 50 steps.
void follow(const std::string& kind, const std::string& precision, at::ScalarType dtype, double bound) {
  SCOPED_TRACE(kind + " " + precision);
  const auto wanted =
      read_lines(std::string(PHI3TUNE_SOURCE_DIR "/tests/references/loss_curve/") + kind + "." + precision + ".jsonl");
  TinyRun run(kind, in_dtype(dtype));
  const auto steps = run.train(reference_rows(), reference_options());
  ASSERT_EQ(steps.size(), 50U);
  ASSERT_EQ(wanted.size(), 50U);
  double worst_loss = 0.0;
  double worst_norm = 0.0;
  for (size_t i = 0; i < steps.size(); ++i) {
    EXPECT_EQ(steps[i].trained_tokens, wanted[i]["tokens"]) << "step " << i + 1;
    EXPECT_NEAR(steps[i].learning_rate, wanted[i]["lr"].get<double>(), 1e-16) << "step " << i + 1;
    worst_loss = std::max(worst_loss, std::abs(steps[i].loss - wanted[i]["loss"].get<double>()));
    const double norm = wanted[i]["grad_norm"];
    worst_norm = std::max(worst_norm, std::abs(steps[i].grad_norm - norm) / norm);
  }
  std::printf("  %s %s: largest difference of a loss %.2g, of a norm %.2g relative\n", kind.c_str(), precision.c_str(),
              worst_loss, worst_norm);
  EXPECT_LE(worst_loss, bound);
  EXPECT_LE(worst_norm, bound * 10);
  EXPECT_LT(steps.back().loss, steps.front().loss - 1.5);
}

// 50 steps amplify the last bits of the gradients. 1e-4 is asked for in fp32.
TEST(TrainingRun, FollowsTransformersAndPeftInFloat64) { follow("mha", "float64", at::kDouble, 1e-12); }
TEST(TrainingRun, FollowsTransformersAndPeftInFloat32) { follow("mha", "float32", at::kFloat, 1e-5); }
TEST(TrainingRun, FollowsTransformersAndPeftOverNf4) { follow("mha_nf4_float32", "float32", at::kFloat, 1e-5); }

TEST(TrainingRun, GradientOfAStepDoesNotDependOnHowItsRowsAreCut) {
  data::Dataset dataset = reference_rows();
  dataset.train.resize(8);
  for (const auto& [dtype, dropout, bound] : {std::tuple{at::kDouble, 0.0, 1e-10}, std::tuple{at::kDouble, 0.2, 1e-10},
                                              std::tuple{at::kFloat, 0.0, 1e-5}, std::tuple{at::kFloat, 0.2, 1e-5}}) {
    at::Tensor whole;
    for (const auto& [micro, accumulate, packed] :
         {std::tuple{8, 1, false}, std::tuple{1, 8, false}, std::tuple{3, 3, false}, std::tuple{5, 2, false},
          std::tuple{1, 8, true}}) {
      auto model_options = in_dtype(dtype);
      model_options.dropout = dropout;
      TinyRun run("mha", model_options);
      auto options = reference_options();
      options.schedule.micro_batch_size = micro;
      options.schedule.gradient_accumulation_steps = accumulate;
      options.schedule.max_steps = 1;
      options.data.sample_packing = packed;
      options.data.sequence_len = 64;
      ASSERT_EQ(run.train(dataset, options).size(), 1U);
      const at::Tensor gradients = run.adapters.gradients().clone();
      if (!whole.defined()) {
        whole = gradients;
      }
      EXPECT_LE(test::relative_error(gradients, whole), bound)
          << micro << " x " << accumulate << " dropout " << dropout;
    }
  }
}

TEST(TrainingRun, SameRunTwiceGivesTheSameAdapterByteForByte) {
  const test::TempFolder folder;
  const data::Dataset dataset = reference_rows();
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    std::vector<std::string> bytes;
    std::vector<std::vector<double>> losses;
    using config::SavedActivations;
    for (const auto saved : {SavedActivations::kNone, SavedActivations::kNone, SavedActivations::kBlock}) {
      auto model_options = in_dtype(dtype);
      model_options.dropout = 0.1;
      model_options.dropout_seed = 42;
      model_options.saved = {saved};
      TinyRun run("mha", model_options);
      auto options = reference_options();
      options.schedule.max_steps = 8;
      losses.emplace_back();
      for (const auto& step : run.train(dataset, options)) {
        losses.back().push_back(step.loss);
      }
      checkpoint::AdapterFiles files;
      const std::string out = folder / ("out" + std::to_string(static_cast<int>(dtype)) + std::to_string(bytes.size()));
      checkpoint::save_adapter(out, run.adapters, files);
      bytes.push_back(test::read_all(out + "/adapter_model.safetensors"));
    }
    EXPECT_TRUE(bytes[0] == bytes[1]);
    EXPECT_TRUE(bytes[0] == bytes[2]) << "recomputed";
    EXPECT_EQ(losses[0], losses[1]);
    EXPECT_EQ(losses[0], losses[2]);
  }
}

TEST(TrainingRun, AdapterThatWasSavedAndLoadedHasTheSameLoss) {
  const test::TempFolder folder;
  const data::Dataset dataset = reference_rows();
  const train::EvaluationSet set{"validation", dataset.train, &dataset};
  const auto options = reference_options();
  train::TrainObserver nobody;
  const auto sums = [&] {
    return at::zeros({train::evaluation_batches(set, options.schedule, options.data), 2}, at::kDouble);
  };
  TinyRun run("mha", in_dtype(at::kFloat));
  auto short_run = options;
  short_run.schedule.max_steps = 8;
  run.train(dataset, short_run);
  const auto before = train::evaluate(run.learner, set, options.schedule, options.data, 8, 0.0, sums(), nobody);
  checkpoint::save_adapter(folder / "out", run.adapters, {});

  TinyRun other("mha", in_dtype(at::kFloat));
  EXPECT_NE(train::evaluate(other.learner, set, options.schedule, options.data, 0, 0.0, sums(), nobody)->eval_loss,
            before->eval_loss);
  checkpoint::load_adapter(folder / "out", other.adapters);
  EXPECT_EQ(train::evaluate(other.learner, set, options.schedule, options.data, 8, 0.0, sums(), nobody)->eval_loss,
            before->eval_loss);
}

// An adapter that blew up is met by the loss of the next step, not by an update.
TEST(TrainingRun, NotANumberInTheAdapterStopsBeforeAnUpdate) {
  const data::Dataset dataset = reference_rows();
  TinyRun run("mha", in_dtype(at::kFloat));
  run.adapters.parameters()[0] = std::numeric_limits<double>::quiet_NaN();
  run.adapters.refresh_compute_copies();
  const at::Tensor before = run.adapters.parameters().clone();
  EXPECT_THROW(run.train(dataset, reference_options()), NumericsError);
  EXPECT_TRUE(test::same_bits(before, run.adapters.parameters()));
}

}  // namespace
}  // namespace phi3tune
