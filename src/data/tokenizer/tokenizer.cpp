#include "phi3tune/data/tokenizer.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <mutex>
#include <unordered_map>

#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/decoder.h"
#include "data/tokenizer/definition.h"
#include "data/tokenizer/readers.h"
#include "data/tokenizer/segment_encoder.h"
#include "phi3/containment.h"
#include "phi3tune/core/error.h"
#include "phi3tune/core/hash.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/json.h"

namespace phi3tune::data {
namespace {

constexpr const char* kJsonFile = "tokenizer.json";
constexpr const char* kModelFile = "tokenizer.model";
// In the order of fingerprint(), which depends on it.
constexpr std::array kFiles = {
    kJsonFile,           kModelFile,           "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "chat_template.jinja"};

// Workspaces wait here between calls; as many exist as calls have ever run at once.
class WorkspacePool {
 public:
  std::unique_ptr<EncodeWorkspace> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        auto workspace = std::move(free_.back());
        free_.pop_back();
        return workspace;
      }
    }
    return std::make_unique<EncodeWorkspace>();
  }
  void give_back(std::unique_ptr<EncodeWorkspace> workspace) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(workspace));
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<EncodeWorkspace>> free_;
};

std::vector<std::string> tokenizer_files(const std::string& folder) {
  std::vector<std::string> paths;
  for (const char* name : kFiles) {
    std::string path = in_folder(folder, name);
    if (file_exists(path)) {
      paths.push_back(std::move(path));
    }
  }
  return paths;
}

// Names and contents; where the folder is does not matter.
std::string hash_of_files(const std::vector<std::string>& paths) {
  StreamHash hash;
  for (const std::string& path : paths) {
    hash.update(std::filesystem::path(path).filename().string());
    hash.update(std::string_view("\0", 1));
    hash.update(hash_bytes(io::read_text_file<ModelError>(path)).hex());
  }
  return hash.digest().hex();
}

AddedTokenMatcher matcher(const std::vector<AddedToken>& tokens, bool normalized) {
  std::vector<AddedToken> chosen;
  std::copy_if(tokens.begin(), tokens.end(), std::back_inserter(chosen),
               [&](const AddedToken& token) { return token.normalized == normalized; });
  return AddedTokenMatcher(chosen);
}

}  // namespace

struct Tokenizer::Impl {
  std::vector<std::string> files;
  std::string fingerprint;
  TokenizerDefinition definition;
  TokenizerConfig config;
  std::unordered_map<int32_t, size_t> added_by_id;  // index into definition.added
  AddedTokenMatcher raw_matcher;
  // Tokens with normalized set are looked for in what the others leave; no normaliser changes the text before.
  AddedTokenMatcher normalized_matcher;
  std::unique_ptr<SegmentEncoder> encoder;
  mutable WorkspacePool workspaces;
  int32_t max_id = 0;

  Impl(const std::string& folder, TokenizerDefinition definition_, TokenizerConfig config_)
      : files(tokenizer_files(folder)),
        fingerprint(hash_of_files(files)),
        definition(std::move(definition_)),
        config(std::move(config_)) {
    raw_matcher = matcher(definition.added, false);
    normalized_matcher = matcher(definition.added, true);
    encoder = definition.byte_level ? make_byte_level_encoder(definition) : make_sentencepiece_encoder(definition);
    max_id = definition.vocabulary.id_end() - 1;
    for (size_t i = 0; i < definition.added.size(); ++i) {
      added_by_id.emplace(definition.added[i].id, i);
      max_id = std::max(max_id, definition.added[i].id);
    }
  }

  std::vector<TokenSpan> encode(std::string_view text) const {
    constexpr size_t kLongest = size_t{1} << 30;  // symbols are counted in 31 bits
    if (text.size() > kLongest) {
      throw DataError("a text of {}; texts up to {} are supported", format_bytes(text.size()), format_bytes(kLongest));
    }
    std::vector<TokenSpan> tokens;
    tokens.reserve(text.size() / 4 + 8);
    std::vector<Stretch> stretches;
    raw_matcher.split(text, stretches);
    auto workspace = workspaces.take();
    for (const Stretch& stretch : stretches) {
      if (stretch.id >= 0) {
        tokens.push_back({stretch.id, stretch.begin, stretch.end});
      } else if (normalized_matcher.empty()) {
        encoder->encode(text, stretch.begin, stretch.end, *workspace, tokens);
      } else {
        encode_normalized(text, stretch, *workspace, tokens);
      }
    }
    workspaces.give_back(std::move(workspace));
    return tokens;
  }

  void encode_normalized(std::string_view text, const Stretch& stretch, EncodeWorkspace& workspace,
                         std::vector<TokenSpan>& tokens) const {
    std::vector<Stretch> parts;
    normalized_matcher.split(text.substr(stretch.begin, stretch.end - stretch.begin), parts);
    for (const Stretch& part : parts) {
      const size_t begin = stretch.begin + part.begin;
      const size_t end = stretch.begin + part.end;
      if (part.id >= 0) {
        tokens.push_back({part.id, begin, end});
      } else {
        encoder->encode(text, begin, end, workspace, tokens);
      }
    }
  }

  const AddedToken* added(int32_t id) const {
    const auto found = added_by_id.find(id);
    return found == added_by_id.end() ? nullptr : &definition.added[found->second];
  }
};

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::open(const std::string& folder) {
  const std::string json = in_folder(folder, kJsonFile);
  const std::string model = in_folder(folder, kModelFile);
  const bool has_json = file_exists(json);
  const bool has_model = file_exists(model);
  if (!has_json && !has_model) {
    throw ModelError(
        "{}: neither {} nor {} is there; copy one of them, with tokenizer_config.json, from the base model", folder,
        kJsonFile, kModelFile);
  }
  for (const char* name : kFiles) {
    phi3::require_inside(folder, in_folder(folder, name));
  }
  TokenizerDefinition definition = has_json ? read_tokenizer_json(json) : read_sentencepiece_model(model);
  if (has_json && has_model) {
    require_same_pieces(definition, model);
  }
  std::error_code ignored;
  std::filesystem::path absolute = std::filesystem::absolute(folder, ignored);
  TokenizerConfig config = read_tokenizer_config(folder, definition, !has_json);
  return Tokenizer(
      std::make_unique<Impl>(ignored ? folder : absolute.string(), std::move(definition), std::move(config)));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  const std::vector<TokenSpan> tokens = impl_->encode(text);
  std::vector<int32_t> ids(tokens.size());
  std::transform(tokens.begin(), tokens.end(), ids.begin(), [](const TokenSpan& token) { return token.id; });
  return ids;
}

std::vector<TokenSpan> Tokenizer::encode_with_spans(std::string_view text) const {
  std::vector<TokenSpan> tokens = impl_->encode(text);
  // Text that gives no token (a byte without a piece, what a split removes) belongs to the token before, or to the
  // first.
  size_t end = text.size();
  for (size_t i = tokens.size(); i-- > 0;) {
    tokens[i].end = end;
    end = tokens[i].begin;
  }
  if (!tokens.empty()) {
    tokens.front().begin = 0;
  }
  return tokens;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  std::vector<std::string_view> pieces;
  pieces.reserve(ids.size());
  for (const int32_t id : ids) {
    const AddedToken* added = impl_->added(id);
    if (added != nullptr) {
      if (!skip_special_tokens || !added->special) {
        pieces.push_back(added->content);
      }
    } else if (impl_->definition.vocabulary.has(id)) {
      pieces.push_back(impl_->definition.vocabulary.piece(id));
    }
  }
  return impl_->definition.decode_byte_level ? decode_byte_level(pieces)
                                             : decode_sentencepiece(pieces, impl_->definition.decode_strips_space);
}

std::string Tokenizer::token_text(int32_t id) const {
  if (const AddedToken* added = impl_->added(id)) {
    return added->content;
  }
  const std::string_view piece = impl_->definition.vocabulary.piece(id);
  return impl_->definition.decode_byte_level ? show_byte_level(piece) : show_sentencepiece(piece);
}

std::optional<int32_t> Tokenizer::token_id(std::string_view piece) const {
  for (const AddedToken& token : impl_->definition.added) {
    if (token.content == piece) {
      return token.id;
    }
  }
  const int32_t id = impl_->definition.vocabulary.find(piece);
  return id < 0 ? std::nullopt : std::optional(id);
}

std::span<const AddedToken> Tokenizer::added_tokens() const noexcept { return impl_->definition.added; }
int32_t Tokenizer::max_id() const noexcept { return impl_->max_id; }
std::optional<int32_t> Tokenizer::bos_id() const noexcept { return impl_->config.bos_id; }
std::optional<int32_t> Tokenizer::eos_id() const noexcept { return impl_->config.eos_id; }
std::optional<int32_t> Tokenizer::pad_id() const noexcept { return impl_->config.pad_id; }
bool Tokenizer::add_bos_token() const noexcept { return impl_->config.add_bos_token; }
const std::optional<std::string>& Tokenizer::chat_template() const noexcept { return impl_->config.chat_template; }

std::vector<std::string> Tokenizer::files() const { return impl_->files; }
std::string Tokenizer::fingerprint() const { return impl_->fingerprint; }

}  // namespace phi3tune::data
