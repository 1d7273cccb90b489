"""The Python stacks side by side with phi3-tune: the same weights, the same rows of token ids, one process after the other.

A  transformers, bf16, sdpa + PEFT with bf16 adapters      D  the fastest of A to C, blocks recomputed
B  A with Liger's kernels                                  E  QLoRA by bitsandbytes: NF4, double quantisation (with Liger too)
C  the faster of A and B, torch.compile                    F  A as it ships: fp32 adapters under bf16 autocast (shown only)
stock  A with the model's own sliding window and rows of 2046 tokens, in which the window is not felt
mixed  rows of many lengths: A pads them, phi3-tune packs them
No sliding window on either side but for stock. Ours runs first and again in between, and what it moved by is told. What there was
no time for is done by the next call with the same --out.
"""
import json
import os
import pathlib
import random
import shutil

from . import training
from .box import SOURCE, last_line
from .training import MINI, TIMED, TINY, WARM_UP

WANTED = ("torch", "transformers", "peft", "bitsandbytes", "liger_kernel", "accelerate", "triton")
TOKENS_A_WORD = 4.5  # of training.rows(), by the small tokenizer
NEEDED = ("torch", "transformers", "peft")
FASTER = {"lora": 1.2, "qlora": 1.5}  # ours beside the best of A to C, and beside the best of E
LOSS_APART = 0.02  # of the first step, bf16 on both sides: twice the last place of bf16 at a loss of 10, with some room
ASK = """import importlib, importlib.metadata as m, json
out = {}
for name in %r:
    try:
        module = importlib.import_module(name)
        try: out[name] = m.version(name)
        except m.PackageNotFoundError: out[name] = str(getattr(module, '__version__', 'unknown'))
    except BaseException as fault: out[name] = None
import torch
out['cuda'] = torch.version.cuda if torch.cuda.is_available() else None
print(json.dumps(out))""" % (WANTED,)


def find_python(box):
    """Commands that may be a Python with the libraries, the most wanted first."""
    if box.options.peers:
        return [[path] for path in (box.options.peers / "bin/python", box.options.peers / "bin/python3", box.options.peers) if os.access(path, os.X_OK) and path.is_file()]
    known = [[path] for path in map(shutil.which, ("python3", "python")) if path]
    script = SOURCE / "scripts/parity_python"
    return [[script], *known] if box.call("parity", [script, "--check"], 60).status == 0 else known


def choose_python(box, checks):
    seen = []
    for command in find_python(box):
        done = box.call("versions", [*command, "-c", ASK], 120)
        try:
            versions = json.loads(done.out.splitlines()[-1])
        except (ValueError, IndexError):
            seen.append(f"{command[0]}: {last_line(done.err)}")
            continue
        missing = [name for name in NEEDED if not versions.get(name)]
        if not missing and (box.rehearse or versions["cuda"]):
            checks.data("versions", {"python": str(command[0]), **versions})
            checks.shown("Python stack", f"{command[0]}: " + ", ".join(f"{name} {version}" for name, version in versions.items() if version))
            absent = [name for name in WANTED if not versions[name]]
            if absent:
                checks.skipped("libraries that are missing", ", ".join(absent))
            return command, versions
        seen.append(f"{command[0]}: " + (f"no {', '.join(missing)}" if missing else "its torch sees no GPU"))
    where = f"--peers {box.options.peers}" if box.options.peers else "scripts/setup --parity installs them, --peers DIR names a virtual environment"
    checks.skipped("Python stacks", f"no Python with {', '.join(NEEDED)} found ({where}): " + ("; ".join(seen) or "no executable Python there"))
    return None, None


class Table:
    """What was measured: {(label, tokens): tokens a second}."""

    def __init__(self, box, checks, python, shape, folder):
        self.box, self.checks, self.python, self.shape, self.folder = box, checks, python, shape, folder
        self.speeds, self.first_losses, self.done = {}, {}, []

    def restore(self, before):
        """Goes on where an earlier call with the same folder and shape ran out of time."""
        table = before.get("data", {}).get("table", {})
        if table.get("layers") != self.shape.layers or not table.get("left"):
            return
        self.done = list(table["done"])
        self.speeds = {(label, tokens): speed for label, tokens, speed in table["speeds"]}
        self.first_losses = {(method, tokens): loss for method, tokens, loss in table["first_losses"]}
        kept = [line for line in before["checks"] if line["verdict"] in ("shown", "pass", "fail", "refused") and not line["name"].startswith("Python stack")]
        self.checks.record["checks"] = kept + self.checks.record["checks"]
        self.checks.record["values"].update(before["values"])
        self.checks.shown("goes on", f"{', '.join(self.done)} were measured by an earlier call")

    def keep(self, left):
        self.checks.data("table", {"layers": self.shape.layers, "done": self.done, "left": left, "speeds": [[*key, speed] for key, speed in self.speeds.items()],
                                   "first_losses": [[*key, loss] for key, loss in self.first_losses.items()]})

    def tell(self, label, tokens, speed, what):
        self.speeds[label, tokens] = speed
        if self.box.rehearse:
            self.checks.shown(f"{label} M={tokens}", "ran, with a tiny shape: its speed says nothing")
        else:
            self.checks.shown(f"{label} M={tokens}: tokens/s", what)
            self.checks.value(f"peers: {label} M={tokens}, tokens/s", speed)

    def best(self, labels, tokens):
        """(tokens a second, label) of the fastest of some, or None."""
        return max(((self.speeds[label, tokens], label) for label in labels if (label, tokens) in self.speeds), default=None)

    def ids(self, name, values, count):
        """The rows as the trainer gets them, for the Python side."""
        config = training.write_config(self.box, f"{name}-rows", {**values, "output_dir": str(self.box.folder / "raw/never")})
        done = self.box.call(f"{name}-preview", [self.box.program("phi3-tune"), "data", "preview", "--config", config, "-n", str(count), "--json"], 120)
        path = self.box.folder / "raw" / f"{name}-ids.jsonl"
        with open(path, "w", encoding="utf-8") as out:
            for text in done.out.splitlines():
                if text.startswith("{"):
                    row = json.loads(text)
                    out.write(json.dumps({"input_ids": row["input_ids"], "labels": row["labels"]}) + "\n")
        return path

    def ours(self, label, method, tokens, shape=None, **more):
        shape = shape or self.shape
        steps = 3 if self.box.rehearse else WARM_UP + TIMED
        run = training.train(self.box, f"{label}-{tokens}", training.settings(self.box, shape, self.folder, method, tokens, steps, **more),
                             self.box.left())
        if run.error:
            self.checks.skipped(f"{label} M={tokens}", run.error)
            return
        self.first_losses.setdefault((method, tokens), run.losses[0])
        self.tell(label, tokens, run.speed, f"{run.speed:.0f} (IQR {run.iqr:.0f} of {run.steps}), process {run.process / 2**30:.1f} GiB")

    def theirs(self, label, rows, batches, tokens_of, *switches, same_rows=True):
        """One configuration of the Python side; a line for each micro-batch."""
        command = [*self.python, pathlib.Path(__file__).with_name("peer_step.py"), "--base", self.folder, "--rows", rows, "--batches", *batches,
                   "--device", "cpu" if self.box.rehearse else "cuda", "--rank", self.shape.rank, "--seconds", 0.1 if self.box.rehearse else 12, *switches]
        done = self.box.call(label, command, self.box.left())
        method = "qlora" if "--qlora" in switches else "lora"
        for line in (json.loads(text) for text in done.out.splitlines() if text.startswith("{")):
            if "sdpa" in line:
                self.checks.shown(f"{label}: attention", line["sdpa"], f"adapters in {line['adapter_dtype']}")
                for batch, loss in line["first_losses"].items() if same_rows else ():
                    self.compare_losses(label, method, tokens_of(int(batch)), loss)
                continue
            tokens = tokens_of(line["batch"])
            if "error" in line:
                self.checks.skipped(f"{label} M={tokens}", line["error"])
                continue
            memory = f", torch {line['allocated'] / 2**30:.1f} GiB, {line['reserved'] / 2**30:.1f} reserved" if "allocated" in line else ""
            self.tell(label, tokens, line["tokens_per_s"], f"{line['tokens_per_s']:.0f} (IQR {line['iqr']:.0f} of {line['steps']}){memory}")
        if done.timed_out:
            self.checks.skipped(label, f"cut off after {done.seconds:.0f} s")
        elif done.status:
            self.checks.refused(label, f"exit {done.status}: {last_line(done.err)}")

    def compare_losses(self, label, method, tokens, loss):
        """Before a step no adapter says anything: base and rows are the same on both sides, or something is wrong."""
        ours = self.first_losses.get((method, tokens))
        if ours is not None and loss is not None:
            self.checks.require(f"first loss beside {label}, M={tokens}", abs(loss - ours) <= LOSS_APART, f"<= {LOSS_APART:g}", f"{abs(loss - ours):.2g}")


def verdicts(box, checks, table):
    for tokens in table.shape.tokens:
        for method, labels in (("lora", ("A", "B", "C")), ("qlora", ("E", "E with Liger"))):
            mine, best = table.best([f"ours {method}", f"ours {method}, again"], tokens), table.best(labels, tokens)
            if not mine or not best:
                checks.skipped(f"ours beside the best Python {method}, M={tokens}", "one of the two was not measured")
            elif not box.rehearse:  # whose speed says nothing
                ratio = mine[0] / best[0]
                checks.goal(f"ours beside the best Python {method} ({best[1]}), M={tokens}", ratio >= FASTER[method], f">= {FASTER[method]:.1f} times", f"{ratio:.2f} times")
                checks.value(f"peers: ours / best {method} M={tokens}", ratio)
    for method in ("lora", "qlora"):
        first, last = (table.speeds.get((f"ours {method}{suffix}", table.shape.tokens[-1])) for suffix in ("", ", again"))
        if first and last and not box.rehearse:
            checks.shown(f"ours {method}, first and last run", f"{last / first - 1:+.1%}", "within 3 %, or the machine was not quiet")


def mixed(box, table):
    """Log-normal lengths, median about 350 tokens."""
    shape, draw = table.shape, random.Random(7)
    median = 350 if not box.rehearse else 12
    lengths = [max(2, min(shape.sequence // 2, round(draw.lognormvariate(0, 0.9) * median / TOKENS_A_WORD))) for _ in range(640 if not box.rehearse else 48)]
    path = training.rows(box, shape, len(lengths), lengths)
    data = {"datasets": [{"path": str(path), "type": "completion"}]}
    tokens = shape.tokens[0 if box.rehearse else 1]
    table.ours("ours, mixed lengths packed", "lora", tokens, sample_packing=True, **data)
    values = training.settings(box, shape, table.folder, "lora", tokens, 1, **data)
    batch = 4 if box.rehearse else 8
    table.theirs("A, mixed lengths padded", table.ids("mixed", values, len(lengths)), [batch], lambda _: tokens, same_rows=False)


def stock(box, table):
    """The model's own window, rows one shorter than it: transformers keeps its fast path, and nobody's window is felt."""
    shape = table.shape._replace(sequence=2046 if not box.rehearse else 30)
    batch = 4 if not box.rehearse else 2
    tokens = shape.sequence * batch
    table.ours("ours, stock", "lora", tokens, shape=shape)
    values = training.settings(box, shape, table.folder, "lora", tokens, WARM_UP + TIMED)
    table.theirs("A, stock", table.ids("stock", values, batch * (WARM_UP + TIMED)), [batch], lambda rows: rows * shape.sequence, "--keep-window")


def faster(table, labels):
    """The label that is fastest at most micro-batches."""
    wins = [best[1] for tokens in table.shape.tokens if (best := table.best(labels, tokens))]
    return max(set(wins), key=wins.count) if wins else labels[0]


def run(box, checks):
    if "phi3-tune" not in box.build(checks, "phi3-tune", *([] if box.rehearse else ["phi3tune_engine", "phi3tune_cuda"])):
        return
    python, versions = choose_python(box, checks)
    if not python:
        return
    shape = TINY if box.rehearse else MINI
    layers = shape.layers if box.rehearse or training.model_folder(box, shape, shape.layers).is_dir() or box.left() > 240 else 8
    if layers != shape.layers:
        checks.skipped("the whole depth", f"{layers} layers: the others' weights are not in the cache, and there is no time to write them")
    shape = shape._replace(layers=layers)
    folder, why = training.model(box, shape, layers)
    if not folder:
        checks.require("random weights", False, "a model folder", why)
        return
    table = Table(box, checks, python, shape, folder)
    batches = [tokens // shape.sequence for tokens in shape.tokens]
    count = max(batches) * (2 if box.rehearse else WARM_UP + TIMED)
    rows = table.ids("full", training.settings(box, shape, folder, "lora", shape.tokens[-1], count // max(batches)), count)
    tokens_of = lambda batch: batch * shape.sequence
    peer = lambda label, *switches: table.theirs(label, rows, batches, tokens_of, *switches)
    liger, quantised = bool(versions.get("liger_kernel")), bool(versions.get("bitsandbytes"))

    def ours(suffix="", some=shape.tokens):
        for method in ("lora", "qlora"):
            for tokens in some:
                table.ours(f"ours {method}{suffix}", method, tokens)

    switches = {"A": (), "B": ("--liger",), "C": ("--compile",)}

    def compiled():
        switches["C"] = ("--compile", *switches[faster(table, ("A", "B"))])
        peer("C", *switches["C"])

    def recomputing():
        peer("D", "--checkpointing", *switches[faster(table, ("A", "B", "C"))])
        table.ours("ours lora, blocks recomputed", "lora", shape.tokens[1], gradient_checkpointing="block")

    steps = [("ours", ours), ("A", lambda: peer("A")), ("E", lambda: peer("E", "--qlora") if quantised else None),
             ("B", lambda: peer("B", "--liger") if liger else None), ("E with Liger", lambda: peer("E with Liger", "--qlora", "--liger") if liger and quantised else None),
             ("ours again", lambda: ours(", again", shape.tokens[-1:])), ("C", compiled), ("mixed", lambda: mixed(box, table)), ("D", recomputing),
             ("E, blocks recomputed", lambda: peer("E, blocks recomputed", "--qlora", "--checkpointing") if quantised else None),
             ("stock", lambda: stock(box, table)), ("F", lambda: peer("F", "--shipped"))]
    table.restore(checks.previous)
    for place, (name, step) in enumerate(steps):
        if name in table.done:
            continue
        if box.left() < (1 if box.rehearse else 30):
            for late, _ in steps[place:]:
                checks.skipped(late, f"no time was left; run `scripts/gpu_check peers --out {box.folder}` to go on")
            break
        if box.rehearse and name == "C":
            checks.skipped(name, "compiling is left out of a rehearsal")
        else:
            step()
        if box.left() > 0:
            table.done.append(name)
        table.keep([late for late, _ in steps if late not in table.done])
    for name, there in (("B and E with Liger", liger), ("E", quantised)):
        if not there:
            checks.skipped(name, f"{'liger_kernel' if name.startswith('B') else 'bitsandbytes'} is not installed")
    verdicts(box, checks, table)
