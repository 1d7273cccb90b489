#include "plan.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

namespace faults {
namespace {

thread_local __attribute__((tls_model("initial-exec"))) int quiet_depth = 0;
std::atomic<bool> in_use{false};

std::string text_of(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

int64_t number_of(const char* name) { return std::atoll(text_of(name).c_str()); }

int error_named(const std::string& name) {
  struct Error {
    const char* name;
    int code;
  };
  for (const Error& error : {Error{"EIO", EIO}, Error{"ENOSPC", ENOSPC}, Error{"EDQUOT", EDQUOT}, Error{"EINTR", EINTR},
                             Error{"ENOMEM", ENOMEM}}) {
    if (name == error.name) {
      return error.code;
    }
  }
  return 0;
}

int open_record(const std::string& path) {
  if (path.empty()) {
    return -1;
  }
  const auto low =
      static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (low < 0) {
    std::fprintf(stderr, "faults: cannot write %s\n", path.c_str());
    std::_Exit(99);
  }
  const int high = ::fcntl(low, F_DUPFD_CLOEXEC, 700);  // away from the numbers that the program sees
  ::syscall(SYS_close, low);
  return high;
}

struct Plan {
  std::string under = text_of("PHI3TUNE_FAULTS_UNDER");
  int64_t at = number_of("PHI3TUNE_FAULTS_AT");
  std::string what = text_of("PHI3TUNE_FAULTS_DO");
  int error = error_named(what);
  bool persist = text_of("PHI3TUNE_FAULTS_PERSIST") == "1";
  std::string calls = text_of("PHI3TUNE_FAULTS_CALLS");
  int trace = open_record(text_of("PHI3TUNE_FAULTS_TRACE"));
  int data = trace < 0 ? -1 : open_record(text_of("PHI3TUNE_FAULTS_TRACE") + ".data");
  int64_t data_size = 0;
  std::mutex mutex;
  int64_t count = 0;
};

Plan& plan() {
  static Plan* const the = new Plan;  // outlives every destructor that still writes
  return *the;
}

// "opendir" and "readdir" are counted only when they are asked for.
bool counted(const std::string& calls, const std::string& name) {
  if (calls.empty()) {
    return name != "opendir" && name != "readdir" && name != "statvfs";
  }
  return ("," + calls + ",").find("," + name + ",") != std::string::npos;
}

bool wants_room(const std::string& name) {
  for (const char* one : {"open", "write", "mkdir", "fsync", "close", "rename", "link", "symlink", "allocate"}) {
    if (name == one) {
      return true;
    }
  }
  return false;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
    }
    if (static_cast<unsigned char>(c) < 0x20) {
      char code[8];
      std::snprintf(code, sizeof(code), "\\u%04x", c);
      out += code;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

void record(Plan& the, const Call& call) {
  if (the.trace < 0) {
    return;
  }
  std::string line =
      "{\"n\":" + std::to_string(the.count) + ",\"call\":" + quoted(call.name) + ",\"path\":" + quoted(call.path);
  if (!call.to.empty()) {
    line += ",\"to\":" + quoted(call.to);
  }
  if (call.made) {
    line += ",\"made\":true";
  }
  if (call.truncated) {
    line += ",\"truncated\":true";
  }
  if (call.offset >= 0) {
    line += ",\"offset\":" + std::to_string(call.offset) + ",\"size\":" + std::to_string(call.size);
  }
  if (call.data != nullptr) {
    line += ",\"data\":" + std::to_string(the.data_size);
    the.data_size += static_cast<int64_t>(call.size);
    ::syscall(SYS_write, the.data, call.data, call.size);
  }
  line += "}\n";
  ::syscall(SYS_write, the.trace, line.data(), line.size());
}

std::string normal(const std::string& path) {
  std::vector<std::string> parts;
  for (size_t at = 0; at < path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    const std::string part = path.substr(at, end - at);
    at = end + 1;
    if (part == ".." && !parts.empty()) {
      parts.pop_back();
    } else if (!part.empty() && part != "." && part != "..") {
      parts.push_back(part);
    }
  }
  std::string out;
  for (const std::string& part : parts) {
    out += "/" + part;
  }
  return out.empty() ? "/" : out;
}

std::string only_below(const std::string& path) {
  const std::string& under = plan().under;
  const bool below = !under.empty() && path.compare(0, under.size(), under) == 0 &&
                     (path.size() == under.size() || path[under.size()] == '/');
  if (below) {
    in_use = true;
  }
  return below ? path : "";
}

std::string path_of(int descriptor) {
  char link[64];
  std::snprintf(link, sizeof(link), "/proc/self/fd/%d", descriptor);
  char target[PATH_MAX];
  const auto size = ::syscall(SYS_readlink, link, target, sizeof(target));
  return size <= 0 ? "" : std::string(target, static_cast<size_t>(size));
}

}  // namespace

Quiet::Quiet() { ++quiet_depth; }
Quiet::~Quiet() { --quiet_depth; }
bool Quiet::now() { return quiet_depth > 0; }

std::string seen_path(int folder, const char* path) {
  if (path == nullptr || plan().under.empty()) {
    return "";
  }
  std::string whole = path;
  if (path[0] != '/') {
    char current[PATH_MAX];
    if (folder != AT_FDCWD) {
      whole = path_of(folder) + "/" + path;
    } else if (::syscall(SYS_getcwd, current, sizeof(current)) > 0) {
      whole = std::string(current) + "/" + path;
    }
  }
  return only_below(normal(whole));
}

std::string seen_path(int descriptor) {
  return descriptor <= STDERR_FILENO || plan().under.empty() ? "" : only_below(path_of(descriptor));
}

bool folder_in_use() { return in_use; }

void die() {
  ::kill(::getpid(), SIGKILL);
  for (;;) {
    ::pause();
  }
}

Verdict judge(const Call& call) {
  Plan& the = plan();
  const std::lock_guard lock(the.mutex);
  if (!counted(the.calls, call.name)) {
    return {};
  }
  ++the.count;
  record(the, call);
  const bool hit = the.at > 0 && (the.count == the.at || (the.persist && the.count > the.at));
  if (!hit) {
    return {};
  }
  const bool writes = std::strcmp(call.name, "write") == 0 && call.size > 1;
  if (the.error != 0) {
    const bool full = the.error == ENOSPC || the.error == EDQUOT;
    const bool spared = full && the.count > the.at && !wants_room(call.name);
    return {.error = spared ? 0 : the.error};
  }
  if (the.what == "short") {
    return {.half = writes};
  }
  if (the.what == "tear" && writes) {
    return {.half = true, .death = true};
  }
  if (the.what == "term" || the.what == "usr1") {
    ::kill(::getpid(), the.what == "term" ? SIGTERM : SIGUSR1);
    return {};
  }
  die();
  return {};
}

}  // namespace faults
