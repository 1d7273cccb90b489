// lora_layers: which layers get an adapter.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "config/table.h"

namespace phi3tune::config {
namespace {

constexpr Range kLayers = between(0, 65535);

}  // namespace

void read_layers(const io::YamlNode& node, Reader& reader, LoraOptions& lora) {
  using NodeKind = io::YamlNode::Kind;
  lora.layers.clear();
  lora.last_layers.reset();
  if (node.kind == NodeKind::kScalar && node.scalar.starts_with("last:")) {
    auto count = node;
    count.scalar = node.scalar.substr(std::string_view("last:").size());
    lora.last_layers = reader.integer(count, between(1, kLayers.high), "last:N with N layers >= 1");
    return;
  }
  if (node.kind == NodeKind::kScalar && node.scalar.find(',') == std::string::npos) {
    reader.fault(node, fmt::format("found {}; wanted a list of layers from 0, such as [0, 1, 2], or last:N: one number "
                                   "means that layer in PEFT and the last ones in mlx-lm",
                                   found(node)));
    return;
  }
  const auto texts = reader.text_list(node);
  if (!texts) {
    return;
  }
  for (const auto& text : *texts) {
    io::YamlNode item;
    item.kind = NodeKind::kScalar;
    item.position = node.position;
    item.scalar = text;
    if (const auto layer = reader.integer(item, kLayers, "layers from 0, such as [0, 1, 2], or last:N")) {
      lora.layers.push_back(*layer);
    }
  }
  std::sort(lora.layers.begin(), lora.layers.end());
  if (const auto twice = std::adjacent_find(lora.layers.begin(), lora.layers.end()); twice != lora.layers.end()) {
    reader.fault(node, fmt::format("layer {} is listed twice", *twice));
  }
  if (texts->empty()) {
    reader.fault(node, "found an empty list; wanted layers from 0, such as [0, 1, 2], or last:N");
  }
}

io::Json show_layers(const LoraOptions& lora) {
  if (lora.last_layers) {
    return fmt::format("last:{}", *lora.last_layers);
  }
  return lora.layers.empty() ? io::Json(nullptr) : io::Json(lora.layers);
}

}  // namespace phi3tune::config
