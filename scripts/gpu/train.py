"""LoRA and QLoRA steps of Phi-3-mini's shape: speed, memory beside the plan, losses beside the CPU's."""
from . import training
from .box import short_gpu
from .training import FULL_LAYERS, MINI, TIMED, TINY, WARM_UP

GOAL_GPU = "h200"  # the GPU that the goals of speed are set for
SPEED_GOALS = {"lora": 34000.0, "qlora": 33000.0}  # tokens/s, 2048 tokens a row, 16384 a micro-batch
SLOWER_AT_MOST = {4096: 0.05, 8192: 0.02, 16384: 0.02}  # QLoRA beside our own LoRA
SMALL_QLORA = 4.2 * 2**30  # QLoRA at 4096 tokens, blocks recomputed, without the CUDA context
MODEL_PER_LAYER, MODEL_REST = 226.5e6, 394e6  # bytes of bf16 weights
LOSS_FP32, LOSS_NOISE = 1e-4, 1e-3  # of the loss: order of fp32 sums; what bf16 may differ where the CPU's bf16 happens to be exact
ARENA_PARTS = ("weights", "dequantisation_scratch", "adapter_and_gradients", "optimizer_moments", "step_control", "activations")


def choose_layers(box, checks, shape, cut):
    """All layers where their folder is there, or is written within a third of the time; else as many as are."""
    if box.rehearse or training.model_folder(box, shape, FULL_LAYERS).is_dir():
        return shape.layers
    rate = (2 * MODEL_PER_LAYER + MODEL_REST) / max(0.1, float((cut / training.SECONDS).read_text(encoding="utf-8")))
    fits = int((box.left() / 3 * rate - MODEL_REST) / MODEL_PER_LAYER)
    if fits >= FULL_LAYERS:
        return FULL_LAYERS
    layers = max(2, min(fits, FULL_LAYERS // 2))
    checks.skipped("the whole depth", f"{layers} of {FULL_LAYERS} layers: weights are written at {rate / 1e6:.0f} MB/s and {box.left():.0f} s are left. "
                   f"The goals of speed want all; `scripts/gpu_check train` alone has more time, and keeps them")
    return layers


def parity(box, checks, shape, folder):
    """A cut of two layers, the same rows: the device's losses beside the CPU's, in fp32 and in bf16."""
    small = shape._replace(sequence=min(shape.sequence, 256))
    base = dict(tokens=2 * small.sequence, steps=4)
    losses = {}
    for name, where, bf16 in (("cpu-fp32", "cpu", False), ("cpu-bf16", "cpu", True), ("device-fp32", training.device(box), False),
                              ("device-bf16", training.device(box), True)):
        values = training.settings(box, small, folder, "lora", **base, device=where, bf16=bf16, learning_rate=1e-3)
        run = training.train(box, f"parity-{name}", values, box.left() / 2)
        if run.error:
            checks.require(f"losses, {name}", False, "a run of 4 steps", run.error)
            return
        losses[name] = run.losses
    checks.data("parity", losses)
    distance = lambda a, b: max(abs(x - y) for x, y in zip(losses[a], losses[b]))
    fp32, bf16, cpu = distance("device-fp32", "cpu-fp32"), distance("device-bf16", "cpu-fp32"), distance("cpu-bf16", "cpu-fp32")
    checks.require("losses in fp32 beside the CPU's", fp32 <= LOSS_FP32, f"<= {LOSS_FP32:g}", f"{fp32:.2g}")
    bound = 2 * cpu + LOSS_NOISE
    checks.require("losses in bf16 beside the CPU's fp32", bf16 <= bound, f"<= {bound:.2g} (twice the CPU's own bf16, and {LOSS_NOISE:g})", f"{bf16:.2g}")


def memory(box, checks, label, run, planned):
    """The arena beside the plan to which it was cut, and the process beside what the plan adds for libraries."""
    if planned is None:
        checks.skipped(f"memory of {label}", "phi3-tune plan told nothing")
        return
    parts = planned["memory"]
    arena = int(run.record["compute"]["arena_bytes"])
    foreseen = sum(parts.get(part, 0) for part in ARENA_PARTS)
    # The plan is made without data: every row is full and trained to its last token but one.
    checks.require(f"arena of {label}", foreseen * 0.97 - 65536 <= arena <= foreseen, f"the plan's {foreseen:,} bytes, or up to 3 % and 64 KiB less", f"{arena:,}")
    counted = "in steps and evaluations: "
    for what in ("allocations", "allocations by libraries"):
        found = run.record["compute"].get(counted + what)
        if found is not None:
            checks.require(f"{what} in the steps of {label}", found == "0", "none: all was taken before step 1", found)
    if run.process:
        share = run.process / parts["total"]
        checks.goal(f"memory of the process, {label}, beside the plan", 0.95 <= share <= 1.05, "within 5 %",
                    f"{run.process / 2**30:.2f} of {parts['total'] / 2**30:.2f} GiB ({share - 1:+.1%})")
        checks.value(f"train: memory {label}, GiB", run.process / 2**30)


def speeds(box, checks, shape, layers, folder, gpu):
    """Every micro-batch with LoRA, then with QLoRA; {(method, tokens): tokens a second}."""
    found = {}
    steps = 3 if box.rehearse else WARM_UP + TIMED
    cases = [(tokens, method) for tokens in reversed(shape.tokens) for method in ("lora", "qlora")]
    for tokens, method in cases:
        label = f"{method} M={tokens}"
        values = training.settings(box, shape, folder, method, tokens, steps)
        planned = training.plan(box, f"{method}-{tokens}", values, gpu)
        if planned and planned.get("fits") is False:
            checks.skipped(label, f"does not fit this GPU: the plan says {planned['memory']['total'] / 2**30:.1f} GiB")
            continue
        if box.left() < 10:
            checks.skipped(label, "no time was left")
            continue
        run = training.train(box, f"{method}-{tokens}", values, box.left())
        if run.error:
            (checks.skipped if run.error.startswith("cut off") else lambda what, why: checks.require(what, False, f"{steps} steps", why))(label, run.error)
            continue
        checks.require(f"{label}: tokens a step", run.tokens == tokens, str(tokens), run.tokens)
        memory(box, checks, label, run, planned)
        if box.rehearse:
            checks.shown(label, f"{run.steps} steps timed, of a tiny shape: they say nothing")
            continue
        found[method, tokens] = run.speed
        tell_speed(checks, label, run, planned, layers)
    return found


def tell_speed(checks, label, run, planned, layers):
    flops = planned["flops_per_token"] if planned else {}
    own = run.speed * (flops["forward"]["total"] + flops["backward"]["total"]) / 1e12 if flops else 0
    modelled = planned and planned.get("time") and planned["time"]["tokens_per_second"]
    checks.shown(f"{label}, {layers} layers: tokens/s", f"{run.speed:.0f} (IQR {run.iqr:.0f} of {run.steps} steps), {own:.0f} TFLOP/s without recomputing",
                 f"{modelled:.0f} by the plan's model" if modelled else "")
    checks.value(f"train: {label}, {layers} layers, tokens/s", run.speed)


def goals(checks, found, layers, gpu):
    for method, wanted in SPEED_GOALS.items():
        speed = found.get((method, 16384))
        if speed is None:
            checks.skipped(f"{method}: tokens/s at M=16384", "was not measured")
        else:
            whole = layers == FULL_LAYERS and gpu == GOAL_GPU
            checks.goal(f"{method}: tokens/s at M=16384", speed >= wanted if whole else None, f">= {wanted:.0f} on an H200, all layers", f"{speed:.0f}, {layers} layers, {gpu}")
    for tokens, most in SLOWER_AT_MOST.items():
        if ("lora", tokens) in found and ("qlora", tokens) in found:
            slower = 1 - found["qlora", tokens] / found["lora", tokens]
            checks.goal(f"QLoRA beside LoRA at M={tokens}", slower <= most, f"at most {most:.0%} slower", f"{slower:+.1%}")


def small(box, checks, shape, layers, folder, gpu):
    """QLoRA with recomputed blocks: what a card with little memory needs."""
    tokens = shape.tokens[0]
    values = training.settings(box, shape, folder, "qlora", tokens, 3 if box.rehearse else WARM_UP + TIMED, gradient_checkpointing="block")
    planned = training.plan(box, "qlora-block", values, gpu)
    run = training.train(box, "qlora-block", values, box.left())
    if run.error:
        checks.skipped(f"QLoRA M={tokens}, blocks recomputed", run.error)
        return
    memory(box, checks, f"qlora M={tokens}, blocks recomputed", run, planned)
    if planned and run.process:
        own = run.process - planned["memory"].get("cuda_context", 0)
        whole = layers == FULL_LAYERS and tokens == 4096
        checks.goal(f"QLoRA at {tokens} tokens without the CUDA context", own <= SMALL_QLORA if whole else None, f"<= {SMALL_QLORA / 2**30:.1f} GiB", f"{own / 2**30:.2f} GiB, {layers} layers")


def run(box, checks):
    wanted = ["phi3-tune"] if box.rehearse else ["phi3-tune", "phi3tune_engine", "phi3tune_cuda"]
    if "phi3-tune" not in box.build(checks, *wanted):
        return
    if box.rehearse:
        checks.shown("in the GPU's place", box.plugin() or "the CPU's back end")
    shape, gpu = (TINY, "") if box.rehearse else (MINI, short_gpu(box.gpu["name"]))
    cut, why = training.model(box, shape, 2)
    if not cut:
        checks.require("two layers of random weights", False, "a model folder", why)
        return
    layers = choose_layers(box, checks, shape, cut)
    folder, why = training.model(box, shape, layers)
    if not folder:
        checks.require("random weights", False, "a model folder", why)
        return
    found = speeds(box, checks, shape._replace(layers=layers), layers, folder, gpu)
    if not box.rehearse:
        goals(checks, found, layers, gpu)
    small(box, checks, shape, layers, folder, gpu)
    parity(box, checks, shape, cut)
