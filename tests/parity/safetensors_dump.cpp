// Reads and writes safetensors files for comparison with the reference library (live_safetensors.py).
//
//   safetensors_dump read < PATHS       one path a line in; one JSON object a line out: the tensors in storage order
//   with
//                                       dtype, shape and hash of the bytes, and the metadata; or {"error": ...}
//   safetensors_dump write < SPECS      one JSON object a line: {"path", "metadata", "tensors": [{"name", "dtype",
//                                       "shape", "seed"}]}; byte i of a tensor is (seed + 131 i) mod 256
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "phi3tune/core/error.h"
#include "phi3tune/core/hash.h"
#include "phi3tune/io/json.h"
#include "phi3tune/io/safetensors.h"

namespace {

using phi3tune::io::DType;
using phi3tune::io::Json;

std::string read(const std::string& path) {
  try {
    const auto file = phi3tune::io::SafetensorsFile::open(path);
    Json json{{"tensors", Json::array()}, {"metadata", Json::object()}};
    for (const auto& entry : file.header().tensors) {
      const auto data = file.data(entry);
      const auto hash = phi3tune::hash_bytes({reinterpret_cast<const char*>(data.data()), data.size()}).hex();
      json["tensors"].push_back({{"name", entry.name},
                                 {"dtype", phi3tune::io::dtype_name(entry.dtype)},
                                 {"shape", entry.shape},
                                 {"hash", hash}});
    }
    for (const auto& [key, value] : file.header().metadata) {
      json["metadata"][key] = value;
    }
    return json.dump();
  } catch (const phi3tune::ModelError& error) {
    return Json{{"error", error.what()}}.dump();
  }
}

DType dtype_of(const std::string& name) {
  for (int i = 0; i <= static_cast<int>(DType::kU64); ++i) {
    if (phi3tune::io::dtype_name(static_cast<DType>(i)) == name) {
      return static_cast<DType>(i);
    }
  }
  throw phi3tune::DataError("no dtype {}", name);
}

void write(const std::string& line) {
  Json spec;
  phi3tune::io::JsonFault fault;
  if (!phi3tune::io::parse_json(line, spec, fault)) {
    throw phi3tune::DataError("a spec: {}", fault.what);
  }
  std::vector<std::vector<std::byte>> contents;
  std::vector<phi3tune::io::TensorToWrite> tensors;
  for (const auto& one : spec["tensors"]) {
    phi3tune::io::TensorToWrite tensor;
    tensor.name = one["name"].get<std::string>();
    tensor.dtype = dtype_of(one["dtype"].get<std::string>());
    tensor.shape = one["shape"].get<std::vector<int64_t>>();
    size_t bytes = phi3tune::io::dtype_size(tensor.dtype);
    for (const auto size : tensor.shape) {
      bytes *= static_cast<size_t>(size);
    }
    auto& data = contents.emplace_back(bytes);
    for (size_t i = 0; i < bytes; ++i) {
      data[i] = static_cast<std::byte>(one["seed"].get<size_t>() + 131 * i);
    }
    tensors.push_back(std::move(tensor));
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].data = contents[i];
  }
  phi3tune::io::write_safetensors(spec["path"].get<std::string>(), tensors,
                                  spec["metadata"].get<std::map<std::string, std::string>>());
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc == 2 ? argv[1] : "";
  if (mode != "read" && mode != "write") {
    std::fputs("usage: safetensors_dump read|write\n", stderr);
    return 2;
  }
  try {
    for (std::string line; std::getline(std::cin, line);) {
      if (mode == "read") {
        std::puts(read(line).c_str());
      } else {
        write(line);
      }
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return 0;
}
