// Jinja chat templates as texts to compare: never executed.
//
// Two templates that differ only in what Jinja itself does not see compare equal: whitespace inside tags, quote style,
// `message.role` for `message['role']`, whitespace control (with trim_blocks and lstrip_blocks on, as transformers sets
// them), text outside tags for a printed literal, neighbouring literals.
#pragma once

#include <string>
#include <string_view>

namespace phi3tune::data {

// The template in one spelling. What is not well-formed Jinja is kept as text.
std::string canonical_jinja(std::string_view text);

// A string as a Jinja literal: quotes and the escapes \\, \', \n, \r, \t.
std::string jinja_literal(std::string_view text);

// Where two canonical texts part: `at` shared bytes, then a few words of each, for a message.
struct JinjaDifference {
  size_t at = 0;
  std::string before;  // the end of what they share
  std::string found;
  std::string wanted;
};
JinjaDifference first_difference(std::string_view found, std::string_view wanted);

}  // namespace phi3tune::data
