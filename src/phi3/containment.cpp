#include "phi3/containment.h"

#include <algorithm>
#include <filesystem>

#include "phi3tune/core/error.h"

namespace phi3tune::phi3 {
namespace {

bool is_below(const std::filesystem::path& folder, const std::filesystem::path& path) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

}  // namespace

bool is_bare_name(std::string_view name) noexcept {
  return !name.empty() && name != "." && name != ".." && std::none_of(name.begin(), name.end(), [](char c) {
    return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20 || c == 0x7F;
  });
}

bool lies_inside(const std::string& folder, const std::string& path) {
  std::error_code code;
  const auto real_folder = std::filesystem::canonical(folder, code);
  if (code) {
    return false;
  }
  const auto real_path = std::filesystem::canonical(path, code);
  if (code) {
    return false;
  }
  if (is_below(real_folder, real_path)) {
    return true;
  }
  return real_folder.parent_path().filename() == "snapshots" &&
         is_below(real_folder.parent_path().parent_path() / "blobs", real_path);
}

bool leads_out(const std::string& folder, const std::string& path) {
  std::error_code code;
  return std::filesystem::exists(path, code) && !lies_inside(folder, path);
}

void require_inside(const std::string& folder, const std::string& path) {
  if (leads_out(folder, path)) {
    throw ModelError("{}: a link that leads out of the folder; copy the file into the folder", path);
  }
}

bool is_pickle_name(const std::string& name) {
  const auto extension = std::filesystem::path(name).extension().string();
  return extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt" ||
         extension == ".pkl" || extension == ".pickle";
}

}  // namespace phi3tune::phi3
