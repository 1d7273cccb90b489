// Content hashes: XXH3, 128 bits. They name contents and find damage; they are no defence against an attacker.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace phi3tune {

struct Hash128 {
  uint64_t high = 0;
  uint64_t low = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
  // 32 lower-case hexadecimal digits, high half first.
  std::string hex() const;
};

Hash128 hash_bytes(std::string_view bytes);

// Hash of a stream of bytes: equal to hash_bytes of their concatenation.
class StreamHash {
 public:
  StreamHash();
  ~StreamHash();
  StreamHash(StreamHash&&) noexcept;
  StreamHash& operator=(StreamHash&&) noexcept;
  void update(std::string_view bytes);
  Hash128 digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace phi3tune
