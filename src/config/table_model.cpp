#include "config/table.h"

namespace phi3tune::config {

void add_model_settings(SettingList<RunOptions>& list) {
  using O = RunOptions;
  list.section("Model");
  list.add(input_path<O>("base_model", at(&O::model, &ModelOptions::base_model),
                         "Folder of the model to fine-tune, in Hugging Face layout.")
               .also("model_name_or_path", "Hugging Face, LLaMA-Factory")
               .also("model", "Unsloth, ms-swift, mlx-lm")
               .also("checkpoint_dir", "torchtune, LitGPT")
               .must()
               .free_on_resume());
  list.add(input_path<O>("tokenizer_path", at(&O::model, &ModelOptions::tokenizer_path), "Folder of the tokenizer.")
               .also("tokenizer_config", "Axolotl")
               .unset("base_model")
               .free_on_resume());
  std::vector<Named<std::string>> templates{{"auto", {"auto", "tokenizer_default"}}};
  for (const char* name : {"phi_3", "phi_3_first", "phi_3_medium", "phi_35", "phi_4", "phi_4_mini", "chatml"}) {
    templates.push_back({name, {name}});
  }
  templates[1].names.push_back("phi3");
  templates.push_back({"none", {"none"}});
  list.add(choice<O>("chat_template", at(&O::data, &DataOptions::chat_template), templates, {},
                     "How a conversation becomes text; auto: the known template that the model folder's own equals.")
               .also("template", "LLaMA-Factory, ms-swift"));
  list.add(text<O>("default_system_message", at(&O::data, &DataOptions::default_system_message),
                   "System message for conversations that have none.")
               .also("default_system", "LLaMA-Factory")
               .also("system", "ms-swift")
               .unset("none")
               .when("chat_template is not none", {"chat_template"},
                     [](const O& run) { return run.data.chat_template != "none"; }));
  list.add(later<O>("special_tokens", "Other pad and end tokens, and additional special tokens."));
  list.add(later<O>("eot_tokens", "Tokens that end a turn."));
  list.add(later<O>("rope_factor_select", "Which LongRoPE table a batch uses."));
}

}  // namespace phi3tune::config
