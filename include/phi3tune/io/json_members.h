// Strict JSON, one member at a time: for objects too large to keep.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "phi3tune/io/json.h"

namespace phi3tune::io {

// Parses one object by the rules of parse_json and hands over its members in order, without keeping them. Whether a
// name comes twice among the members themselves is for `member` to say; what it throws passes through.
using JsonMember = std::function<void(std::string& name, Json& value)>;
[[nodiscard]] bool parse_json_members(std::string_view text, const JsonMember& member, JsonFault& fault,
                                      const JsonLimits& limits = {});

}  // namespace phi3tune::io
