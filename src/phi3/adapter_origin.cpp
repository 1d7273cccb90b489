#include "phi3tune/phi3/adapter_origin.h"

#include <filesystem>

#include "phi3tune/config/run_layout.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/log.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/manifest.h"
#include "phi3tune/phi3/adapter_config.h"

namespace phi3tune::phi3 {
namespace {

constexpr const char* kBase = "phi3_tune_base";
constexpr const char* kHeld = "phi3_tune_base_held";  // "nf4 64 double", "nf4 64"

std::optional<HeldInNf4> held_from(const std::string& text) {
  constexpr std::string_view kNf4 = "nf4 ";
  constexpr std::string_view kDouble = " double";
  if (!text.starts_with(kNf4)) {
    return std::nullopt;
  }
  std::string_view rest = std::string_view(text).substr(kNf4.size());
  HeldInNf4 held;
  held.double_quant = rest.ends_with(kDouble);
  rest.remove_suffix(held.double_quant ? kDouble.size() : 0);
  const auto block = parse_int(rest);
  if (!block || *block < 1) {
    return std::nullopt;
  }
  held.block_size = *block;
  return held;
}

// As a setting shows it: a number, or its name.
std::optional<int64_t> read_size(const io::Json& value) {
  return value.is_string()           ? parse_int(value.get<std::string>())
         : value.is_number_integer() ? std::optional(value.get<int64_t>())
                                     : std::nullopt;
}

// The record of the run that a checkpoint's manifest carries.
AdapterOrigin origin_of_checkpoint(const std::string& folder) {
  AdapterOrigin origin;
  const auto facts = io::read_manifest(folder).facts;
  const auto text = [&](const char* pointer) {
    const io::Json::json_pointer at(pointer);
    return facts.contains(at) && facts.at(at).is_string() ? facts.at(at).get<std::string>() : std::string();
  };
  origin.base = text("/record/hashes/base");
  const bool principal = text("/record/settings/lora_init").starts_with("pissa");  // see AdapterOrigin
  if (text("/record/settings/adapter") == "qlora" && !principal) {
    HeldInNf4 held;
    const io::Json::json_pointer nested("/record/settings/bnb_4bit_use_double_quant");
    const io::Json::json_pointer block("/record/settings/quant_block_size");
    held.double_quant = !facts.contains(nested) || facts.at(nested) != false;
    if (const auto size = facts.contains(block) ? read_size(facts.at(block)) : std::nullopt) {
      held.block_size = *size;
    }
    origin.held_in_nf4 = held;
  }
  return origin;
}

}  // namespace

std::map<std::string, std::string> origin_metadata(const AdapterOrigin& origin) {
  std::map<std::string, std::string> metadata{{"format", "pt"}};
  if (!origin.base.empty()) {
    metadata[kBase] = origin.base;
  }
  if (origin.held_in_nf4) {
    metadata[kHeld] =
        fmt::format("nf4 {}{}", origin.held_in_nf4->block_size, origin.held_in_nf4->double_quant ? " double" : "");
  }
  return metadata;
}

AdapterOrigin read_adapter_origin(const std::string& adapter_folder) {
  std::error_code code;
  if (std::filesystem::exists(adapter_folder + "/" + config::kTrainingStateName, code)) {
    try {
      return origin_of_checkpoint(adapter_folder);
    } catch (const CheckpointError& error) {
      log_warning("{}; so nothing says which base the adapter was trained over", error.what());
      return {};
    }
  }
  AdapterOrigin origin;
  try {
    const auto file = io::SafetensorsFile::open(adapter_folder + "/adapter_model.safetensors");
    const auto& metadata = file.header().metadata;
    if (const auto found = metadata.find(kBase); found != metadata.end()) {
      origin.base = found->second;
    }
    if (const auto found = metadata.find(kHeld); found != metadata.end()) {
      origin.held_in_nf4 = held_from(found->second);
    }
  } catch (const ModelError& error) {
    throw CheckpointError(error.what());
  }
  return origin;
}

void require_base(const std::string& adapter_folder, const ModelFolder& base, bool any_base) {
  const auto origin = read_adapter_origin(adapter_folder);
  if (origin.base.empty()) {
    return;
  }
  const auto given = base.fingerprint();
  if (given == origin.base) {
    return;
  }
  const auto name = read_adapter_config(adapter_folder).base_model_name_or_path;
  const auto what = fmt::format("{}: trained over {} (fingerprint {}), and {} is another base (fingerprint {})",
                                adapter_folder, name.empty() ? "a base that it does not name" : one_line(name),
                                one_line(origin.base), base.path(), given);
  if (!any_base) {
    throw CheckpointError(
        "{}; name the base it was trained over; for the same weights in files that were saved again, --any-base takes "
        "it, and lora_any_base: true trains on from it",
        what);
  }
  log_warning("{}; taken all the same, as any base is allowed", what);
}

}  // namespace phi3tune::phi3
