"""Training runs of phi3-tune on seeded random weights: the folder of the model, the rows, one run and its figures."""
import collections
import json
import random
import shutil
import statistics

from .box import cache, last_line, slug

WARM_UP = 5
TIMED = 20
Shape = collections.namedtuple("Shape", "name layers sequence tokens rank")  # tokens: of a micro-batch, several
FULL_LAYERS = 32
SECONDS = "seconds-to-write"  # a file beside the weights: tells how long more layers would take
MINI = Shape("phi-3-mini-4k", FULL_LAYERS, 2048, (4096, 8192, 16384), 16)
TINY = Shape("tiny-gqa", 2, 32, (64, 128), 4)

Run = collections.namedtuple("Run", "speed iqr steps losses tokens seconds record process error", defaults=(None,))


def model_folder(box, shape, layers):
    return (box.folder if box.rehearse else cache()) / f"gpu-{shape.name}-{layers}"


def model(box, shape, layers):
    """A folder of seeded random bf16 weights without sliding window, kept in the cache. (folder, None) or (None, why not)."""
    folder = model_folder(box, shape, layers)
    if folder.is_dir():
        return folder, None
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = folder.with_name(folder.name + ".partial")
    shutil.rmtree(work, ignore_errors=True)
    done = box.call("init-model", [box.program("phi3-tune"), "init-model", work, "--shape", shape.name, "--layers", str(layers),
                                   "--dtype", "bfloat16", "--seed", "1"], box.left())
    if done.status:
        shutil.rmtree(work, ignore_errors=True)
        return None, "init-model was cut off" if done.timed_out else f"init-model: exit {done.status}: {last_line(done.err)}"
    # With a window shorter than the rows, transformers' sdpa leaves its fast path, and the comparison would be unfair.
    path = work / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["sliding_window"] = None
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")
    (work / SECONDS).write_text(f"{done.seconds:.2f}\n", encoding="utf-8")
    work.rename(folder)
    return folder, None


def rows(box, shape, count, lengths=None):
    """Rows of random words; each far longer than a sequence, so that it is cut to exactly that, or of `lengths` words."""
    path = box.folder / "raw" / f"rows-{'mixed' if lengths else shape.sequence}-{count}.jsonl"
    path.parent.mkdir(exist_ok=True)
    draw = random.Random(1)
    words = ["".join(draw.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(draw.randint(2, 9))) for _ in range(500)]
    with open(path, "w", encoding="utf-8") as out:
        for row in range(count):
            size = lengths[row] if lengths else 2 * shape.sequence
            out.write(json.dumps({"text": " ".join(draw.choice(words) for _ in range(size))}) + "\n")
    return path


def settings(box, shape, folder, method, tokens, steps, **more):
    values = {
        "base_model": str(folder), "adapter": method, "bf16": True, "lora_r": shape.rank, "lora_alpha": 2 * shape.rank, "lora_dropout": 0.0,
        "lora_target_modules": "all-linear", "val_set_size": 0, "eval_on_start": False, "sequence_len": shape.sequence,
        "excess_length_strategy": "truncate_end", "sample_packing": False, "shuffle": False, "micro_batch_size": tokens // shape.sequence,
        "gradient_accumulation_steps": 1, "max_steps": steps, "learning_rate": 1e-4, "lr_scheduler": "constant", "warmup_steps": 0,
        "max_grad_norm": 1.0, "gradient_checkpointing": "none", "logging_steps": 1, "progress": "none", "device": device(box), "seed": 1, **more}
    if "datasets" not in values:
        values["datasets"] = [{"path": str(rows(box, shape, (tokens // shape.sequence) * steps)), "type": "completion"}]
    return values


def device(box):
    """Of a run: the GPU; in a rehearsal the CPU, or the plug-in that stands in for one."""
    return "cuda" if not box.rehearse or box.plugin() else "cpu"


def write_config(box, name, values):
    path = box.folder / "raw" / f"{box.stage}-{slug(name)}.json"
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")  # JSON is YAML
    return path


class ProcessMemory:
    """The most that a process took on the GPU, as nvidia-smi says; beside it what the whole GPU had in use more than before
    (the only figure where process numbers are hidden, as in a container)."""

    def __init__(self, box):
        self.box, self.own, self.more = box, 0, 0
        self.before = self.in_use()

    def in_use(self):
        found = self.box.smi("memory.used")
        return int(float(found[0][0])) << 20 if found and found[0][0].replace(".", "").isdigit() else 0

    def watch(self, pid):
        for found, used in (row for row in self.box.smi("pid,used_memory", "compute-apps") if len(row) == 2):
            if found == str(pid) and used.isdigit():
                self.own = max(self.own, int(used) << 20)
        self.more = max(self.more, self.in_use() - self.before)

    def bytes(self):
        return self.own or self.more


def train(box, name, values, limit):
    """One run: tokens a second of the median step, losses, the record, the memory of the process."""
    out = box.folder / "raw" / f"{box.stage}-{slug(name)}"
    config = write_config(box, name, {**values, "output_dir": str(out), "overwrite_output_dir": out.exists()})
    memory = ProcessMemory(box) if box.gpu else None
    done = box.call(name, [box.program("phi3-tune"), "train", "--config", config], limit, watch=memory.watch if memory else None)
    if done.timed_out or done.status:
        why = f"cut off after {done.seconds:.0f} s" if done.timed_out else f"exit {done.status}: {last_line(done.err)}"
        return Run(0.0, 0.0, 0, [], 0, done.seconds, {}, 0, why)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "loss" in line]
    timed = steps[min(WARM_UP, len(steps) - 1):]
    speeds = sorted(step["tokens"] / step["seconds"] for step in timed)
    iqr = speeds[len(speeds) * 3 // 4] - speeds[len(speeds) // 4]
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    shutil.rmtree(out / "adapter", ignore_errors=True)
    return Run(statistics.median(speeds), iqr, len(timed), [step["loss"] for step in steps], steps[0]["tokens"], done.seconds, record,
               memory.bytes() if memory else 0)


def plan(box, name, values, gpu=None):
    """What `phi3-tune plan` says of the run, or None."""
    config = write_config(box, f"{name}-plan", {**values, "output_dir": str(box.folder / "raw" / "never")})
    known = ["--gpu", gpu] if gpu in ("h200", "h100", "a100", "4090", "l40s") and values["device"] != "cpu" else []
    done = box.call(f"{name}-plan", [box.program("phi3-tune"), "plan", "--config", config, *known, "--json"], 60)
    try:
        return json.loads(done.out.splitlines()[-1])
    except (ValueError, IndexError):
        return None

