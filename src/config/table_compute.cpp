#include "config/table.h"
#include "phi3tune/core/text.h"

namespace phi3tune::config {
namespace {

using O = RunOptions;

// auto, cpu, cuda or cuda:N.
Setting<O> device() {
  auto type = choice_type({"auto", "cpu", "cuda"}, {});
  type.open = true;
  type.wanted = "auto, cpu, cuda or cuda:N";
  auto setting = row<O>("device", type, "Where to compute; auto: the first GPU that can be used, else the CPU.");
  setting.read = [type](const io::YamlNode& node, Reader& reader, O& run) {
    auto& compute = run.compute;
    compute.device_index = 0;
    if (node.scalar == "auto") {
      compute.device = DeviceKind::kAuto;
    } else if (node.scalar == "cpu") {
      compute.device = DeviceKind::kCpu;
    } else if (node.scalar == "cuda") {
      compute.device = DeviceKind::kCuda;
    } else if (const auto index = node.scalar.starts_with("cuda:") ? parse_int(node.scalar.substr(5)) : std::nullopt;
               index && *index >= 0 && *index < 1024) {
      compute.device = DeviceKind::kCuda;
      compute.device_index = static_cast<int>(*index);
    } else {
      reader.wrong(node, type.wanted);
    }
  };
  setting.show = [](const O& run) {
    switch (run.compute.device) {
      case DeviceKind::kAuto:
        return io::Json("auto");
      case DeviceKind::kCpu:
        return io::Json("cpu");
      case DeviceKind::kCuda:
        break;
    }
    return io::Json("cuda:" + std::to_string(run.compute.device_index));
  };
  return setting;
}

// TRL and Axolotl offload by a switch beside gradient_checkpointing.
Setting<O> activation_offloading() {
  auto setting = row<O>("activation_offloading", {.kind = Kind::kBoolean, .wanted = "true or false"},
                        "Keep each block's input in the host's memory: true is gradient_checkpointing: offload.");
  setting.read = [](const io::YamlNode& node, Reader& reader, O& run) {
    const auto value = reader.boolean(node);
    auto& saved = run.compute.saved_activations;
    if (!value || *value == (saved == SavedActivations::kOffload)) {
      return;
    }
    if (!*value) {
      reader.fault(node,
                   "found false, and gradient_checkpointing is offload; take activation_offloading out, or write "
                   "another gradient_checkpointing");
    } else if (saved == SavedActivations::kAuto || saved == SavedActivations::kBlock) {
      saved = SavedActivations::kOffload;
      reader.note(node, "true is read as gradient_checkpointing: offload");
    } else {
      reader.fault(
          node, "found true, and gradient_checkpointing keeps more than each block's input; take one of the two out");
    }
  };
  setting.show = [](const O& run) { return io::Json(run.compute.saved_activations == SavedActivations::kOffload); };
  return setting.also("enable_activation_offloading", "torchtune").only_for("gradient_checkpointing");
}

Setting<O> gpu_memory_limit() {
  auto setting = row<O>("gpu_memory_limit", {.kind = Kind::kText, .wanted = "a size such as 22GiB"},
                        "Memory of the GPU that the run may take, libraries included; the plan must fit.");
  setting.read = [wanted = setting.type.wanted](const io::YamlNode& node, Reader& reader, O& run) {
    const auto bytes = node.kind == io::YamlNode::Kind::kScalar ? parse_bytes(node.scalar) : std::nullopt;
    if (bytes) {
      run.compute.gpu_memory_limit = *bytes;
    } else {
      reader.wrong(node, wanted);
    }
  };
  setting.show = [](const O& run) {
    const auto& limit = run.compute.gpu_memory_limit;
    return limit ? io::Json(std::to_string(*limit)) : io::Json(nullptr);
  };
  return setting.unset("all that is free").when("device is not cpu", {"device"}, [](const O& run) {
    return run.compute.device != DeviceKind::kCpu;
  });
}

}  // namespace

void add_compute_settings(SettingList<O>& list) {
  using C = ComputeOptions;
  using S = ScheduleOptions;
  list.section("Compute");
  list.add(device().free_on_resume());
  list.add(choice<O>(
      "bf16", at(&O::compute, &C::dtype),
      {{ComputeDType::kAuto, {"auto"}}, {ComputeDType::kBFloat16, {"true"}}, {ComputeDType::kFloat32, {"false"}}},
      {"full"}, "Compute in bfloat16; false: in float32; auto: as the machine does it best."));
  list.add(later<O>("fp16", "Compute in float16."));
  list.add(later<O>("tf32", "Products in TF32."));
  list.add(
      choice<O>("gradient_checkpointing", at(&O::compute, &C::saved_activations),
                {{SavedActivations::kAuto, {"auto"}},
                 {SavedActivations::kNone, {"none", "false"}},
                 {SavedActivations::kGateUp, {"gate_up"}},
                 {SavedActivations::kAttention, {"attention", "selective"}},
                 {SavedActivations::kBlock, {"block", "true"}},
                 {SavedActivations::kOffload, {"offload"}}},
                {"unsloth"},
                "What the backward pass computes again: nothing (none), gate_up_proj (gate_up), qkv_proj and "
                "gate_up_proj (attention), each block from its input (block), or from the host's memory (offload); "
                "auto: the fastest that fits. Results are the same to the bit.")
          .also("grad_checkpoint", "mlx-lm")
          .also("enable_activation_checkpointing", "torchtune")
          .also("disable_gradient_checkpointing", "LLaMA-Factory", Translation::kInverse)
          .free_on_resume());
  list.add(activation_offloading());
  list.add(later<O>("attn_implementation", "Which attention to use.")
               .also("attn_impl", "ms-swift")
               .also("flash_attn", "LLaMA-Factory"));
  list.add(later<O>("chunked_cross_entropy", "Compute the loss in chunks; it always is."));
  list.add(gpu_memory_limit().free_on_resume());
  list.add(integer<O>("threads", at(&O::compute, &C::threads), between(0, 4096),
                      "CPU threads; 0: all cores this process may use.")
               .free_on_resume());
  list.add(integer<O>("seed", at(&O::schedule, &S::seed), between(0, kMostSeed),
                      "Names the run's random choices: same seed, same adapter.")
               .also("random_seed", "Unsloth")
               .also("train_seed", "surogate"));
  list.add(integer<O>("data_seed", at(&O::schedule, &S::data_seed), between(0, kMostSeed), "Seed of the data's order.")
               .unset("seed")
               .when("shuffle is true", {"shuffle"}, [](const O& run) { return run.data.shuffle; }));
  list.add(fixed<O>("deterministic", {"true"}, {"false"}, "Repeat to the bit: the only way this program runs.")
               .also("full_determinism", "Hugging Face"));
}

}  // namespace phi3tune::config
