"""One process a folder, by a lock that a crash frees; what others put into output_dir is not touched, whatever the run does."""
import os
import signal
import time

import rows
import runs

TITLE = "two processes, foreign files"
OVERWRITE = ("--overwrite_output_dir", "true")


def run(context):
    started = time.monotonic()
    with context.bench() as bench:
        expected = bench.undisturbed()
        found, broken = context.each(range(context.count(3, 20, 1)), lambda number: two_processes(bench, expected, context.generator("row 10", number)))
        pairs = len(found)
        cases = [(name, how, overwrite) for name, how in ARRANGEMENTS.items() for overwrite in (False, True)]
        ends = {}

        def case(point):
            code = foreign(bench, expected, *point)
            ends[code] = ends.get(code, 0) + 1
        broken += context.each(cases, case)[1]
    return rows.figures(started, broken, f"{pairs} second processes refused; {len(cases)} arrangements of foreign files, "
                        f"{ends.get(2, 0)} refused, {ends.get(0, 0)} done beside them")


def two_processes(bench, expected, draw):
    long = bench.configured(f"long-{draw.random()}", max_steps=100000, eval_steps=None, save_steps=50)
    out = bench.place()
    first = bench.start("--config", long, "--output_dir", out)
    try:
        deadline = time.monotonic() + 60
        while not (out / "metrics.jsonl").exists() and first.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.3))
        for more in ((), OVERWRITE, ("--resume_from_checkpoint", "never")):
            second = bench.train(out, *more, config=long)
            if second.code != runs.SETTINGS or "another phi3-tune is writing there" not in second.err:
                raise runs.Broken(f"the second process {more}: {second.said()}")
        if first.process.poll() is not None:
            raise runs.Broken(f"the first process did not survive the second: {first.wait().said()}")
    finally:
        first.send(signal.SIGKILL)
        first.wait()
    after = bench.train(out, *OVERWRITE, "--resume_from_checkpoint", "never")
    if after.code != runs.DONE:
        raise runs.Broken(f"after the first was killed: {after.said()}")
    expected.compare(out, after)
    bench.done_with(out)


# name -> what is put where, given the output folder; those with "after" are put into what a stopped run left.
def text(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("ten years of work", encoding="utf-8")


def link_to_folder(out):
    text(out.parent / f"{out.name}-elsewhere/thesis.txt")
    out.mkdir(exist_ok=True)
    (out / "adapter").symlink_to(out.parent / f"{out.name}-elsewhere")


def checkpoint_elsewhere(out):
    text(out.parent / f"{out.name}-elsewhere/thesis.txt")
    (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    (out / "checkpoints/step-000099").symlink_to(out.parent / f"{out.name}-elsewhere")


def stale_elsewhere(out):
    """A staging name that leads to someone else's folder, which holds names that a checkpoint has."""
    text(out.parent / f"{out.name}-elsewhere/optimizer.safetensors")
    (out / "checkpoints").mkdir(parents=True, exist_ok=True)
    (out / "checkpoints/.step-000099.partial").symlink_to(out.parent / f"{out.name}-elsewhere")


ARRANGEMENTS = {
    "a file": lambda out: text(out / "thesis.txt"),
    "a folder": lambda out: text(out / "photos/1.jpg"),
    "a hidden file": lambda out: text(out / ".thesis.swp"),
    "in adapter": lambda out: text(out / "adapter/thesis.txt"),
    "in checkpoints": lambda out: text(out / "checkpoints/thesis.txt"),
    "in a staging folder": lambda out: text(out / "checkpoints/.step-000004.partial/thesis.txt"),
    "in a trash folder": lambda out: text(out / "checkpoints/.step-000002.trash/thesis.txt"),
    "a folder like a checkpoint": lambda out: text(out / "checkpoints/step-000001/thesis.txt"),
    "a file like a checkpoint": lambda out: text(out / "checkpoints/step-000003"),
    "a manifest of somebody else": lambda out: text(out / "checkpoints/step-000001/manifest.json"),
    "a record of somebody else": lambda out: text(out / "run.json"),
    "metrics of somebody else": lambda out: text(out / "metrics.jsonl"),
    "adapter is a link": link_to_folder,
    "a checkpoint is a link": checkpoint_elsewhere,
    "a staging folder is a link": stale_elsewhere,
    "after: a file": lambda out: text(out / "thesis.txt"),
    "after: in a checkpoint that goes": lambda out: text(out / "checkpoints/step-000002/thesis.txt"),
    "after: in the newest checkpoint": lambda out: text(out / "checkpoints/step-000004/thesis.txt"),
    "finished: a file": lambda out: text(out / "thesis.txt"),
    "finished: in adapter": lambda out: text(out / "adapter/thesis.txt"),
    "after: in adapter": lambda out: text(out / "adapter/thesis.txt"),
}


def foreign(bench, expected, name, put, overwrite):
    out = bench.place("foreign")
    if name.startswith("after"):
        stopped_after(bench, out, 4)
    elif name.startswith("finished"):
        bench.train(out)
    ours = set(out.rglob("*")) if out.exists() else set()
    put(out)
    theirs = {path for path in out.rglob("*") if path not in ours} | set((out.parent / f"{out.name}-elsewhere").rglob("*"))
    before = {path: seen(path) for path in theirs}
    ended = bench.train(out, *(OVERWRITE if overwrite else ()))
    runs.check_end(ended)
    if ended.code == runs.DONE:
        for file, content in expected.adapter.items():
            if (out / "adapter" / file).read_bytes() != content:
                raise runs.Broken(f"the adapter differs: {ended.said()}")
    elif ended.code not in (runs.SETTINGS, runs.DAMAGED, runs.RESOURCE):
        raise runs.Broken(ended.said())
    for path, was in before.items():
        if seen(path) != was:
            raise runs.Broken(f"{path} was {was}, is {seen(path)}: {ended.said()}")
    bench.done_with(out)
    return ended.code


def seen(path):
    if path.is_symlink():
        return "link", os.readlink(path)
    if path.is_dir():
        return ("folder",)
    if not path.exists():
        return ("nothing",)
    status = path.stat()
    return "file", path.read_bytes(), status.st_mtime_ns, status.st_ino


def stopped_after(bench, out, step):
    """A run that was killed when the checkpoint of `step` was whole, and that still keeps that of step 2."""
    bench_run = bench.start("--config", bench.config, "--output_dir", out, "--max_steps", 8, "--save_total_limit", 2)
    while bench_run.process.poll() is None and not (out / f"checkpoints/step-{step:06d}").exists():
        time.sleep(0.0005)
    bench_run.send(signal.SIGKILL)
    bench_run.wait()
