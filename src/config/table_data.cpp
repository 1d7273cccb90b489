#include <fmt/format.h>

#include "config/table.h"

namespace phi3tune::config {
namespace {

using O = RunOptions;

ValueType records_type() { return {.kind = Kind::kRecords, .wanted = "a list of data sets, each with a path"}; }

Setting<O> data_sets(std::string name, std::vector<DatasetOptions> DataOptions::*field, std::string doc) {
  auto setting = row<O>(std::move(name), records_type(), std::move(doc));
  setting.read = [field](const io::YamlNode& node, Reader& reader, O& run) {
    read_datasets(node, reader, run.data.*field);
  };
  setting.show = [field](const O& run) { return show_datasets(run.data.*field); };
  return setting;
}

// Below 1 a fraction, from 1 a count.
Setting<O> val_set_size() {
  const Range range = count_from(0);
  auto setting =
      row<O>("val_set_size",
             {.kind = Kind::kNumber, .range = range, .wanted = "a fraction < 1, or a count of records <= 2147483647"},
             "Records kept for validation, chosen by their content: a fraction, or a count from 1 on.");
  setting.read = [range, wanted = setting.type.wanted](const io::YamlNode& node, Reader& reader, O& run) {
    if (const auto value = reader.number(node, range)) {
      if (*value >= 1 && *value != static_cast<double>(static_cast<int64_t>(*value))) {
        reader.wrong(node, wanted);
        return;
      }
      run.data.val_set_size = *value;
    }
  };
  setting.show = [](const O& run) { return io::Json(run.data.val_set_size); };
  return setting.also("val_size", "LLaMA-Factory")
      .also("split_dataset_ratio", "ms-swift")
      .also("test_split_size", "TRL")
      .also("validation_split_ratio", "surogate")
      .also("val_split_fraction", "LitGPT")
      .one_of("validation");
}

bool packs(const O& run) { return run.data.sample_packing || run.data.eval_sample_packing; }
bool validates(const O& run) { return run.data.val_set_size > 0 || !run.data.test_datasets.empty(); }

void add_lengths(SettingList<O>& list) {
  list.add(integer<O>("sequence_len", at(&O::data, &DataOptions::sequence_len), between(2, 1048576),
                      "Longest example, in tokens.")
               .also("max_length", "TRL, ms-swift")
               .also("max_seq_length", "Unsloth, LitGPT, mlx-lm")
               .also("cutoff_len", "LLaMA-Factory"));
  using Length = ExcessLength;
  list.add(choice<O>("excess_length_strategy", at(&O::data, &DataOptions::excess_length),
                     {{Length::kError, {"error", "raise"}},
                      {Length::kDrop, {"drop", "delete"}},
                      {Length::kTruncatePrompt, {"truncate_prompt"}},
                      {Length::kTruncateEnd, {"truncate_end", "truncate"}},
                      {Length::kSplit, {"split"}}},
                     {}, "What happens to an example longer than sequence_len.")
               .also("truncation_strategy", "ms-swift, surogate"));
  list.add(integer<O>("max_bad_rows", at(&O::data, &DataOptions::max_bad_rows), count_from(0),
                      "Records that may be malformed, too long or without a trained token before the run stops."));
}

void add_packing(SettingList<O>& list) {
  using Strategy = DataOptions::PackingStrategy;
  list.add(boolean<O>("sample_packing", at(&O::data, &DataOptions::sample_packing),
                      "Fill rows of sequence_len with several examples; none attends to another.")
               .also("packing", "TRL, Unsloth, LLaMA-Factory, ms-swift")
               .also("packed", "torchtune")
               .also("neat_packing", "LLaMA-Factory"));
  list.add(
      choice<O>("packing_strategy", at(&O::data, &DataOptions::packing_strategy),
                {{Strategy::kBestFitDecreasing, {"bfd"}}, {Strategy::kSequential, {"sequential"}}}, {},
                "bfd packs densely (best fit, longest first), sequential keeps the order.")
          .when("sample_packing or eval_sample_packing is true", {"sample_packing", "eval_sample_packing"}, packs));
  list.add(boolean<O>("eval_sample_packing", at(&O::data, &DataOptions::eval_sample_packing),
                      "Pack the validation data too.")
               .also("eval_packing", "TRL")
               .when("there is validation data", {"val_set_size", "test_datasets"}, validates));
  list.add(boolean<O>("group_by_length", at(&O::data, &DataOptions::group_by_length),
                      "Put examples of similar length into one batch.")
               .when("sample_packing is false and shuffle is true, as grouping draws the order anew",
                     {"sample_packing", "shuffle"},
                     [](const O& run) { return !run.data.sample_packing && run.data.shuffle; }));
}

}  // namespace

void add_data_settings(SettingList<O>& list) {
  list.section("Data");
  list.add(data_sets("datasets", &DataOptions::datasets, "What to train on.")
               .also("local_dataset", "Unsloth")
               .must()
               .free_on_resume());
  list.add(data_sets("test_datasets", &DataOptions::test_datasets, "What to validate on.")
               .also("eval_dataset", "LLaMA-Factory")
               .also("val_dataset", "ms-swift")
               .also("validation_datasets", "surogate")
               .one_of("validation")
               .free_on_resume());
  list.add(val_set_size());
  list.add(boolean<O>("train_on_inputs", at(&O::data, &DataOptions::train_on_inputs),
                      "Train on the prompts too, not on the answers alone.")
               .also("train_on_prompt", "LLaMA-Factory")
               .also("assistant_only_loss", "TRL", Translation::kInverse)
               .also("completion_only_loss", "TRL", Translation::kInverse)
               .also("train_on_completions", "Unsloth", Translation::kInverse)
               .also("mask_prompt", "mlx-lm, LitGPT", Translation::kInverse));
  add_lengths(list);
  add_packing(list);
  list.add(boolean<O>("shuffle", at(&O::data, &DataOptions::shuffle), "Draw a new order for every epoch."));
  list.add(later<O>("dataset_prepared_path", "Folder of the token cache.")
               .also("tokenized_path", "LLaMA-Factory")
               .also("cached_dataset", "ms-swift"));
  list.add(later<O>("dataset_num_proc", "Threads that tokenize.")
               .also("dataset_processes", "Axolotl")
               .also("preprocessing_num_workers", "LLaMA-Factory"));
}

}  // namespace phi3tune::config
