#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <numeric>

#include "data/tokenizer/json_field.h"
#include "data/tokenizer/readers.h"
#include "data/tokenizer/wire_reader.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/json.h"

namespace phi3tune::data {
namespace {

constexpr size_t kLargestFile = size_t{16} << 20;
constexpr size_t kLongestPiece = 256;
constexpr size_t kMostMerges = size_t{4} << 20;

enum class PieceType : uint64_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

struct Piece {
  std::string_view text;
  float score = 0.0F;
  PieceType type = PieceType::kNormal;
};

// Fields of sentencepiece_model.proto that decide how text is encoded, with its defaults.
struct SentencePieceModel {
  std::string bytes;  // what the pieces' text points into
  std::vector<Piece> pieces;
  uint64_t model_type = 1;  // 1 unigram, 2 BPE
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  bool has_character_map = false;
};

Piece read_piece(std::string_view message, const std::string& path, size_t id) {
  Piece piece;
  WireReader reader(message, path);
  for (WireField field; reader.next(field);) {
    if (field.number == 1 && field.type == 2) {
      piece.text = field.bytes;
    } else if (field.number == 2 && field.type == 5) {
      piece.score = std::bit_cast<float>(static_cast<uint32_t>(field.value));
    } else if (field.number == 3 && field.type == 0) {
      piece.type = static_cast<PieceType>(field.value);
    }
  }
  if (piece.text.empty() || piece.text.size() > kLongestPiece ||
      find_invalid_utf8(piece.text) != std::string_view::npos || std::isnan(piece.score) ||
      piece.type < PieceType::kNormal || piece.type > PieceType::kByte) {
    throw ModelError("{}: piece {} is damaged: wanted 1 to {} bytes of UTF-8, a score and a known type", path, id,
                     kLongestPiece);
  }
  return piece;
}

SentencePieceModel read_file(const std::string& path) {
  SentencePieceModel model;
  model.bytes = io::read_text_file<ModelError>(path, kLargestFile);
  WireReader reader(model.bytes, path);
  for (WireField field; reader.next(field);) {
    if (field.type != 2) {
      continue;
    }
    if (field.number == 1) {
      model.pieces.push_back(read_piece(field.bytes, path, model.pieces.size()));
    } else if (field.number == 2) {  // TrainerSpec
      WireReader trainer(field.bytes, path);
      for (WireField item; trainer.next(item);) {
        if (item.type == 0 && item.number == 3) {
          model.model_type = item.value;
        } else if (item.type == 0 && item.number == 24) {
          model.whitespace_as_suffix = item.value != 0;
        } else if (item.type == 0 && item.number == 35) {
          model.byte_fallback = item.value != 0;
        }
      }
    } else if (field.number == 3) {  // NormalizerSpec
      WireReader normalizer(field.bytes, path);
      for (WireField item; normalizer.next(item);) {
        if (item.type == 2 && item.number == 2) {
          model.has_character_map = !item.bytes.empty();
        } else if (item.type == 0 && item.number == 3) {
          model.add_dummy_prefix = item.value != 0;
        } else if (item.type == 0 && item.number == 4) {
          model.remove_extra_whitespaces = item.value != 0;
        } else if (item.type == 0 && item.number == 5) {
          model.escape_whitespaces = item.value != 0;
        }
      }
    }
  }
  if (model.pieces.empty()) {
    throw ModelError("{}: no pieces in it; it is not a SentencePiece model", path);
  }
  if (model.pieces.size() > static_cast<size_t>(Vocabulary::kIdLimit)) {
    throw ModelError("{}: {} pieces, more than the {} that are supported", path, model.pieces.size(),
                     Vocabulary::kIdLimit);
  }
  return model;
}

void require_supported(const SentencePieceModel& model, const std::string& path) {
  const auto refuse = [&](std::string_view what) {
    throw ModelError("{}: {}; supported: BPE with byte fallback, identity normalisation and a dummy prefix", path,
                     what);
  };
  if (model.model_type != 2) {
    refuse("model_type is not BPE");
  }
  if (!model.byte_fallback) {
    refuse("byte_fallback is off");
  }
  if (model.has_character_map) {
    refuse("the normaliser has a character map");
  }
  if (!model.add_dummy_prefix) {
    refuse("add_dummy_prefix is off");
  }
  if (model.remove_extra_whitespaces) {
    refuse("remove_extra_whitespaces is on");
  }
  if (!model.escape_whitespaces) {
    refuse("escape_whitespaces is off");
  }
  if (model.whitespace_as_suffix) {
    refuse("treat_whitespace_as_suffix is on");
  }
}

// A way to make a piece from two.
struct Cut {
  int32_t left = 0;
  int32_t right = 0;
  int32_t product = 0;
};

// In the order of Phi-3's published tokenizer.json: the product of best score first, its cuts by their pieces' ids.
void derive_merges(const SentencePieceModel& model, TokenizerDefinition& definition) {
  std::vector<Cut> cuts;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const std::string_view text = model.pieces[id].text;
    const size_t first = cuts.size();
    for (size_t at = 0; at < text.size(); (void)next_code_point(text, at)) {
      const int32_t left = at == 0 ? -1 : definition.vocabulary.find(text.substr(0, at));
      const int32_t right = left < 0 ? -1 : definition.vocabulary.find(text.substr(at));
      if (right >= 0) {
        cuts.push_back({left, right, static_cast<int32_t>(id)});
      }
    }
    if (cuts.size() > kMostMerges) {
      throw ModelError("{}: its pieces can be made in more than {} ways, the most that is supported", definition.file,
                       kMostMerges);
    }
    std::sort(cuts.begin() + static_cast<std::ptrdiff_t>(first), cuts.end(),
              [](const Cut& a, const Cut& b) { return std::pair(a.left, a.right) < std::pair(b.left, b.right); });
    if (cuts.size() > first && text.find(kMark, text.find_first_not_of(kMark)) != std::string_view::npos) {
      definition.joins_across_marks = true;
    }
  }
  std::stable_sort(cuts.begin(), cuts.end(), [&](const Cut& a, const Cut& b) {
    return model.pieces[static_cast<size_t>(a.product)].score > model.pieces[static_cast<size_t>(b.product)].score;
  });
  definition.merges = MergeTable(cuts.size());
  for (uint32_t rank = 0; rank < cuts.size(); ++rank) {
    definition.merges.set(cuts[rank].left, cuts[rank].right, {rank, cuts[rank].product});
  }
}

}  // namespace

TokenizerDefinition read_sentencepiece_model(const std::string& path) {
  const SentencePieceModel model = read_file(path);
  require_supported(model, path);
  TokenizerDefinition definition;
  definition.file = path;
  definition.vocabulary.reserve(model.pieces.size());
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    if (definition.vocabulary.add(std::string(piece.text), static_cast<int32_t>(id)) != Vocabulary::Added::kYes) {
      throw ModelError("{}: piece {} repeats the text of an earlier one", path, id);
    }
    if (piece.type == PieceType::kUnknown) {
      if (definition.unk_id >= 0) {
        throw ModelError("{}: piece {} is a second unknown piece", path, id);
      }
      definition.unk_id = static_cast<int32_t>(id);
    }
  }
  if (definition.unk_id < 0) {
    throw ModelError("{}: no unknown piece", path);
  }
  derive_merges(model, definition);
  definition.fuse_unk = true;
  definition.byte_fallback = true;
  definition.prepend_mark = true;
  definition.spaces_to_marks = true;
  definition.decode_strips_space = true;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const PieceType type = model.pieces[id].type;
    if (type == PieceType::kUnknown || type == PieceType::kControl || type == PieceType::kUserDefined) {
      AddedToken token;
      token.id = static_cast<int32_t>(id);
      token.content = model.pieces[id].text;
      token.special = type != PieceType::kUserDefined;
      put_added_token(definition, std::move(token), path);
    }
  }
  return definition;
}

void require_same_pieces(const TokenizerDefinition& definition, const std::string& model_path) {
  const SentencePieceModel model = read_file(model_path);
  const auto differ = [&](const std::string& what) {
    throw ModelError("{} and {} are not of the same tokenizer: {}; fetch both again, or remove one of them",
                     definition.file, model_path, what);
  };
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const std::string_view here = definition.vocabulary.piece(static_cast<int32_t>(id));
    if (here != model.pieces[id].text) {
      differ(fmt::format("id {} is {} in the first and {} in the second", id,
                         here.empty() ? "absent" : json_quoted(here), json_quoted(model.pieces[id].text)));
    }
  }
  if (definition.vocabulary.size() != model.pieces.size()) {
    differ(fmt::format("{} pieces in the first, {} in the second", definition.vocabulary.size(), model.pieces.size()));
  }
}

}  // namespace phi3tune::data
