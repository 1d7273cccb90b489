// manifest.json: what a folder holds, with length and hash of every file, so that damage is found before anything in
// it is believed.
//
//   {"format": 1, "program": "phi3-tune", "kind": "checkpoint", "facts": {...},
//    "files": {"adapter_config.json": {"bytes": 812, "xxh3_128": "..."}, ...},
//    "checksum": "XXH3-128 of this text with the checksum's digits all 0"}
//
// The text is what manifest_text writes, byte for byte: a file that says the same in other bytes is damaged.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "phi3tune/io/json.h"

namespace phi3tune::io {

inline constexpr const char* kManifestName = "manifest.json";

struct ManifestFile {
  uint64_t bytes = 0;
  std::string hash;  // XXH3-128 in hexadecimal
};

struct Manifest {
  std::string kind;  // "checkpoint"
  Json facts = Json::object();
  std::map<std::string, ManifestFile> files;  // plain names, no folders
};

std::string manifest_text(const Manifest& manifest);

// Length and hash of a file as it is on the disk. Throws CheckpointError (path, the system's reason).
ManifestFile measure_file(const std::string& path);

// Reads and checks folder/manifest.json itself, not the files it lists. Throws CheckpointError: not there, not whole,
// not ours, a name with a slash, no regular file.
Manifest read_manifest(const std::string& folder);

// What is wrong with the files it lists, one fault a text ("<path>: 4096 bytes, the manifest says 8192"): missing, no
// regular file, other length, other bytes. Empty: all are as they were written. Files that it does not list are none of
// its business.
std::vector<std::string> faults_of(const std::string& folder, const Manifest& manifest);

}  // namespace phi3tune::io
