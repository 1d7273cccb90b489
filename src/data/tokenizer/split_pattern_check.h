// What a split pattern may hold so that PCRE2 and Oniguruma read it alike.
#pragma once

#include <string>
#include <string_view>

namespace phi3tune::data {

// Empty if the pattern is inside the subset, else what is not, e.g. "\\w at character 7".
std::string unsupported_in_pattern(std::string_view pattern);

}  // namespace phi3tune::data
