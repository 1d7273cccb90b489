// quant_state.bitsandbytes__nf4, as bitsandbytes' QuantState.as_dict(packed=True) writes it and from_dict reads it.
#include <bit>
#include <cmath>
#include <limits>
#include <string_view>

#include "phi3tune/core/error.h"
#include "phi3tune/core/text.h"
#include "phi3tune/io/json.h"
#include "phi3tune/quant/nf4.h"

namespace phi3tune::quant {
namespace {

using io::Json;

const char* name_of(FloatType type) {
  switch (type) {
    case FloatType::kF32:
      return "float32";
    case FloatType::kBF16:
      return "bfloat16";
    case FloatType::kF16:
      return "float16";
  }
  throw InternalError("internal error: a float type without a name");
}

// As Python prints it: a whole number keeps its ".0".
std::string python_float(double value) {
  std::string text = format_double(value);
  if (text.find_first_of(".eni") == std::string::npos) {
    text += ".0";
  }
  return text;
}

// One member at a time, each fault with its place and name.
class StateReader {
 public:
  StateReader(const Json& state, const std::string& place) : state_(state), place_(place) {}

  bool has(const char* name) const { return state_.contains(name); }

  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    throw ModelError("{}: {}", place_, fmt::format(format, std::forward<Args>(args)...));
  }

  const Json& member(const char* name) const {
    const auto found = state_.find(name);
    if (found == state_.end()) {
      fail("the quantisation state has no \"{}\"; the checkpoint is incomplete", name);
    }
    return *found;
  }

  std::string text(const char* name) const {
    const Json& value = member(name);
    if (!value.is_string()) {
      fail("\"{}\" of the quantisation state is {}, expected a string", name, value.dump());
    }
    return value.get<std::string>();
  }

  int64_t whole(const char* name, const Json& value) const {
    if (!value.is_number_integer() ||
        (value.is_number_unsigned() && value.get<uint64_t>() > std::numeric_limits<int64_t>::max())) {
      fail("\"{}\" of the quantisation state is {}, expected a whole number", name, value.dump());
    }
    return value.get<int64_t>();
  }

  void refuse_unknown() const {
    constexpr std::string_view kKnown[] = {"quant_type",       "blocksize",    "dtype",        "shape",
                                           "nested_blocksize", "nested_dtype", "nested_offset"};
    for (const auto& item : state_.items()) {
      bool known = false;
      for (const std::string_view name : kKnown) {
        known = known || name == item.key();
      }
      if (!known) {
        fail("\"{}\" is not part of a quantisation state of bitsandbytes", item.key());
      }
    }
  }

 private:
  const Json& state_;
  const std::string& place_;
};

Json parse(const std::string& text, const std::string& place) {
  Json state;
  io::JsonFault fault;
  if (!io::parse_json(text, state, fault)) {
    throw ModelError("{}: the quantisation state is not JSON: {} at byte {}", place, fault.what, fault.column);
  }
  if (!state.is_object()) {
    throw ModelError("{}: the quantisation state is {}, expected an object", place, state.type_name());
  }
  return state;
}

FloatType read_source(const StateReader& reader) {
  const std::string name = reader.text("dtype");
  for (const FloatType type : {FloatType::kF32, FloatType::kBF16, FloatType::kF16}) {
    if (name == name_of(type)) {
      return type;
    }
  }
  reader.fail("\"dtype\" of the quantisation state is \"{}\", expected float32, bfloat16 or float16", name);
}

void read_shape(const StateReader& reader, Nf4Tensor& tensor) {
  const Json& shape = reader.member("shape");
  if (!shape.is_array() || shape.size() != 2) {
    reader.fail("\"shape\" of the quantisation state is {}, expected [out_features, in_features]", shape.dump());
  }
  const int64_t rows = reader.whole("shape", shape[0]);
  const int64_t cols = reader.whole("shape", shape[1]);
  constexpr int64_t kLargest = int64_t{1} << 48;
  if (rows <= 0 || cols <= 0 || rows > kLargest / cols) {
    reader.fail("\"shape\" of the quantisation state is {}, expected two sizes above 0", shape.dump());
  }
  if ((tensor.rows != 0 || tensor.cols != 0) && (tensor.rows != rows || tensor.cols != cols)) {
    reader.fail("the quantisation state says shape [{}, {}], expected [{}, {}]", rows, cols, tensor.rows, tensor.cols);
  }
  tensor.rows = rows;
  tensor.cols = cols;
}

void read_nested(const StateReader& reader, Nf4Tensor& tensor) {
  const int64_t block = reader.whole("nested_blocksize", reader.member("nested_blocksize"));
  if (block != kNestedBlock) {
    reader.fail("\"nested_blocksize\" of the quantisation state is {}, expected {}", block, kNestedBlock);
  }
  if (const std::string dtype = reader.text("nested_dtype"); dtype != "float32") {
    reader.fail("\"nested_dtype\" of the quantisation state is \"{}\", expected float32", dtype);
  }
  const Json& offset = reader.member("nested_offset");
  const float value = offset.is_number() ? static_cast<float>(offset.get<double>()) : NAN;
  if (!std::isfinite(value)) {
    reader.fail("\"nested_offset\" of the quantisation state is {}, expected a finite number", offset.dump());
  }
  tensor.offset = value;
}

enum class Missing { kAllowed, kRefused };

void check_sizes(const Nf4Tensor& tensor, const std::string& place, Missing missing) {
  const auto check = [&](const char* what, size_t size, int64_t wanted) {
    if (size != static_cast<size_t>(wanted) && (size != 0 || missing == Missing::kRefused)) {
      throw ModelError("{}: {} has {} values, expected {} for shape [{}, {}]; the checkpoint is damaged", place, what,
                       size, wanted, tensor.rows, tensor.cols);
    }
  };
  const int64_t blocks = tensor.blocks();
  check("the packed weight", tensor.packed.size(), (tensor.numel() + 1) / 2);
  if (tensor.double_quant) {
    check("absmax", tensor.nested_codes.size(), blocks);
    check("nested_absmax", tensor.nested_absmax.size(), (blocks + kNestedBlock - 1) / kNestedBlock);
  } else {
    check("absmax", tensor.absmax.size(), blocks);
  }
}

template <typename Vector>
void check_finite(const std::string& place, const char* what, const Vector& vector) {
  for (size_t i = 0; i < vector.size(); ++i) {
    if (!std::isfinite(vector[i])) {
      throw ModelError("{}: {}[{}] is {}, expected a finite number; the checkpoint is damaged", place, what, i,
                       vector[i]);
    }
  }
}

}  // namespace

std::string quant_state_json(const Nf4Tensor& tensor) {
  std::string text = fmt::format(R"({{"quant_type": "nf4", "blocksize": {}, "dtype": "{}", "shape": [{}, {}])",
                                 tensor.block_size, name_of(tensor.source), tensor.rows, tensor.cols);
  if (tensor.double_quant) {
    text += fmt::format(R"(, "nested_blocksize": {}, "nested_dtype": "float32", "nested_offset": {})", kNestedBlock,
                        python_float(static_cast<double>(tensor.offset)));
  }
  return text + "}";
}

void parse_quant_state(const std::string& text, const std::string& place, Nf4Tensor& tensor) {
  const Json state = parse(text, place);
  const StateReader reader(state, place);
  reader.refuse_unknown();
  if (const std::string type = reader.text("quant_type"); type != "nf4") {
    reader.fail("\"quant_type\" of the quantisation state is \"{}\"; only nf4 can be read: quantise the base anew",
                type);
  }
  tensor.block_size = reader.whole("blocksize", reader.member("blocksize"));
  if (tensor.block_size < 32 || tensor.block_size > 4096 ||
      !std::has_single_bit(static_cast<uint64_t>(tensor.block_size))) {
    reader.fail("\"blocksize\" of the quantisation state is {}, expected a power of two from 32 to 4096",
                tensor.block_size);
  }
  tensor.source = read_source(reader);
  read_shape(reader, tensor);
  tensor.double_quant = reader.has("nested_blocksize") || reader.has("nested_dtype") || reader.has("nested_offset");
  if (tensor.double_quant) {
    read_nested(reader, tensor);
  }
  check_sizes(tensor, place, Missing::kAllowed);
}

void check_nf4(const Nf4Tensor& tensor, const std::string& place) {
  check_sizes(tensor, place, Missing::kRefused);
  check_finite(place, "quant_map", tensor.code);
  check_finite(place, "absmax", tensor.absmax);
  check_finite(place, "nested_absmax", tensor.nested_absmax);
  check_finite(place, "nested_quant_map", tensor.nested_map);
}

}  // namespace phi3tune::quant
