// Keys of other fine-tuning tools that have no counterpart here, and names that mean different things in different
// tools. Naming the tool and the way out saves a search.
#include <algorithm>
#include <array>

#include "config/names.h"

namespace phi3tune::config {
namespace {

constexpr std::string_view kNotNeeded = "not needed here, take it out";
constexpr std::string_view kNoNetwork = "this program uses no network and runs no code of a model, take it out";
constexpr std::string_view kTracker = "trackers do not work yet, take it out; the figures are in metrics.jsonl";
constexpr std::string_view kFused = "the loss and its gradient are always computed in chunks, take it out";
constexpr std::string_view kOneProcess = "a run is one process on one device, take it out";
constexpr std::string_view kFlash = "attention is chosen by the program, take it out";
constexpr std::string_view kPacked = "see sample_packing and packing_strategy";
constexpr std::string_view kDataSet = "write datasets: - path: <file, glob or folder>";

constexpr std::string_view kAxolotl = "an Axolotl key";
constexpr std::string_view kTrl = "a TRL key";
constexpr std::string_view kTransformers = "a transformers key";
constexpr std::string_view kPeft = "a PEFT key";
constexpr std::string_view kFactory = "a LLaMA-Factory key";
constexpr std::string_view kSwift = "an ms-swift key";
constexpr std::string_view kUnsloth = "an Unsloth key";
constexpr std::string_view kTorchtune = "a torchtune key";
constexpr std::string_view kLitGpt = "a LitGPT key";
constexpr std::string_view kMlx = "an mlx-lm key";

constexpr ForeignKey kForeignKeys[]{
    // Ambiguous: the same word, another meaning in each tool.
    {"batch_size", "",
     "is the whole step's rows in Axolotl and one pass's in torchtune, mlx-lm and Unsloth; write micro_batch_size "
     "(rows "
     "per pass) or global_batch_size (rows per optimizer step)"},
    {"scale", "", "is lora_alpha / lora_r in mlx-lm; write lora_alpha"},
    {"recompute", "", "means other things in other tools; write gradient_checkpointing"},
    {"loss_scale", "",
     "is a weight per role in ms-swift and a factor against underflow elsewhere; write roles_to_train or a weight per "
     "message in a data set"},
    {"fsdp", "", "asks for several devices in ways that differ by tool; a run here is one process on one device"},
    {"deepspeed", "", "asks for several devices in ways that differ by tool; a run here is one process on one device"},
    {"dataset", "",
     "is a name in LLaMA-Factory, an id in ms-swift and a mapping in torchtune; write datasets: - path:"},
    {"data", "", "is a folder in mlx-lm and a class in LitGPT; write datasets: - path: <file, glob or folder>"},
    {"adapter_path", "", "is the input in surogate and the output in mlx-lm; write lora_model_dir or output_dir"},
    {"lora", "", "is a switch in surogate; write adapter: lora"},
    {"dtype", "", "names the weights' precision in some tools and the computation's in others; write bf16"},
    {"precision", "", "names the weights' precision in some tools and the computation's in others; write bf16"},
    // Short names that no tool's file has, and people write.
    {"lr", "", "is short for learning_rate; write learning_rate"},
    {"min_lr", "", "is a rate in other tools; write cosine_min_lr_ratio, a share of learning_rate"},
    {"warmup", "", "may be steps or a share; write warmup_steps or warmup_ratio"},
    {"batch", "",
     "may be one pass's rows or the whole step's; write micro_batch_size (rows per pass) or global_batch_size (rows "
     "per optimizer step)"},
    {"bs", "", "is short for a batch size; write micro_batch_size (rows per pass) or global_batch_size"},
    {"grad_accum", "", "is short for gradient_accumulation_steps; write that"},
    {"steps", "", "may be trained, saved or logged; write max_steps for the length of the run"},
    {"epoch", "", "is num_epochs here; write num_epochs"},
    {"rank", "", "is lora_r here; write lora_r"},
    {"alpha", "", "is lora_alpha here; write lora_alpha"},
    {"dropout", "", "is lora_dropout here; write lora_dropout"},
    {"seq_len", "", "is sequence_len here; write sequence_len"},
    {"output", "", "is output_dir here; write output_dir"},
    {"method", "", "is adapter here; write adapter: lora or adapter: qlora"},
    // Axolotl
    {"sample_packing_bin_size", kAxolotl, kNotNeeded},
    {"sample_packing_group_size", kAxolotl, kNotNeeded},
    {"sample_packing_sequentially", kAxolotl, kPacked},
    {"multipack_real_batches", kAxolotl, kPacked},
    {"pad_to_sequence_len", kAxolotl, "there is no padding here, take it out"},
    {"model_type", kAxolotl, kNotNeeded},
    {"tokenizer_type", kAxolotl, kNotNeeded},
    {"tokenizer_use_fast", kAxolotl, kNotNeeded},
    {"tokenizer_legacy", kAxolotl, kNotNeeded},
    {"base_model_config", kAxolotl, "config.json of base_model is read, take it out"},
    {"is_llama_derived_model", kAxolotl, kNotNeeded},
    {"revision_of_model", kAxolotl, kNoNetwork},
    {"strict", kAxolotl, "settings are always strict, take it out"},
    {"rl", kAxolotl, "preference tuning does not work yet"},
    {"wandb_project", kAxolotl, kTracker},
    {"wandb_entity", kAxolotl, kTracker},
    {"wandb_watch", kAxolotl, kTracker},
    {"wandb_name", kAxolotl, kTracker},
    {"wandb_run_id", kAxolotl, kTracker},
    {"wandb_log_model", kAxolotl, kTracker},
    {"use_tensorboard", kAxolotl, kTracker},
    {"use_mlflow", kAxolotl, kTracker},
    {"mlflow_tracking_uri", kAxolotl, kTracker},
    {"flash_attention", kAxolotl, kFlash},
    {"flash_attn_cross_entropy", kAxolotl, kFused},
    {"flash_attn_rms_norm", kAxolotl, kNotNeeded},
    {"flash_attn_fuse_qkv", kAxolotl, kNotNeeded},
    {"flash_attn_fuse_mlp", kAxolotl, kNotNeeded},
    {"xformers_attention", kAxolotl, kFlash},
    {"sdp_attention", kAxolotl, kFlash},
    {"s2_attention", kAxolotl, kFlash},
    {"eager_attention", kAxolotl, kFlash},
    {"cut_cross_entropy", kAxolotl, kFused},
    {"plugins", kAxolotl, "there are no plug-ins, take it out"},
    {"liger_rope", kAxolotl, kNotNeeded},
    {"liger_rms_norm", kAxolotl, kNotNeeded},
    {"liger_glu_activation", kAxolotl, kNotNeeded},
    {"liger_swiglu", kAxolotl, kNotNeeded},
    {"liger_fused_linear_cross_entropy", kAxolotl, kFused},
    {"lora_mlp_kernel", kAxolotl, kNotNeeded},
    {"lora_qkv_kernel", kAxolotl, kNotNeeded},
    {"lora_o_kernel", kAxolotl, kNotNeeded},
    {"lora_fan_in_fan_out", kAxolotl, kNotNeeded},
    {"bnb_config_kwargs", kAxolotl, "write bnb_4bit_quant_type and bnb_4bit_use_double_quant"},
    {"gptq", kAxolotl, "GPTQ weights are not read"},
    {"unfrozen_parameters", kAxolotl, "only adapters are trained, take it out"},
    {"bfloat16", kAxolotl, "write bf16"},
    {"float16", kAxolotl, "fp16 does not work yet; write bf16"},
    {"roles", kAxolotl, "roles are user, assistant, system and tool; change the records, take it out"},
    {"do_causal_lm_eval", kAxolotl, "evaluations measure the loss"},
    {"log_peak_memory_stats", kTorchtune, "memory is always in metrics.jsonl, take it out"},
    {"relora_steps", kAxolotl, "ReLoRA is not done here"},
    {"dataset_keep_in_memory", kAxolotl, kNotNeeded},
    {"shuffle_merged_datasets", kAxolotl, "write shuffle"},
    {"remove_unused_columns", kTransformers, kNotNeeded},
    {"eval_table_size", kAxolotl, "write the prompts to be answered at evaluations into a file, eval_prompts"},
    {"eval_causal_lm_metrics", kAxolotl, "evaluations measure the loss"},
    {"chat_template_jinja", kAxolotl, "templates are built in and never executed; write chat_template"},
    {"train_on_eot", kAxolotl, "write train_on_eos in the data set"},
    {"fsdp_config", kAxolotl, kOneProcess},
    {"tensor_parallel_size", kAxolotl, kOneProcess},
    {"context_parallel_size", kAxolotl, kOneProcess},
    {"tokens", kAxolotl, "added tokens do not work yet"},
    {"resize_token_embeddings_to_32x", kAxolotl, kNotNeeded},
    {"torch_compile", kTransformers, kNotNeeded},
    {"debug", kAxolotl, kNotNeeded},
    {"local_rank", kTransformers, kOneProcess},
    {"pretraining_dataset", kAxolotl, kDataSet},
    {"conversation", kAxolotl, "write chat_template beside datasets"},
    {"split", kAxolotl, "a file is read whole; write val_set_size or test_datasets"},
    {"data_files", kAxolotl, "write path: <file, glob or folder>"},
    {"ds_type", kAxolotl, "the kind of file is seen, take it out"},
    {"shards", kAxolotl, "write samples: <count>"},
    {"message_field_role", kAxolotl, "write message_property_mappings: {role: ...}"},
    {"message_field_content", kAxolotl, "write message_property_mappings: {content: ...}"},
    {"message_field_training_detail", kAxolotl, "parts of a message cannot be trained alone"},
    {"drop_system_message", kAxolotl, "change the records, take it out"},
    // transformers and TRL
    {"use_peft", kTrl, "write adapter: lora"},
    {"dataset_name", kTrl, kDataSet},
    {"dataset_config", kTrl, kDataSet},
    {"dataset_train_split", kTrl, kDataSet},
    {"dataset_test_split", kTrl, "write test_datasets: - path:"},
    {"dataset_text_field", kTrl, "write type: completion in the data set; its member is text"},
    {"dataset_kwargs", kTrl, kNotNeeded},
    {"truncation_mode", kTrl, "write excess_length_strategy"},
    {"padding_free", kTrl, "there is no padding here, take it out"},
    {"chat_template_path", kTrl, "templates are built in and never executed; write chat_template"},
    {"model_init_kwargs", kTrl, kNotNeeded},
    {"use_liger_kernel", kTransformers, kNotNeeded},
    {"model_revision", kTrl, kNoNetwork},
    {"trust_remote_code", kTransformers, kNoNetwork},
    {"push_to_hub", kTransformers, kNoNetwork},
    {"hub_model_id", kTransformers, kNoNetwork},
    {"hub_strategy", kTransformers, kNoNetwork},
    {"hub_token", kTransformers, kNoNetwork},
    {"torch_dtype", kTransformers, "the weights keep their precision; write bf16 for the computation"},
    {"lr_scheduler_kwargs", kTransformers, "write cosine_min_lr_ratio"},
    {"optim_args", kTransformers, "write adam_beta1, adam_beta2 and adam_epsilon"},
    {"gradient_checkpointing_kwargs", kTransformers, kNotNeeded},
    {"do_train", kTransformers, kNotNeeded},
    {"do_eval", kTransformers, "write val_set_size or test_datasets"},
    {"logging_strategy", kTransformers, "write logging_steps"},
    {"logging_first_step", kTransformers, kNotNeeded},
    {"logging_dir", kTransformers, "metrics.jsonl is in output_dir, take it out"},
    {"log_level", kTransformers, kNotNeeded},
    {"eval_accumulation_steps", kTransformers, kNotNeeded},
    {"bf16_full_eval", kTransformers, "evaluation computes as training does, take it out"},
    {"dataloader_num_workers", kTransformers, kNotNeeded},
    {"dataloader_pin_memory", kTransformers, kNotNeeded},
    {"dataloader_drop_last", kTransformers, "every record is used, take it out"},
    {"ddp_timeout", kTransformers, kOneProcess},
    {"ddp_find_unused_parameters", kTransformers, kOneProcess},
    {"auto_find_batch_size", kTransformers, "write micro_batch_size"},
    {"average_tokens_across_devices", kTransformers, "the loss is always a mean over tokens, take it out"},
    {"task_type", kPeft, kNotNeeded},
    {"lora_task_type", kTrl, kNotNeeded},
    {"lora_bias", kPeft, "biases are not trained, take it out"},
    {"bias", kPeft, "biases are not trained, take it out"},
    {"fan_in_fan_out", kPeft, kNotNeeded},
    {"layers_pattern", kPeft, kNotNeeded},
    {"layer_replication", kPeft, "layers cannot be repeated, take it out"},
    {"peft_type", kPeft, "write adapter: lora"},
    // LLaMA-Factory
    {"stage", kFactory, "supervised fine-tuning is what this program does, take it out"},
    {"dataset_dir", kFactory, kDataSet},
    {"overwrite_cache", kFactory, "there is no cache, take it out"},
    {"plot_loss", kFactory, kNotNeeded},
    {"use_unsloth", kFactory, kNotNeeded},
    {"use_unsloth_gc", kFactory, kNotNeeded},
    {"enable_liger_kernel", kFactory, kNotNeeded},
    {"pissa_init", kFactory, "write lora_init: pissa"},
    {"mask_history", kFactory, "give the messages of earlier turns the weight 0"},
    {"quantization_method", kFactory, "write bnb_4bit_quant_type"},
    // ms-swift, Unsloth
    {"quant_method", kSwift, "write adapter: qlora"},
    {"model_author", kSwift, kNotNeeded},
    {"model_name", kUnsloth, "write base_model"},
    {"use_gradient_checkpointing", kUnsloth, "write gradient_checkpointing"},
    {"use_loftq", kUnsloth, "loftq does not work yet"},
    {"enable_wandb", kUnsloth, kTracker},
    {"enable_tensorboard", kUnsloth, kTracker},
    // torchtune, LitGPT, mlx-lm
    {"checkpointer", kTorchtune, "write base_model: <folder>"},
    {"tokenizer", kTorchtune, "write base_model or tokenizer_path, and sequence_len for max_seq_len"},
    {"loss", kTorchtune, kFused},
    {"compile", kTorchtune, kNotNeeded},
    {"metric_logger", kTorchtune, kTracker},
    {"max_steps_per_epoch", kTorchtune, "write max_steps, which counts the whole run"},
    {"lora_attn_modules", kTorchtune, "write lora_target_modules"},
    {"apply_lora_to_mlp", kTorchtune, "write lora_target_modules"},
    {"apply_lora_to_output", kTorchtune, "an adapter on lm_head does not work yet"},
    {"dataset_val", kTorchtune, "write test_datasets: - path:"},
    {"optimizer_in_bwd", kTorchtune, kNotNeeded},
    {"profiler", kTorchtune, kNotNeeded},
    {"train", kLitGpt,
     "write its keys at the top: micro_batch_size, num_epochs, max_steps, sequence_len, max_grad_norm"},
    {"eval", kLitGpt, "write its keys at the top: eval_steps, eval_on_start"},
    {"quantize", kLitGpt, "write adapter: qlora"},
    {"lora_query", kLitGpt, "write lora_target_modules: [qkv_proj]"},
    {"lora_key", kLitGpt, "write lora_target_modules: [qkv_proj]"},
    {"lora_value", kLitGpt, "write lora_target_modules: [qkv_proj]"},
    {"lora_projection", kLitGpt, "write lora_target_modules: [o_proj]"},
    {"lora_mlp", kLitGpt, "write lora_target_modules: [gate_up_proj, down_proj]"},
    {"lora_head", kLitGpt, "an adapter on lm_head does not work yet"},
    {"logger_name", kLitGpt, kTracker},
    {"prompt_style", kLitGpt, "write chat_template"},
    {"devices", kLitGpt, kOneProcess},
    {"num_nodes", kLitGpt, kOneProcess},
    {"lora_parameters", kMlx, "write lora_r, lora_alpha (= scale x rank), lora_dropout and lora_target_modules"},
    {"lr_schedule", kMlx, "write lr_scheduler, warmup_steps and cosine_min_lr_ratio"},
    {"optimizer_config", kMlx, "write adam_beta1, adam_beta2, adam_epsilon and weight_decay"},
    {"val_batches", kMlx, "validation reads all its data, take it out"},
};

}  // namespace

const ForeignKey* find_foreign_key(std::string_view name) {
  const auto* end = std::end(kForeignKeys);
  const auto* found = std::find_if(std::begin(kForeignKeys), end, [&](const auto& key) { return key.name == name; });
  return found == end ? nullptr : found;
}

}  // namespace phi3tune::config
