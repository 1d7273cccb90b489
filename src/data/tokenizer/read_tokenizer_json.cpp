#include <array>
#include <initializer_list>

#include "data/tokenizer/json_field.h"
#include "data/tokenizer/readers.h"

namespace phi3tune::data {
namespace {

constexpr size_t kLargestFile = size_t{32} << 20;
// Phi-4-mini's has 200,000 pieces and 446,000 merges, each of which may be a list of two.
constexpr io::JsonLimits kLimits{.values = 1'750'000};

std::string type_of(const JsonField& field) { return field.member("type").text(); }

// The members of a Sequence, or the thing itself.
std::vector<JsonField> steps_of(const JsonField& field, std::string_view list) {
  std::vector<JsonField> steps;
  if (!field) {
    return steps;
  }
  (void)field.object();
  if (type_of(field) != "Sequence") {
    steps.push_back(field);
    return steps;
  }
  const JsonField members = field.member(list);
  for (size_t i = 0; i < members.array().size(); ++i) {
    steps.push_back(members.item(i));
    (void)steps.back().object();
  }
  return steps;
}

std::string string_pattern(const JsonField& step) {
  const JsonField pattern = step.member("pattern").member("String");
  if (!pattern) {
    step.member("pattern").refuse("a String pattern");
  }
  return pattern.text();
}

void read_vocabulary(const JsonField& field, Vocabulary& vocabulary) {
  const io::Json& pieces = field.object();
  vocabulary.reserve(pieces.size());
  for (const auto& [piece, id] : pieces.items()) {
    const auto place = [&, &name = piece] { return fmt::format("{}[{}]", field.place, json_quoted(name)); };
    if (!id.is_number_integer() || id < 0 || id >= Vocabulary::kIdLimit) {
      (void)JsonField{&id, place()}.integer(0, Vocabulary::kIdLimit - 1);
    }
    const auto number = id.get<int32_t>();
    switch (vocabulary.add(piece, number)) {
      case Vocabulary::Added::kYes:
        break;
      case Vocabulary::Added::kPieceTaken:
        throw ModelError("{}: the piece is there twice", place());
      case Vocabulary::Added::kIdTaken:
        throw ModelError("{}: id {} belongs to the piece {} already", place(), number,
                         json_quoted(vocabulary.piece(number)));
    }
  }
  if (vocabulary.size() == 0) {
    throw ModelError("{}: no pieces", field.place);
  }
}

// "a b" or ["a", "b"].
std::array<std::string_view, 2> merge_halves(const io::Json& merge, const auto& place) {
  const auto text_of = [](const io::Json& value) -> std::string_view { return value.get_ref<const std::string&>(); };
  if (merge.is_array()) {
    if (merge.size() != 2) {
      JsonField{&merge, place()}.refuse("two pieces");
    }
    for (const size_t half : {0, 1}) {
      if (!merge[half].is_string()) {
        (void)JsonField{&merge, place()}.item(half).text();
      }
    }
    return {text_of(merge[0]), text_of(merge[1])};
  }
  const std::string_view text = merge.is_string() ? text_of(merge) : std::string_view();
  const size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
    JsonField{&merge, place()}.refuse(R"("piece piece" or ["piece", "piece"])");
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

bool has_mark_after_other(std::string_view piece) {
  size_t mark = 0;
  while (piece.substr(mark).starts_with(kMark)) {
    mark += kMark.size();
  }
  return piece.find(kMark, mark) != std::string_view::npos;
}

void read_merges(const JsonField& field, TokenizerDefinition& definition) {
  const io::Json& list = field.array();
  definition.merges = MergeTable(list.size());
  uint32_t rank = 0;
  std::string product;
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i].is_string() && list[i].get_ref<const std::string&>().starts_with("#version")) {
      continue;
    }
    const auto place = [&] { return fmt::format("{}[{}]", field.place, i); };
    const auto [left, right] = merge_halves(list[i], place);
    product.assign(left);
    product += right;
    const std::array<std::string_view, 3> names = {left, right, product};
    std::array<int32_t, 3> ids{};
    for (size_t part = 0; part < names.size(); ++part) {
      ids[part] = definition.vocabulary.find(names[part]);
      if (ids[part] < 0) {
        throw ModelError("{}: {} is not a piece of model.vocab", place(), json_quoted(names[part]));
      }
    }
    definition.joins_across_marks = definition.joins_across_marks || has_mark_after_other(product);
    definition.merges.set(ids[0], ids[1], {rank++, ids[2]});
  }
}

void read_model(const JsonField& model, TokenizerDefinition& definition) {
  (void)model.object();
  const JsonField type = model.member("type");
  if (type && type.text() != "BPE") {
    type.refuse("BPE: no other tokenizer model is supported");
  }
  const JsonField dropout = model.member("dropout");
  if (dropout && !(dropout.value->is_number() && dropout.value->get<double>() == 0.0)) {
    dropout.refuse("null: random tokens are not supported");
  }
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const JsonField affix = model.member(key);
    if (affix && !affix.text().empty()) {
      affix.refuse("null: it is not supported");
    }
  }
  definition.fuse_unk = model.member("fuse_unk").boolean(false);
  definition.byte_fallback = model.member("byte_fallback").boolean(false);
  definition.ignore_merges = model.member("ignore_merges").boolean(false);
  read_vocabulary(model.member("vocab"), definition.vocabulary);
  read_merges(model.member("merges"), definition);
  if (const JsonField unk = model.member("unk_token")) {
    definition.unk_id = definition.vocabulary.find(unk.text());
    if (definition.unk_id < 0) {
      unk.refuse("a piece of model.vocab");
    }
    // An unknown character could stand on either side of a mark.
    definition.joins_across_marks = definition.joins_across_marks || unk.text().find(kMark) != std::string::npos;
  }
}

void read_normalizer(const JsonField& field, TokenizerDefinition& definition) {
  for (const JsonField& step : steps_of(field, "normalizers")) {
    const std::string type = type_of(step);
    if (type == "Prepend" && !definition.prepend_mark && !definition.spaces_to_marks) {
      if (step.member("prepend").text() != kMark) {
        step.member("prepend").refuse("\"\xE2\x96\x81\"");
      }
      definition.prepend_mark = true;
    } else if (type == "Replace" && !definition.spaces_to_marks) {
      if (string_pattern(step) != " " || step.member("content").text() != kMark) {
        step.refuse("Replace of \" \" by \"\xE2\x96\x81\"");
      }
      definition.spaces_to_marks = true;
    } else {
      throw ModelError("{}: the normalizer {} is not supported here; supported: Prepend, then Replace", step.place,
                       type);
    }
  }
}

SplitStep read_split(const JsonField& step) {
  SplitStep split;
  const JsonField regex = step.member("pattern").member("Regex");
  if (!regex) {
    step.member("pattern").refuse("a Regex pattern");
  }
  split.pattern.emplace(regex.text(), regex.place);
  const std::string behavior = step.member("behavior").text();
  const bool invert = step.member("invert").boolean(false);
  if (behavior == "Removed") {
    split.keep_matches = invert;
    split.keep_rest = !invert;
  } else if (behavior != "Isolated") {
    step.member("behavior").refuse("Isolated or Removed");
  }
  return split;
}

void read_pre_tokenizer(const JsonField& field, TokenizerDefinition& definition) {
  for (const JsonField& step : steps_of(field, "pretokenizers")) {
    const std::string type = type_of(step);
    if (definition.byte_level) {
      throw ModelError("{}: {} after ByteLevel is not supported", step.place, type);
    }
    if (type == "Split") {
      definition.splits.push_back(read_split(step));
    } else if (type == "Digits") {
      SplitStep split;
      split.kind = step.member("individual_digits").boolean(false) ? SplitStep::Kind::kSingleDigits
                                                                   : SplitStep::Kind::kDigitRuns;
      definition.splits.push_back(std::move(split));
    } else if (type == "ByteLevel") {
      definition.byte_level = true;
      definition.add_prefix_space = step.member("add_prefix_space").boolean(true);
      definition.gpt2_split = step.member("use_regex").boolean(true);
    } else {
      throw ModelError("{}: the pre-tokenizer {} is not supported; supported: Split, Digits, ByteLevel", step.place,
                       type);
    }
  }
  if (field && !definition.byte_level) {
    throw ModelError("{}: a pre-tokenizer without ByteLevel is not supported", field.place);
  }
  if (definition.byte_level && (definition.prepend_mark || definition.spaces_to_marks)) {
    throw ModelError("{}: ByteLevel together with a normalizer is not supported", field.place);
  }
}

void read_decoder(const JsonField& field, TokenizerDefinition& definition) {
  const std::vector<JsonField> steps = steps_of(field, "decoders");
  std::string types;
  for (const JsonField& step : steps) {
    types += (types.empty() ? "" : ", ") + type_of(step);
  }
  if (types == "ByteLevel") {
    definition.decode_byte_level = true;
    return;
  }
  if (types != "Replace, ByteFallback, Fuse" && types != "Replace, ByteFallback, Fuse, Strip") {
    throw ModelError("{}: found {}, wanted ByteLevel, or a Sequence of Replace, ByteFallback, Fuse and Strip",
                     field.place, types.empty() ? "none" : types);
  }
  if (string_pattern(steps[0]) != kMark || steps[0].member("content").text() != " ") {
    steps[0].refuse("Replace of \"\xE2\x96\x81\" by \" \"");
  }
  if (steps.size() == 4) {
    definition.decode_strips_space = true;
    if (steps[3].member("content").text() != " " || steps[3].member("start").integer(0, 1000) != 1 ||
        steps[3].member("stop").integer(0, 1000) != 0) {
      steps[3].refuse("Strip of one space at the start");
    }
  }
}

void read_added_tokens(const JsonField& field, TokenizerDefinition& definition) {
  if (!field) {
    return;
  }
  for (size_t i = 0; i < field.array().size(); ++i) {
    const JsonField entry = field.item(i);
    (void)entry.object();
    AddedToken token;
    token.id = static_cast<int32_t>(entry.member("id").integer(0, Vocabulary::kIdLimit - 1));
    token.content = entry.member("content").text();
    token.lstrip = entry.member("lstrip").boolean(false);
    token.rstrip = entry.member("rstrip").boolean(false);
    token.single_word = entry.member("single_word").boolean(false);
    token.normalized = entry.member("normalized").boolean(false);
    token.special = entry.member("special").boolean(false);
    put_added_token(definition, std::move(token), entry.place);
  }
}

// The piece that TemplateProcessing puts first.
std::optional<std::string> first_special(const JsonField& field) {
  for (const JsonField& step : steps_of(field, "processors")) {
    const JsonField single = step.member("single");
    if (type_of(step) == "TemplateProcessing" && single && single.value->is_array() && !single.value->empty()) {
      if (const JsonField special = single.item(0).member("SpecialToken").member("id")) {
        return special.text();
      }
    }
  }
  return std::nullopt;
}

}  // namespace

TokenizerDefinition read_tokenizer_json(const std::string& path) {
  const io::Json file = io::read_json_file<ModelError>(path, kLargestFile, kLimits);
  const JsonField root{&file, path + ": "};
  (void)root.object();
  TokenizerDefinition definition;
  definition.file = path;
  read_model(root.member("model"), definition);
  read_normalizer(root.member("normalizer"), definition);
  read_pre_tokenizer(root.member("pre_tokenizer"), definition);
  read_decoder(root.member("decoder"), definition);
  read_added_tokens(root.member("added_tokens"), definition);
  definition.post_processor_first = first_special(root.member("post_processor"));
  return definition;
}

}  // namespace phi3tune::data
