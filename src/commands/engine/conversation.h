// A conversation with a model: what was said, and the next answer.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loaded_model.h"
#include "phi3tune/config/options.h"
#include "phi3tune/data/template.h"
#include "phi3tune/generate/generator.h"

namespace phi3tune::commands {

struct Reply {
  std::string text;
  generate::Answer answer;
  size_t prompt_tokens = 0;
  bool no_position_left = false;  // the model's, not --max-new-tokens, ended it
};

class Conversation {
 public:
  // Both must outlive it. Throws ConfigError when the template has no place for the system message.
  Conversation(const OpenedModel& opened, const LoadedModel& loaded, const config::GenerationOptions& options,
               std::optional<std::string> system);

  // Says it and returns the answer, whose text is handed to `show` as it grows; as far as it came it is part of the
  // conversation. Throws DataError when the model has no position left for an answer: then nothing was said.
  Reply say(const std::string& message, const std::function<bool(std::string_view)>& show);

  // Begins again, with this system message. Throws ConfigError as above.
  void reset(std::optional<std::string> system);
  const std::optional<std::string>& system() const noexcept { return system_; }
  size_t turns() const noexcept { return turns_; }
  const generate::Timing& timing() const noexcept { return generator_.timing(); }

  // Adds the conversation to a file of records as training reads them: {"messages": [...]}, a line. The file is whole
  // at every moment. Throws ResourceError, DataError (what stands there is no file of lines).
  void save(const std::string& path) const;

 private:
  const OpenedModel& opened_;
  generate::Generator generator_;
  std::optional<std::string> system_;
  std::vector<data::Message> messages_;
  size_t turns_ = 0;
  uint64_t stream_ = 0;
};

}  // namespace phi3tune::commands
