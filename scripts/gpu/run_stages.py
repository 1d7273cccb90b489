"""The stages in their order, each within what is left of the time."""
import datetime
import importlib
import pathlib
import subprocess
import time
import traceback

from . import report
from .box import REHEARSED, SOURCE, STAGE_SECONDS, Box, find_gpu, short_gpu

# What a stage wants at least, in seconds, where programs and models are there already; less and it isn't begun.
STAGES = {"facts": 5, "kernels": 60, "sanitize": 60, "probe": 60, "train": 90, "peers": 120}
REHEARSAL_WANTS = 5


def commit():
    def git(*words):
        done = subprocess.run(["git", "-C", str(SOURCE), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""
    name = git("rev-parse", "--short=12", "HEAD")
    return (name + (" with changes" if git("status", "--porcelain", "--untracked-files=no") else "")) if name else "not a checkout"


def show_plan(options):
    print("no device: nvidia-smi lists no GPU here. On a machine with one this would be run, in this order:")
    for name, seconds in STAGES.items():
        summary = importlib.import_module(f"gpu.{name}").__doc__.splitlines()[0]
        print(f"  {name:<9} at least {seconds:>3} s, at most {STAGE_SECONDS:.0f} s: {summary}")
    print(f"within {options.minutes:g} minutes. --rehearse runs the same on this machine, without a word about speed.")


def run_one(box, name):
    """One stage, whatever happens in it."""
    box.begin(name)
    started = time.monotonic()
    checks = report.Checks(box, name)
    status = "interrupted"
    try:
        importlib.import_module(f"gpu.{name}").run(box, checks)
        status = "done" if box.left() > 0 else "out of time"
    except Exception as fault:  # a stage that breaks is a line, and the next one runs
        checks.data("traceback", traceback.format_exc())
        checks.require("the stage itself", False, "runs to its end", f"{type(fault).__name__}: {fault}")
        status = "broke off"
    finally:
        checks.end(status, time.monotonic() - started)


def main(options):
    gpu = None if options.rehearse else find_gpu(options.device)
    if not gpu and not options.rehearse:
        show_plan(options)
        return 0
    now = datetime.datetime.now()
    name = "rehearsal" if options.rehearse else short_gpu(gpu["name"])
    folder = (options.out or pathlib.Path(f"gpu-check-{name}-{now:%Y-%m-%d-%H%M%S}")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    head = {"gpu": REHEARSED if options.rehearse else gpu["name"], "date": f"{now:%Y-%m-%d %H:%M}", "commit": commit(), "rehearsed": options.rehearse}
    box = Box(options, folder, gpu, options.minutes * 60)
    print(f"results: {folder}", flush=True)
    interrupted = False
    for stage in options.stages or STAGES:
        left = box.ends - time.monotonic()
        wants = REHEARSAL_WANTS if options.rehearse else STAGES[stage]
        try:
            if left < wants:
                box.begin(stage)
                checks = report.Checks(box, stage)
                checks.skipped("the stage itself", f"wants {wants} s, {max(0, left):.0f} s of {options.minutes:g} minutes are left; run scripts/gpu_check {stage} --out {folder}")
                checks.end("no time", 0.0)
            else:
                run_one(box, stage)
        except KeyboardInterrupt:
            interrupted = True
        report.write_summary(folder, STAGES, head)
        if interrupted:
            break
    failed = report.write_summary(folder, STAGES, head)
    print(f"{folder / 'summary.md'}: {failed} failed", flush=True)
    return 130 if interrupted else 1 if failed else 0
