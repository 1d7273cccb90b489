#include "evaluation_sets.h"

#include <filesystem>
#include <set>
#include <span>
#include <string>

namespace phi3tune::commands {

std::vector<train::EvaluationSet> evaluation_sets(const data::Dataset& dataset) {
  const std::span<const data::Example> examples(dataset.validation);
  if (examples.empty()) {
    return {};
  }
  // A split of the training files is one set; so is a single file.
  std::set<uint32_t> training_files;
  for (const auto& example : dataset.train) {
    training_files.insert(example.source.file);
  }
  std::vector<train::EvaluationSet> sets;
  std::set<std::string> names;
  for (size_t begin = 0; begin < examples.size();) {
    const uint32_t file = examples[begin].source.file;
    if (training_files.contains(file)) {
      return {{"validation", examples, &dataset}};
    }
    size_t end = begin;
    while (end < examples.size() && examples[end].source.file == file) {
      ++end;
    }
    auto name = std::filesystem::path(dataset.files[file]).stem().string();
    while (!names.insert(name).second) {
      name += "'";
    }
    sets.push_back({name, examples.subspan(begin, end - begin), &dataset});
    begin = end;
  }
  if (sets.size() == 1) {
    sets[0].name = "validation";
  }
  return sets;
}

}  // namespace phi3tune::commands
