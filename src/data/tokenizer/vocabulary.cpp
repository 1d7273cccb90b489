#include "data/tokenizer/vocabulary.h"

#include <utility>

namespace phi3tune::data {

void Vocabulary::reserve(size_t pieces) {
  ids_.reserve(pieces);
  pieces_.reserve(pieces);
}

Vocabulary::Added Vocabulary::add(std::string piece, int32_t id) {
  if (has(id)) {
    return Added::kIdTaken;
  }
  const auto [place, inserted] = ids_.emplace(std::move(piece), id);
  if (!inserted) {
    return Added::kPieceTaken;
  }
  if (id >= id_end()) {
    pieces_.resize(static_cast<size_t>(id) + 1);
  }
  pieces_[static_cast<size_t>(id)] = &place->first;
  return Added::kYes;
}

int32_t Vocabulary::find(std::string_view piece) const noexcept {
  const auto place = ids_.find(piece);
  return place == ids_.end() ? -1 : place->second;
}

bool Vocabulary::has(int32_t id) const noexcept {
  return id >= 0 && id < id_end() && pieces_[static_cast<size_t>(id)] != nullptr;
}

std::string_view Vocabulary::piece(int32_t id) const noexcept {
  return has(id) ? std::string_view(*pieces_[static_cast<size_t>(id)]) : std::string_view();
}

}  // namespace phi3tune::data
