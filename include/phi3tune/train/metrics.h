// What a run says about itself while it goes, and to whom.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace phi3tune::train {

// Known before the first step.
struct RunPlan {
  int64_t rows = 0;  // of one epoch: documents, or packs
  int64_t batches_per_epoch = 0;
  int64_t updates_per_epoch = 0;
  int64_t max_steps = 0;
  int64_t warmup_steps = 0;
  int64_t steps_before = 0;                  // updates that earlier sessions of this run made
  int64_t parameters = 0;                    // trained
  std::vector<std::string> evaluation_sets;  // names
};

struct StepMetrics {
  int64_t step = 0;                // from 1
  double epoch = 0.0;              // epochs done, with the fraction of the running one
  double loss = 0.0;               // weighted mean over the trained tokens of the whole step
  double grad_norm = 0.0;          // before clipping
  double learning_rate = 0.0;      // that this update used
  int64_t trained_tokens = 0;      // of this step
  int64_t tokens = 0;              // of this step, all of them
  double seconds = 0.0;            // this step took
  double tokens_per_second = 0.0;  // tokens / seconds
  // On the CPU the peak resident memory of the process so far (VmHWM); on a GPU the arena and what libraries took.
  uint64_t memory_bytes = 0;
};

struct EvalMetrics {
  std::string name;  // of the set, e.g. "validation"
  int64_t step = 0;  // updates made before it
  double epoch = 0.0;
  double eval_loss = 0.0;       // weighted mean over the trained tokens of the set
  int64_t eval_tokens = 0;      // trained tokens
  double token_accuracy = 0.0;  // share of trained tokens whose largest logit is the target
  double seconds = 0.0;
};

enum class SaveReason {
  kDue,      // save_steps, saves_per_epoch
  kBest,     // the newest evaluation is the best so far
  kAsked,    // SIGUSR1
  kStopped,  // a stop was requested
  kEnd       // the last step was made
};

// A checkpoint that is durable.
struct SaveMetrics {
  int64_t step = 0;
  SaveReason reason = SaveReason::kDue;
  std::string path;
  uint64_t bytes = 0;
  double seconds = 0.0;
  std::vector<int64_t> rotated;  // steps of the checkpoints that went for it
};

enum class TrainStatus { kFinished, kStopped };

struct TrainResult {
  TrainStatus status = TrainStatus::kFinished;
  bool ended_early = false;  // early stopping decided that the last step made was the last
  int64_t steps = 0;         // updates made
  double epoch = 0.0;
  int64_t trained_tokens = 0;  // of all updates
  int64_t tokens = 0;
  double seconds = 0.0;                       // steps and evaluations
  double training_seconds = 0.0;              // steps alone
  double last_loss = 0.0;                     // of the last step
  std::vector<EvalMetrics> first_evaluation;  // one per set; empty where there was none
  std::vector<EvalMetrics> last_evaluation;   // the newest: of a finished run, that at its end
};

// Watches a run. The calls come from the loop's thread, in order; what an observer throws ends the run.
class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  virtual void on_start(const RunPlan&) {}
  // `done` of `all` micro-batches of step number `step` are through.
  virtual void on_micro_batch(int64_t /*step*/, int64_t /*done*/, int64_t /*all*/) {}
  virtual void on_step(const StepMetrics&) {}
  virtual void on_evaluation_batch(const std::string& /*name*/, int64_t /*done*/, int64_t /*all*/) {}
  // The losses of all sets are taken. False: the stop flag was seen before the observer was through with it; the
  // evaluation is then as not made, and a resumed run makes it again.
  virtual bool on_evaluated(int64_t /*step*/) { return true; }
  virtual void on_evaluation(const EvalMetrics&) {}
  virtual void on_save(const SaveMetrics&) {}
  virtual void on_finish(const TrainResult&) {}
};

// Hands everything on to several observers, in order.
class ObserverList final : public TrainObserver {
 public:
  void add(TrainObserver* observer) { observers_.push_back(observer); }
  void on_start(const RunPlan& plan) override;
  void on_micro_batch(int64_t step, int64_t done, int64_t all) override;
  void on_step(const StepMetrics& metrics) override;
  void on_evaluation_batch(const std::string& name, int64_t done, int64_t all) override;
  bool on_evaluated(int64_t step) override;
  void on_evaluation(const EvalMetrics& metrics) override;
  void on_save(const SaveMetrics& metrics) override;
  void on_finish(const TrainResult& result) override;

 private:
  std::vector<TrainObserver*> observers_;
};

}  // namespace phi3tune::train
