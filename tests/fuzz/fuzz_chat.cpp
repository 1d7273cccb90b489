// Conversations through every chat template: regions cover the text in order, contents come through untouched, and the
// tokens and weights of the encoded record go together.
#include <fuzzer/FuzzedDataProvider.h>

#include <array>

#include "fuzz.h"
#include "phi3tune/core/text.h"
#include "phi3tune/data/encoding.h"
#include "phi3tune/data/template.h"
#include "phi3tune/data/tokenizer.h"

namespace {

using namespace phi3tune;
using data::TemplateKind;

// Bytes that are no UTF-8 never come this far: the readers refuse them.
std::string text_from(FuzzedDataProvider& input, size_t longest) {
  std::string text = input.ConsumeRandomLengthString(longest);
  for (size_t bad = 0; (bad = find_invalid_utf8(text)) != std::string::npos;) {
    text[bad] = '?';
  }
  return text;
}

std::vector<data::Message> messages_from(FuzzedDataProvider& input) {
  constexpr std::array kRoles{"system", "user", "assistant", "tool", "narrator"};
  constexpr std::array kMarks{"<|end|>", "<|assistant|>\n", "<s>", "\n", " ", "<|user|>", "<|im_end|>"};
  std::vector<data::Message> messages;
  for (int i = input.ConsumeIntegralInRange(1, 6); i > 0; --i) {
    data::Message message;
    message.role = kRoles[input.ConsumeIntegralInRange<size_t>(0, kRoles.size() - 1)];
    for (int part = input.ConsumeIntegralInRange(0, 3); part > 0; --part) {
      message.content += input.ConsumeBool() ? text_from(input, 20) : input.PickValueInArray(kMarks);
    }
    message.trained = input.ConsumeBool();
    message.weight = input.ConsumeBool() ? 1.0F : 0.5F;
    if (message.role == "system" && input.ConsumeBool()) {
      message.tools = text_from(input, 10);
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

void check_regions(const data::Rendered& rendered, size_t messages) {
  size_t at = 0;
  for (const auto& region : rendered.regions) {
    fuzz::promise(region.begin == at && region.end >= region.begin && region.message < messages,
                  "regions are in order");
    at = region.end;
  }
  fuzz::promise(at == rendered.text.size(), "regions cover the text");
}

void check_encoded(const data::EncodedRecord& encoded) {
  fuzz::promise(encoded.input_ids.size() == encoded.weights.size() && encoded.input_ids.size() == encoded.cuts.size(),
                "each token has a weight and a cut");
  fuzz::promise(encoded.weights.empty() || encoded.weights.front() == 0, "the first token is not trained");
  for (size_t i = 0; i < encoded.weights.size(); ++i) {
    fuzz::promise(encoded.weights[i] == 0 || encoded.cuts[i] == data::Cut::kNever, "a trained token is never cut");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto tokenizer = data::Tokenizer::open(PHI3TUNE_SOURCE_DIR "/tests/references/tokenizers/spm_like");
  FuzzedDataProvider input(data, size);
  const auto kind = static_cast<TemplateKind>(input.ConsumeIntegralInRange(0, static_cast<int>(TemplateKind::kNone)));
  data::EncodeOptions options;
  options.train_on_inputs = input.ConsumeBool();
  options.train_on_eos = static_cast<config::TrainOnEos>(input.ConsumeIntegralInRange(0, 2));
  if (input.ConsumeBool()) {
    options.roles_to_train = {"assistant", "user"};
  }
  if (input.ConsumeBool()) {
    options.default_system_message = text_from(input, 12);
  }
  data::Record record;
  record.messages = messages_from(input);
  const data::ChatTemplate chat(kind, "<|endoftext|>", kind == TemplateKind::kChatMl ? "You help." : "");
  fuzz::reads_or_refuses("", [&] {
    check_regions(chat.render(record.messages, input.ConsumeBool()), record.messages.size());
    check_encoded(data::encode_record(record, tokenizer, chat, options));
  });
  return 0;
}
