// What a run was made by: hashes and versions for run.json.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace phi3tune::checkpoint {

// XXH3-128 of a file's bytes, in hexadecimal. Throws ModelError (path, the system's reason).
std::string hash_file(const std::string& path);

// One hash over the running program: its executable and every libphi3tune_*.so that is loaded, in order of name.
std::string program_fingerprint();

// {"phi3-tune", `program_version`}, {"libtorch", "2.11.0"}, {"compiler", "g++ 12.2.0"}.
std::vector<std::pair<std::string, std::string>> versions(const std::string& program_version);

}  // namespace phi3tune::checkpoint
