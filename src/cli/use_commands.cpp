// The commands that use what was trained.
#include "cli/checks.h"
#include "cli/command_line.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"

namespace phi3tune::cli {

void CommandLine::add_model_options(CLI::App* command, commands::ModelRequest& model, bool needs_adapter) {
  command->add_option("--model", model.model, "Folder of the base model")->type_name("DIR")->required();
  auto* adapter = command
                      ->add_option("--adapter", model.adapter,
                                   "Folder of the adapter: a run's adapter/, one of its "
                                   "checkpoints, or PEFT's")
                      ->type_name("DIR");
  if (needs_adapter) {
    adapter->required();
  }
  command->add_flag("--any-base", model.any_base, "Take an adapter that was trained over another base than --model");
}

void CommandLine::add_compute_options(CLI::App* command, commands::ModelRequest& model) {
  command->add_flag("--load-in-4bit", model.load_in_4bit, "Hold the base in NF4, as QLoRA does");
  command->add_option("--dtype", model.dtype, "auto, float32 or bfloat16: what it computes in")
      ->capture_default_str()
      ->check(one_of({"auto", "float32", "bfloat16"}))
      ->type_name("DTYPE");
  command->add_option("--chat-template", model.chat_template, "Name of the template; auto: the folder's own")
      ->capture_default_str()
      ->type_name("NAME");
  command->add_option("--threads", model.threads, "0: all cores")->capture_default_str()->check(whole_number(0, 4096));
}

void CommandLine::add_generation_options(CLI::App* command, config::GenerationOptions& generation) {
  auto& sampling = generation.sampling;
  command->add_option("--max-new-tokens", generation.max_new_tokens, "An answer's longest")
      ->capture_default_str()
      ->check(whole_number(1, int64_t{1} << 24));
  command->add_option("--temperature", sampling.temperature, "0: greedy, always the likeliest token")
      ->capture_default_str()
      ->check(number(1e-3, 100.0, /*or_zero=*/true));
  command->add_option("--top-p", sampling.top_p, "Of the likeliest tokens that hold this much probability")
      ->capture_default_str()
      ->check(number(1e-6, 1.0));
  command->add_option("--top-k", sampling.top_k, "Of the k likeliest tokens; 0: all")
      ->capture_default_str()
      ->check(whole_number(0, int64_t{1} << 24));
  command->add_option("--min-p", sampling.min_p, "Of tokens at least this likely beside the likeliest")
      ->capture_default_str()
      ->check(number(0.0, 1.0));
  command->add_option("--repetition-penalty", sampling.repetition_penalty, "Above 1: tokens that came before come less")
      ->capture_default_str()
      ->check(number(0.01, 100.0));
  command->add_option("--seed", sampling.seed, "Same seed, same answers")->capture_default_str()->check(not_negative());
}

void CommandLine::add_generate() {
  auto* command = add_command(app_, "generate", "Answer prompts, greedily unless a temperature is given",
                              "phi3-tune generate --model models/Phi-3-mini-4k-instruct --adapter runs/first/adapter "
                              "\"What is a stent?\"");
  add_model_options(command, generate_.model, false);
  add_compute_options(command, generate_.model);
  add_generation_options(command, generate_.generation);
  auto* prompt = command->add_option("prompt", generate_.prompt, "The prompt; -: standard input")->type_name("PROMPT");
  command->add_option("--prompts", generate_.prompts_path, "JSONL: {\"prompt\": text} or {\"messages\": [...]} a line")
      ->type_name("FILE")
      ->excludes(prompt);
  command->add_option("--system", generate_.system, "System message before each prompt")->type_name("TEXT");
  command->add_flag("--raw", generate_.raw, "Continue the prompt's text as it stands, without the chat template");
  command->add_option("--batch-size", generate_.generation.batch_size, "Prompts answered side by side")
      ->capture_default_str()
      ->check(whole_number(1, 4096));
  command->add_flag("--log-probabilities", generate_.generation.log_probabilities, "Of each token; with --json");
  command->callback([this] {
    action_ = [this] {
      if (generate_.prompt.empty() && generate_.prompts_path.empty()) {
        throw ConfigError("no prompt; write one, or name a file with --prompts; see phi3-tune generate --help");
      }
      if (generate_.generation.log_probabilities && !json_) {
        throw ConfigError("--log-probabilities are written with --json alone");
      }
      return commands::run_generate(generate_, json_);
    };
  });
}

void CommandLine::add_chat() {
  auto* command = add_command(app_, "chat", "Talk with a model in the terminal",
                              "phi3-tune chat --model models/Phi-3-mini-4k-instruct --adapter runs/first/adapter");
  add_model_options(command, chat_.model, false);
  add_compute_options(command, chat_.model);
  chat_.generation.max_new_tokens = 1024;
  add_generation_options(command, chat_.generation);
  command->add_option("--system", chat_.system, "System message")->type_name("TEXT");
  command->callback([this] { action_ = [this] { return commands::run_chat(chat_, json_); }; });
}

void CommandLine::add_eval() {
  auto* command = add_command(app_, "eval", "Base and adapter side by side on the validation rows",
                              "phi3-tune eval --config run.yaml");
  add_sources(command);
  auto& request = eval_.request;
  command->add_option("--adapter", request.adapter, "Folder of the adapter; default: output_dir/adapter")
      ->type_name("DIR");
  command->add_flag("--any-base", request.any_base, "Take an adapter that was trained over another base");
  command
      ->add_option("--metrics", request.metrics,
                   "loss, perplexity, token_accuracy, exact_match, f1, rouge_l, bleu, chrf, label_accuracy")
      ->delimiter(',')
      ->type_name("NAME,...")
      ->allow_extra_args(false);
  command->add_option("--samples", request.samples, "Rows of each set that are answered; 0: none")
      ->capture_default_str()
      ->check(whole_number(0, int64_t{1} << 40));
  command->add_option("--max-new-tokens", request.max_new_tokens, "An answer's longest; 0: from the longest reference")
      ->capture_default_str()
      ->check(whole_number(0, int64_t{1} << 24));
  command->add_option("--out", request.out, "Folder of the report; default: output_dir/eval")->type_name("DIR");
  command->callback([this] {
    action_ = [this] {
      eval_.sources = sources_;
      return commands::run_eval(eval_, json_);
    };
  });
}

void CommandLine::add_merge() {
  auto* command =
      add_command(app_, "merge", "Write a model folder with the adapter merged into the weights",
                  "phi3-tune merge --model models/Phi-3-mini-4k-instruct --adapter runs/first/adapter --out "
                  "models/first");
  add_model_options(command, merge_.model, true);
  command->add_option("--out", merge_.out, "Folder to write")->type_name("DIR")->required();
  command->add_option("--dtype", merge_.model.dtype, "float32, bfloat16 or float16; auto: the base's")
      ->capture_default_str()
      ->check(one_of({"auto", "float32", "bfloat16", "float16"}))
      ->type_name("DTYPE");
  command
      ->add_option_function<std::string>(
          "--shard-size",
          [this](const std::string& text) {
            const auto bytes = parse_bytes(text);
            if (!bytes || *bytes == 0) {
              throw ConfigError("--shard-size {}: wanted a size such as 50GB or 5GB", text);
            }
            merge_.shard_size = *bytes;
          },
          "Largest file; default 50GB")
      ->type_name("SIZE");
  command->add_flag("--quantized-base", merge_.quantized_base,
                    "Merge into the base as NF4 holds it, which a QLoRA adapter was trained over");
  auto* verify = command->add_flag_callback(
      "--verify", [this] { merge_.verify = true; },
      "Run the result beside base and adapter, and say how far they differ; done anyway where NF4 is merged");
  command
      ->add_flag_callback(
          "--no-verify", [this] { merge_.verify = false; }, "Leave that out")
      ->excludes(verify);
  command->callback([this] { action_ = [this] { return commands::run_merge(merge_, json_); }; });
}

void CommandLine::add_export() {
  auto* command = add_command(app_, "export", "Write the adapter as other programs read it",
                              "phi3-tune export --adapter runs/first/adapter --format gguf --out first.gguf");
  command->add_option("--adapter", export_.adapter, "Folder of the adapter")->type_name("DIR")->required();
  command->add_option("--model", export_.model, "Folder of the base; default: the one that the adapter names")
      ->type_name("DIR");
  command->add_flag("--any-base", export_.any_base, "Take an adapter that was trained over another base than --model");
  command->add_option("--format", export_.format, "peft-fused, peft-split, gguf or merged")
      ->required()
      ->check(one_of({"peft-fused", "peft-split", "gguf", "merged"}))
      ->type_name("FORMAT");
  command->add_option("--out", export_.out, "Folder, or file with gguf")->type_name("PATH")->required();
  command->add_option("--dtype", export_.dtype, "auto, float32, bfloat16 or float16")
      ->capture_default_str()
      ->check(one_of({"auto", "float32", "bfloat16", "float16"}))
      ->type_name("DTYPE");
  command->callback([this] { action_ = [this] { return commands::run_export(export_, json_); }; });
}

}  // namespace phi3tune::cli
