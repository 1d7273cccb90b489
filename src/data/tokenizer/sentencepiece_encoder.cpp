// A segment gets a mark (U+2581) in front, its spaces become marks, and the whole is one word for BPE.
//
// Where no merge reaches over the border from another character to a mark, the segment falls into parts that cannot
// influence each other ("▁The", "▁cat"), and each is looked up among the parts met before.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "data/tokenizer/segment_encoder.h"
#include "data/tokenizer/unicode.h"
#include "data/tokenizer/unknown_run.h"
#include "phi3tune/core/text.h"

namespace phi3tune::data {
namespace {

class SentencePieceEncoder : public SegmentEncoder {
 public:
  explicit SentencePieceEncoder(TokenizerDefinition& definition)
      : vocabulary_(definition.vocabulary),
        bpe_(std::move(definition.merges)),
        unk_id_(definition.unk_id),
        fuse_unk_(definition.fuse_unk),
        ignore_merges_(definition.ignore_merges),
        prepend_(definition.prepend_mark),
        spaces_to_marks_(definition.spaces_to_marks) {
    for (int32_t id = 0; id < vocabulary_.id_end(); ++id) {
      const std::string_view piece = vocabulary_.piece(id);
      if (!piece.empty() && piece.size() == sequence_length(piece.front())) {
        size_t at = 0;
        const char32_t c = next_code_point(piece, at);
        (c < ascii_.size() ? ascii_[c] : others_[c]) = id;
      }
    }
    const auto mark = others_.find(kMarkCodePoint);
    mark_id_ = mark == others_.end() ? -1 : mark->second;
    if (definition.byte_fallback) {
      for (size_t byte = 0; byte < byte_ids_.size(); ++byte) {
        byte_ids_[byte] = vocabulary_.find(fmt::format("<0x{:02X}>", byte));
      }
    } else {
      byte_ids_.fill(-1);
    }
    // Where unknown characters vanish, what stood around them can meet.
    const bool none_vanish =
        unk_id_ >= 0 || std::all_of(byte_ids_.begin(), byte_ids_.end(), [](int32_t id) { return id >= 0; });
    cuts_at_marks_ = !definition.joins_across_marks && mark_id_ >= 0 && none_vanish;
  }

  void encode(std::string_view text, size_t begin, size_t end, EncodeWorkspace& workspace,
              std::vector<TokenSpan>& out) const override {
    if (ignore_merges_ && encode_whole(text.substr(begin, end - begin), begin, workspace, out)) {
      return;
    }
    bool first = true;
    while (begin < end) {
      const size_t stop = cuts_at_marks_ ? part_end(text, begin, end) : end;
      encode_part(text.substr(begin, stop - begin), first && prepend_, begin, workspace, out);
      begin = stop;
      first = false;
    }
  }

 private:
  static constexpr char32_t kMarkCodePoint = 0x2581;

  size_t mark_length(std::string_view text, size_t at) const {
    if (spaces_to_marks_ && text[at] == ' ') {
      return 1;
    }
    return text[at] == kMark.front() && text.substr(at).starts_with(kMark) ? kMark.size() : 0;
  }

  // Marks, then other characters up to the next mark.
  size_t part_end(std::string_view text, size_t begin, size_t end) const {
    const std::string_view segment = text.substr(0, end);
    size_t at = begin;
    while (at < end) {
      const size_t length = mark_length(segment, at);
      if (length == 0) {
        break;
      }
      at += length;
    }
    while (at < end && mark_length(segment, at) == 0) {
      ++at;
    }
    return at;
  }

  bool encode_whole(std::string_view segment, size_t begin, EncodeWorkspace& workspace,
                    std::vector<TokenSpan>& out) const {
    workspace.text.assign(prepend_ ? kMark : std::string_view());
    for (const char c : segment) {
      if (c == ' ' && spaces_to_marks_) {
        workspace.text += kMark;
      } else {
        workspace.text += c;
      }
    }
    const int32_t id = vocabulary_.find(workspace.text);
    if (id >= 0) {
      out.push_back({id, begin, begin + segment.size()});
    }
    return id >= 0;
  }

  void encode_part(std::string_view part, bool with_mark, size_t begin, EncodeWorkspace& workspace,
                   std::vector<TokenSpan>& out) const {
    const bool kept = cuts_at_marks_ && part.size() <= WordCache::kLongestWord;
    if (kept) {
      if (const WordCache::Hit hit = workspace.cache.find(part, with_mark); hit.data != nullptr) {
        append_symbols(hit.data, hit.size, begin, out);
        return;
      }
    }
    auto& symbols = workspace.symbols;
    symbols.clear();
    UnknownRun unknown(unk_id_, fuse_unk_);
    if (with_mark) {
      add(kMarkCodePoint, 0, unknown, symbols);
    }
    for (size_t at = 0; at < part.size();) {
      const size_t start = at;
      const char32_t c = next_code_point(part, at);
      add(c == ' ' && spaces_to_marks_ ? kMarkCodePoint : c, static_cast<uint32_t>(at - start), unknown, symbols);
    }
    unknown.finish(symbols);
    bpe_.join(symbols, workspace.bpe);
    append_symbols(symbols.data(), symbols.size(), begin, out);
    if (kept) {
      workspace.cache.insert(part, with_mark, symbols);
    }
  }

  // One character that stands for `length` bytes of the text.
  void add(char32_t c, uint32_t length, UnknownRun& unknown, std::vector<Symbol>& symbols) const {
    int32_t id = -1;
    if (c < ascii_.size()) {
      id = ascii_[c];
    } else if (c == kMarkCodePoint) {
      id = mark_id_;
    } else if (const auto found = others_.find(c); found != others_.end()) {
      id = found->second;
    }
    if (id >= 0) {
      unknown.flush(symbols);
      symbols.push_back({id, length});
      return;
    }
    std::string bytes;
    append_utf8(bytes, c);
    const bool known = std::all_of(bytes.begin(), bytes.end(),
                                   [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)] >= 0; });
    if (!known) {
      unknown.add(length, symbols);
      return;
    }
    // Each byte piece takes one byte of the text; a mark made of a space has fewer than pieces.
    for (const char byte : bytes) {
      const uint32_t taken = std::min<uint32_t>(length, 1);
      length -= taken;
      symbols.push_back({byte_ids_[static_cast<unsigned char>(byte)], taken});
    }
  }

  static constexpr std::array<int32_t, 128> all_absent() {
    std::array<int32_t, 128> ids{};
    ids.fill(-1);
    return ids;
  }

  const Vocabulary& vocabulary_;
  Bpe bpe_;
  int32_t unk_id_;
  bool fuse_unk_;
  bool ignore_merges_;
  bool prepend_;
  bool spaces_to_marks_;
  bool cuts_at_marks_ = false;
  std::array<int32_t, 128> ascii_ = all_absent();
  std::unordered_map<char32_t, int32_t> others_;  // characters that are pieces
  int32_t mark_id_ = -1;
  std::array<int32_t, 256> byte_ids_{};
};

}  // namespace

std::unique_ptr<SegmentEncoder> make_sentencepiece_encoder(TokenizerDefinition& definition) {
  return std::make_unique<SentencePieceEncoder>(definition);
}

void append_symbols(const Symbol* symbols, size_t count, size_t begin, std::vector<TokenSpan>& out) {
  for (size_t i = 0; i < count; ++i) {
    const size_t end = begin + symbols[i].length;
    out.push_back({symbols[i].id, begin, end});
    begin = end;
  }
}

}  // namespace phi3tune::data
