// Protocol buffer messages, field by field; nothing outside the message is ever read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "phi3tune/core/error.h"

namespace phi3tune::data {

// One field of a protocol buffer message.
struct WireField {
  uint32_t number = 0;
  uint32_t type = 0;       // 0 varint, 1 eight bytes, 2 bytes, 5 four bytes
  uint64_t value = 0;      // for 0, 1, 5
  std::string_view bytes;  // for 2
};

// `path` is for errors: a damaged message throws ModelError. Both views outlive the reader.
class WireReader {
 public:
  WireReader(std::string_view message, const std::string& path) : message_(message), path_(path) {}

  bool next(WireField& field) {
    if (at_ == message_.size()) {
      return false;
    }
    const uint64_t key = varint();
    field = {static_cast<uint32_t>(key >> 3), static_cast<uint32_t>(key & 7), 0, {}};
    if (key >> 3 == 0 || key >> 3 > 0x1FFFFFFF) {
      damaged();
    }
    switch (field.type) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed(8);
        break;
      case 2: {
        const uint64_t length = varint();
        if (length > message_.size() - at_) {
          damaged();
        }
        field.bytes = message_.substr(at_, length);
        at_ += length;
        break;
      }
      case 5:
        field.value = fixed(4);
        break;
      default:
        damaged();
    }
    return true;
  }

 private:
  [[noreturn]] void damaged() const {
    throw ModelError("{}: not a SentencePiece model, or a damaged one; fetch the file again", path_);
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (at_ == message_.size()) {
        damaged();
      }
      const auto byte = static_cast<unsigned char>(message_[at_++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) {
        return value;
      }
    }
    damaged();
  }
  uint64_t fixed(size_t bytes) {
    if (message_.size() - at_ < bytes) {
      damaged();
    }
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; ++i) {
      value |= static_cast<uint64_t>(static_cast<unsigned char>(message_[at_ + i])) << (8 * i);
    }
    at_ += bytes;
    return value;
  }

  std::string_view message_;
  size_t at_ = 0;
  const std::string& path_;
};

}  // namespace phi3tune::data
