// What the values of options are held to; each refuses with what was found and what is wanted.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

namespace phi3tune::cli {

// Written as we would write it: CLI11 reads 010 as 8.
CLI::Validator whole_number(int64_t low, int64_t high);
// As above, any number of 64 bits without a sign: CLI11 would read -1 as 2^64 - 1.
CLI::Validator not_negative();
// Never nan. `or_zero`: 0 means something else and is allowed too.
CLI::Validator number(double low, double high, bool or_zero = false);
CLI::Validator one_of(const std::vector<std::string>& names);

}  // namespace phi3tune::cli
