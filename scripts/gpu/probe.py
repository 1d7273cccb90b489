"""Matrix products, attention, dequantising and element-wise kernels, timed one by one through the plug-in's table."""
import json

from .box import last_line, short_gpu

# Assumptions of the time model and of `phi3-tune plan --gpu h200` that this table replaces.
MODEL_SHARE_OF_COPY = 3.6 / 4.3  # fused kernels beside a copy
MODEL_TFLOPS = {"h200": 720.0, "h100": 720.0}  # bf16 products of the model's shapes
EXTENSION_COSTS = 0.02  # of the product's time, at most, for the adapter's columns
COUNTED_FROM = 8192  # tokens: smaller operands lie in the cache


def command(box):
    words = [box.program("gpu_probe"), "--device", "0"]
    if not box.rehearse:
        return words
    return [words[0], "--tiny", "--plugin", box.plugin() or "cpu"]


def unit_of(line):
    return "tflops" if "tflops" in line else "gbytes"


def tables(checks, lines):
    """Every figure as a line of the stage's data, and the figures a later run is compared with."""
    for line in lines:
        name = f"{line['name']} M={line['m']}"
        if "error" in line:
            checks.refused(name, line["error"])
        else:
            checks.value(f"{line['table']}: {name}, {unit_of(line)}", line[unit_of(line)])
    checks.data("lines", lines)


def products(checks, lines, gpu):
    timed = {(line["name"], line["m"]): line for line in lines if line["table"] == "gemm" and "ms" in line}
    plain = [line for (name, m), line in timed.items() if not name.endswith("K+r") and m >= COUNTED_FROM]
    if plain:
        work = sum(line["tflops"] * line["ms"] for line in plain)
        rate = work / sum(line["ms"] for line in plain)
        wanted = MODEL_TFLOPS.get(gpu)
        checks.goal("products of the model's shapes, TFLOP/s", None if wanted is None else rate >= wanted,
                    f">= {wanted:.0f} (assumed by the model)" if wanted else "no figure is assumed for this GPU", f"{rate:.0f}")
    pairs = [(timed[name, m], timed[name + " K+r", m]) for name, m in timed if (name + " K+r", m) in timed and m >= COUNTED_FROM]
    if pairs:
        cost = sum(more["ms"] for _, more in pairs) / sum(line["ms"] for line, _ in pairs) - 1
        checks.goal("the adapter inside the product (K+r)", cost <= EXTENSION_COSTS, f"costs <= {EXTENSION_COSTS:.0%}", f"{cost:+.1%}")


def attention(checks, lines):
    """The kernel that the back end uses beside the others that libtorch has."""
    timed = {line["name"]: line for line in lines if line["table"] == "attention" and "ms" in line}
    for name, line in timed.items():
        kernel, _, rest = name.partition(" ")
        if kernel != "ours":
            continue
        others = {other.partition(" ")[0]: found["tflops"] for other, found in timed.items() if other.partition(" ")[2] == rest and other != name}
        beside = ", ".join(f"{other} {rate:.0f}" for other, rate in others.items()) or "nothing to compare with"
        checks.shown(f"attention, head width {rest}, TFLOP/s", f"{line['tflops']:.0f}", beside)


def memory(checks, lines):
    timed = [line for line in lines if line["table"] == "memory" and "ms" in line]
    copy = next((line["gbytes"] for line in timed if line["name"] == "copy"), 0.0)
    if not copy:
        checks.skipped("share of the copy bandwidth", "the copy was not timed")
        return
    checks.shown("copy, GB/s read and written", f"{copy:.0f}")
    largest = {}
    for line in timed:
        if line["name"] != "copy":
            largest[line["name"]] = max(largest.get(line["name"], line), line, key=lambda found: found["m"])
    for name, line in largest.items():
        share = line["gbytes"] / copy
        checks.goal(f"{name}, share of the copy bandwidth", share >= MODEL_SHARE_OF_COPY, f">= {MODEL_SHARE_OF_COPY:.0%}", f"{share:.0%} (M={line['m']})")


def run(box, checks):
    if "gpu_probe" not in box.build(checks, "gpu_probe"):
        return
    done = box.call("probe", command(box), box.left())
    lines = []
    for text in done.out.splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            pass  # the line in which it was cut off
    if done.timed_out:
        checks.skipped("the rest of the tables", f"cut off after {done.seconds:.0f} s and {len(lines)} figures")
    else:
        checks.require("gpu_probe", done.status == 0 and bool(lines), "exit 0", f"exit {done.status}, {len(lines)} figures" + (f": {last_line(done.err)}" if done.status else ""))
    checks.data("schemas", {line["name"]: line["schema"] for line in lines if line["table"] == "schema"})
    lines = [line for line in lines if line["table"] != "schema"]
    tables(checks, lines)
    if box.rehearse:
        checks.shown("figures", f"{sum('ms' in line for line in lines)} timed, of a tiny shape: they say nothing")
        return
    products(checks, lines, short_gpu(box.gpu["name"]))
    attention(checks, lines)
    memory(checks, lines)
