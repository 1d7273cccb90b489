// Pieces and their ids, both ways.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace phi3tune::data {

class Vocabulary {
 public:
  enum class Added { kYes, kPieceTaken, kIdTaken };

  // Ids may leave holes; they are below kIdLimit.
  static constexpr int64_t kIdLimit = int64_t{1} << 22;

  void reserve(size_t pieces);
  [[nodiscard]] Added add(std::string piece, int32_t id);

  // -1 if there is no such piece.
  int32_t find(std::string_view piece) const noexcept;
  bool has(int32_t id) const noexcept;
  // Empty for an id that is not there.
  std::string_view piece(int32_t id) const noexcept;
  size_t size() const noexcept { return ids_.size(); }
  // One more than the largest id.
  int32_t id_end() const noexcept { return static_cast<int32_t>(pieces_.size()); }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const noexcept { return std::hash<std::string_view>{}(text); }
  };
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> ids_;
  std::vector<const std::string*> pieces_;  // by id; the map's keys stay where they are
};

}  // namespace phi3tune::data
