#include "phi3tune/model/prequantized.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "phi3tune/core/error.h"

namespace phi3tune::model {
namespace {

class Group {
 public:
  Group(const phi3::ModelFolder& folder, const std::string& name) : folder_(folder), name_(name) {}

  std::string place(const std::string& part) const { return folder_.tensor(name_).file->path() + ": " + name_ + part; }

  template <typename T, typename Values = std::vector<T>>
  Values values(const std::string& part, io::DType dtype, int64_t count) const {
    if (!folder_.has(name_ + part)) {
      throw ModelError("{}: missing; a bitsandbytes NF4 weight needs it: save the quantised model again", place(part));
    }
    const auto located = folder_.tensor(name_ + part);
    if (located.entry->dtype != dtype || (count >= 0 && located.entry->numel() != count)) {
      throw ModelError("{}: found {} values of {}, wanted {} of {}", place(part), located.entry->numel(),
                       io::dtype_name(located.entry->dtype), count, io::dtype_name(dtype));
    }
    const auto bytes = located.data();
    Values out(bytes.size() / sizeof(T));
    std::memcpy(out.data(), bytes.data(), out.size() * sizeof(T));
    located.release();
    return out;
  }

  std::vector<float> finite(const std::string& part, int64_t count) const {
    auto out = values<float>(part, io::DType::kF32, count);
    if (!std::all_of(out.begin(), out.end(), [](float x) { return std::isfinite(x); })) {
      throw ModelError("{}: holds a value that is not finite; the checkpoint is damaged", place(part));
    }
    return out;
  }

 private:
  const phi3::ModelFolder& folder_;
  const std::string& name_;
};

}  // namespace

quant::Nf4Tensor read_prequantized(const phi3::ModelFolder& folder, const std::string& name, int64_t out, int64_t in) {
  const Group group(folder, name);
  const std::string state = ".quant_state.bitsandbytes__nf4";
  quant::Nf4Tensor tensor;
  tensor.rows = out;
  tensor.cols = in;
  const auto text = group.values<char>(state, io::DType::kU8, -1);
  quant::parse_quant_state(std::string(text.begin(), text.end()), group.place(state), tensor);
  if (tensor.rows != out || tensor.cols != in) {
    throw ModelError("{}: shape [{}, {}], wanted [{}, {}] by config.json", group.place(state), tensor.rows, tensor.cols,
                     out, in);
  }
  tensor.packed = group.values<uint8_t, LargeVector<uint8_t>>("", io::DType::kU8, (tensor.numel() + 1) / 2);
  const auto code = group.finite(".quant_map", 16);
  std::copy(code.begin(), code.end(), tensor.code.begin());
  if (!tensor.double_quant) {
    tensor.absmax = group.finite(".absmax", tensor.blocks());
    return tensor;
  }
  tensor.nested_codes = group.values<uint8_t>(".absmax", io::DType::kU8, tensor.blocks());
  tensor.nested_absmax =
      group.finite(".nested_absmax", (tensor.blocks() + quant::kNestedBlock - 1) / quant::kNestedBlock);
  const auto map = group.finite(".nested_quant_map", 256);
  std::copy(map.begin(), map.end(), tensor.nested_map.begin());
  return tensor;
}

}  // namespace phi3tune::model
