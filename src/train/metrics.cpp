#include "phi3tune/train/metrics.h"

namespace phi3tune::train {

void ObserverList::on_start(const RunPlan& plan) {
  for (TrainObserver* observer : observers_) {
    observer->on_start(plan);
  }
}

void ObserverList::on_micro_batch(int64_t step, int64_t done, int64_t all) {
  for (TrainObserver* observer : observers_) {
    observer->on_micro_batch(step, done, all);
  }
}

void ObserverList::on_step(const StepMetrics& metrics) {
  for (TrainObserver* observer : observers_) {
    observer->on_step(metrics);
  }
}

void ObserverList::on_evaluation_batch(const std::string& name, int64_t done, int64_t all) {
  for (TrainObserver* observer : observers_) {
    observer->on_evaluation_batch(name, done, all);
  }
}

bool ObserverList::on_evaluated(int64_t step) {
  for (TrainObserver* observer : observers_) {
    if (!observer->on_evaluated(step)) {
      return false;
    }
  }
  return true;
}

void ObserverList::on_evaluation(const EvalMetrics& metrics) {
  for (TrainObserver* observer : observers_) {
    observer->on_evaluation(metrics);
  }
}

void ObserverList::on_save(const SaveMetrics& metrics) {
  for (auto* observer : observers_) {
    observer->on_save(metrics);
  }
}

void ObserverList::on_finish(const TrainResult& result) {
  for (TrainObserver* observer : observers_) {
    observer->on_finish(result);
  }
}

}  // namespace phi3tune::train
