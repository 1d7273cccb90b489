#include "phi3tune/io/manifest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "phi3tune/core/error.h"
#include "phi3tune/core/hash.h"

namespace phi3tune::io {
namespace {

constexpr int kFormat = 1;
constexpr const char* kProgram = "phi3-tune";
constexpr size_t kHashDigits = 32;
constexpr size_t kMostBytes = size_t{16} << 20;
constexpr std::string_view kChecksumKey = "\"checksum\": \"";

// Null where it is; else what is wrong with it as the name of a file inside the folder.
const char* fault_of_name(std::string_view name) {
  if (name.empty() || name == "." || name == "..") {
    return "names no file";
  }
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos) {
    return "is no plain name of a file in this folder";
  }
  return name == kManifestName ? "is the manifest's own name" : nullptr;
}

bool is_hash(std::string_view text) {
  return text.size() == kHashDigits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// The text with this checksum; it is the last member, so its place is known from the end.
std::string text_with(const Manifest& manifest, const std::string& checksum) {
  Json json = Json::object();
  json["format"] = kFormat;
  json["program"] = kProgram;
  json["kind"] = manifest.kind;
  json["facts"] = manifest.facts;
  json["files"] = Json::object();
  for (const auto& [name, file] : manifest.files) {
    json["files"][name] = {{"bytes", file.bytes}, {"xxh3_128", file.hash}};
  }
  json["checksum"] = checksum;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// A regular file, no link, opened to be read.
class Opened {
 public:
  explicit Opened(const std::string& path) : path_(path) {
    // Non-blocking: a pipe nobody writes to must not hang the open.
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (descriptor_ < 0) {
      const int code = errno;
      if (code == ENOENT) {
        throw CheckpointError("{}: there is no such file", path);
      }
      if (code == ELOOP) {
        throw CheckpointError("{}: a link, wanted a regular file", path);
      }
      throw CheckpointError("{}: cannot be read: {}", path, std::strerror(code));
    }
    struct stat status {};
    if (::fstat(descriptor_, &status) != 0) {
      const int code = errno;
      ::close(descriptor_);
      throw CheckpointError("{}: cannot be read: {}", path, std::strerror(code));
    }
    if (!S_ISREG(status.st_mode)) {
      ::close(descriptor_);
      throw CheckpointError("{}: {}, wanted a regular file", path,
                            S_ISDIR(status.st_mode) ? "a folder" : "neither file nor folder");
    }
    bytes_ = static_cast<uint64_t>(status.st_size);
  }
  ~Opened() { ::close(descriptor_); }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;

  uint64_t bytes() const noexcept { return bytes_; }
  size_t read(std::vector<char>& buffer) {
    for (;;) {
      const ssize_t count = ::read(descriptor_, buffer.data(), buffer.size());
      if (count >= 0) {
        return static_cast<size_t>(count);
      }
      if (errno != EINTR) {
        throw CheckpointError("{}: cannot be read: {}", path_, std::strerror(errno));
      }
    }
  }
  ManifestFile measure() {
    StreamHash hash;
    ManifestFile file;
    std::vector<char> buffer(size_t{1} << 20);
    for (size_t count = read(buffer); count > 0; count = read(buffer)) {
      hash.update({buffer.data(), count});
      file.bytes += count;
    }
    file.hash = hash.digest().hex();
    return file;
  }

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t bytes_ = 0;
};

std::string read_whole(const std::string& path) {
  Opened file(path);
  if (file.bytes() > kMostBytes) {
    throw CheckpointError("{}: {} bytes, more than a manifest has", path, file.bytes());
  }
  std::string text;
  std::vector<char> buffer(size_t{64} << 10);
  for (size_t count = file.read(buffer); count > 0 && text.size() <= kMostBytes; count = file.read(buffer)) {
    text.append(buffer.data(), count);
  }
  return text;
}

bool has_members(const Json& json, std::initializer_list<const char*> names) {
  return json.is_object() && json.size() == names.size() &&
         std::all_of(names.begin(), names.end(), [&](const char* name) { return json.contains(name); });
}

}  // namespace

std::string manifest_text(const Manifest& manifest) {
  require(manifest.facts.is_object(), "a manifest's facts are an object");
  for (const auto& [name, file] : manifest.files) {
    require(fault_of_name(name) == nullptr && is_hash(file.hash), "a manifest lists plain names and XXH3-128 hashes");
  }
  const std::string zeros(kHashDigits, '0');
  std::string text = text_with(manifest, zeros);
  text.replace(text.rfind(kChecksumKey) + kChecksumKey.size(), kHashDigits, hash_bytes(text).hex());
  return text;
}

ManifestFile measure_file(const std::string& path) { return Opened(path).measure(); }

Manifest read_manifest(const std::string& folder) {
  const std::string path = folder + "/" + kManifestName;
  const std::string text = read_whole(path);
  Json json;
  JsonFault fault;
  if (!parse_json(text, json, fault)) {
    throw CheckpointError("{}:{}:{}: {}", path, fault.line, fault.column, fault.what);
  }
  if (!has_members(json, {"format", "program", "kind", "facts", "files", "checksum"}) || json["program"] != kProgram) {
    throw CheckpointError("{}: not a manifest that phi3-tune wrote", path);
  }
  if (json["format"] != kFormat) {
    throw CheckpointError("{}: of format {}; this program reads format {}", path, json["format"].dump(), kFormat);
  }
  Manifest manifest;
  if (!json["kind"].is_string() || !json["facts"].is_object() || !json["files"].is_object()) {
    throw CheckpointError("{}: kind is a text, facts and files are objects in a manifest", path);
  }
  manifest.kind = json["kind"].get<std::string>();
  manifest.facts = std::move(json["facts"]);
  for (const auto& [name, entry] : json["files"].items()) {
    if (const char* wrong = fault_of_name(name)) {
      throw CheckpointError("{}: files: {} {}", path, Json(name).dump(), wrong);
    }
    if (!has_members(entry, {"bytes", "xxh3_128"}) || !entry["bytes"].is_number_unsigned() ||
        !entry["xxh3_128"].is_string() || !is_hash(entry["xxh3_128"].get_ref<const std::string&>())) {
      throw CheckpointError("{}: files: {}: wanted a length in bytes and a hash of {} digits", path, Json(name).dump(),
                            kHashDigits);
    }
    manifest.files[name] = {entry["bytes"].get<uint64_t>(), entry["xxh3_128"].get<std::string>()};
  }
  if (manifest_text(manifest) != text) {
    throw CheckpointError("{}: damaged: its text does not agree with its checksum", path);
  }
  return manifest;
}

std::vector<std::string> faults_of(const std::string& folder, const Manifest& manifest) {
  std::vector<std::string> faults;
  for (const auto& [name, wanted] : manifest.files) {
    const std::string path = folder + "/" + name;
    try {
      Opened file(path);
      // The length first: a claim of gigabytes costs nothing.
      const uint64_t bytes = file.bytes();
      if (bytes != wanted.bytes) {
        faults.push_back(fmt::format("{}: {} bytes, the manifest says {}", path, bytes, wanted.bytes));
      } else if (const ManifestFile found = file.measure(); found.hash != wanted.hash || found.bytes != wanted.bytes) {
        faults.push_back(fmt::format("{}: damaged: its bytes are not those that were written", path));
      }
    } catch (const CheckpointError& error) {
      faults.emplace_back(error.what());
    }
  }
  return faults;
}

}  // namespace phi3tune::io
