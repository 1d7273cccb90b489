// The run's settings as plain structs, resolved: aliases mapped, paths absolute or relative to the current folder,
// defaults in place. config/settings.h fills them from YAML, environment and command line.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace phi3tune::config {

struct ModelOptions {
  std::string base_model;      // folder
  std::string tokenizer_path;  // folder; empty: base_model
};

enum class AdapterMethod { kLora, kQlora };

struct LoraOptions {
  int64_t rank = 16;
  double alpha = 32.0;  // the update is scaled by alpha / rank, or alpha / sqrt(rank) with use_rslora
  double dropout = 0.0;
  bool use_rslora = false;
  bool use_dora = false;                                  // a trained magnitude for every row of W + update
  std::vector<std::string> target_modules{"all-linear"};  // names; "all-linear"; split names are mapped to fused ones
  std::string target_regex;                               // instead of the list
  std::vector<std::string> exclude_modules;
  std::vector<int64_t> layers;         // ascending; empty: all, or the next
  std::optional<int64_t> last_layers;  // the last so many
  std::vector<std::pair<std::string, int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::vector<std::string> modules_to_save;  // embed_tokens, lm_head
  enum class Init { kDefault, kGaussian, kPissa } init = Init::kDefault;
  int64_t pissa_iterations = -1;  // of the randomised decomposition; -1: the exact one
  std::string init_adapter;       // lora_model_dir: continue from this PEFT folder; empty: fresh
  bool any_base = false;          // whichever base that one was trained over
};

// How the next token is taken from the logits. Temperature 0 is greedy: the largest logit, the lowest id where two are
// equal. Otherwise, in this order: repetition penalty, temperature, top-k, top-p, min-p, as transformers applies them.
struct SamplingOptions {
  double temperature = 0.0;
  double top_p = 1.0;
  int64_t top_k = 0;  // 0: all
  double min_p = 0.0;
  double repetition_penalty = 1.0;  // over prompt and answer; 1: none
  uint64_t seed = 42;
};

struct GenerationOptions {
  SamplingOptions sampling;
  int64_t max_new_tokens = 256;
  int64_t batch_size = 8;          // prompts answered side by side
  bool log_probabilities = false;  // of the tokens taken, under the model's own distribution
};

struct QuantOptions {
  bool double_quant = true;
  int64_t block_size = 64;
};

enum class ExcessLength { kError, kDrop, kTruncatePrompt, kTruncateEnd, kSplit };
enum class TrainOnEos { kTurn, kLast, kAll, kNone };
enum class RecordFormat { kAuto, kMessages, kShareGpt, kAlpaca, kPromptCompletion, kText };

struct DatasetOptions {
  std::string path;  // file, glob or folder
  RecordFormat format = RecordFormat::kAuto;
  std::string field_messages = "messages";
  std::string field_role = "role";
  std::string field_content = "content";
  std::vector<std::string> roles_to_train{"assistant"};
  TrainOnEos train_on_eos = TrainOnEos::kTurn;
  std::string message_field_weight = "weight";
  std::string message_field_training = "train";
  std::optional<int64_t> samples;  // the first n records
};

struct DataOptions {
  std::vector<DatasetOptions> datasets;
  std::vector<DatasetOptions> test_datasets;
  double val_set_size = 0.0;  // < 1: fraction by content hash; >= 1: count
  std::string chat_template = "auto";
  std::optional<std::string> default_system_message;
  bool train_on_inputs = false;
  int64_t sequence_len = 2048;
  ExcessLength excess_length = ExcessLength::kError;
  int64_t max_bad_rows = 0;
  bool sample_packing = false;
  enum class PackingStrategy { kBestFitDecreasing, kSequential } packing_strategy = PackingStrategy::kBestFitDecreasing;
  bool eval_sample_packing = false;
  bool group_by_length = false;
  bool shuffle = true;
};

enum class Scheduler { kCosine, kLinear, kConstant, kConstantWithWarmup };

struct ScheduleOptions {
  // Rows: documents, or packs of sequence_len. 0: auto, the plan cuts the
  // gradient_accumulation_steps rows of a step into passes.
  int64_t micro_batch_size = 2;
  int64_t gradient_accumulation_steps = 8;
  int64_t eval_batch_size = 0;  // 0: micro_batch_size
  double num_epochs = 3.0;
  std::optional<int64_t> max_steps;
  double learning_rate = 2e-4;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double weight_decay = 0.0;
  std::optional<double> loraplus_lr_ratio;    // learning rate of B over that of A; unset: one for both
  std::optional<double> neftune_noise_alpha;  // unset: no noise
  Scheduler scheduler = Scheduler::kCosine;
  double warmup_ratio = 0.03;
  std::optional<int64_t> warmup_steps;  // instead of the ratio
  double cosine_min_lr_ratio = 0.0;
  double max_grad_norm = 1.0;  // <= 0: no clipping
  int64_t seed = 42;
  std::optional<int64_t> data_seed;
  std::optional<double> max_time;  // seconds from the start of the program; then the run saves and stops
};

enum class ComputeDType { kAuto, kFloat32, kBFloat16 };
enum class SavedActivations { kAuto, kNone, kGateUp, kAttention, kBlock, kOffload };
enum class DeviceKind { kAuto, kCpu, kCuda };

struct ComputeOptions {
  DeviceKind device = DeviceKind::kAuto;
  int device_index = 0;
  ComputeDType dtype = ComputeDType::kAuto;  // bf16: auto | true | false
  SavedActivations saved_activations = SavedActivations::kAuto;
  std::optional<uint64_t> gpu_memory_limit;  // bytes of the GPU that the run may take, libraries included
  int threads = 0;                           // 0: all cores this process may use
};

struct EvalOptions {
  std::optional<double> eval_steps;  // >= 1: steps; < 1: fraction of all steps
  std::optional<int64_t> evals_per_epoch;
  bool eval_on_start = true;
  // "eval_loss", "eval_perplexity" or "eval_token_accuracy", of the first set; or "eval_<set>_loss" and so on.
  std::string metric_for_best_model = "eval_loss";
  std::optional<bool> greater_is_better;           // by default true for the accuracy, false for the others
  std::optional<int64_t> early_stopping_patience;  // evaluations in a row without a better one
  double early_stopping_min_delta = 0.0;
  std::optional<double> loss_watchdog_threshold;
  std::vector<std::string> metrics;  // of `phi3-tune eval`, names of config/eval_metrics.h; empty: all
  std::string prompts_path;          // JSONL of prompts that are answered at every evaluation; empty: none
  int64_t max_new_tokens = 128;      // of those answers
  int64_t loss_watchdog_patience = 3;
};

struct SaveOptions {
  std::optional<double> save_steps = 200;  // >= 1: steps; < 1: fraction of all steps; neither this nor the next: at
  std::optional<int64_t> saves_per_epoch;  // the end alone
  int64_t save_total_limit = 3;            // 0: all are kept
  bool save_best = true;
  bool save_on_signal = true;
  bool load_best_model_at_end = false;  // the result is the best checkpoint's adapter, not the last step's
  enum class Resume { kAuto, kNever, kPath } resume = Resume::kAuto;
  std::string resume_path;  // with kPath
};

struct OutputOptions {
  std::string output_dir;
  bool overwrite_output_dir = false;
  std::string run_name;
  int64_t logging_steps = 10;
  enum class Progress { kAuto, kBar, kPlain, kJson, kNone } progress = Progress::kAuto;
};

struct RunOptions {
  ModelOptions model;
  AdapterMethod method = AdapterMethod::kLora;
  LoraOptions lora;
  QuantOptions quant;
  DataOptions data;
  ScheduleOptions schedule;
  ComputeOptions compute;
  EvalOptions eval;
  SaveOptions save;
  OutputOptions output;
  // Every setting as resolved, canonical name -> JSON text, in the table's order: for run.json and `config show`.
  std::vector<std::pair<std::string, std::string>> resolved;
  // Notes worth a line before the run (an alias mapped, split names fused, yes/no read as booleans).
  std::vector<std::string> notes;
};

}  // namespace phi3tune::config
