"""Tiny training runs to be disturbed, and what they are held to: the undisturbed run's adapter, to the last bit.

PHI3TUNE_PROGRAM names the program. One run takes under half a second of one core, most of it starting libtorch.
"""
import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAM = os.environ.get("PHI3TUNE_PROGRAM", str(SOURCE / "build/bin/phi3-tune"))

FINISHED = 1 << 40  # beyond every step
DONE, SETTINGS, INPUT, RESOURCE, NUMBERS, DAMAGED, STOPPED = 0, 2, 3, 4, 5, 6, 75

# Eight steps in three and a bit epochs: evaluations at 0, 3, 6, 8, saves at 2, 4, 6, 8 and at the best, rotation from the third on.
SETTINGS_OF_A_RUN = {
    "base_model": "model", "datasets": [{"path": "data.jsonl"}], "test_datasets": [{"path": "validation.jsonl"}], "sequence_len": 64,
    "micro_batch_size": 1, "gradient_accumulation_steps": 2, "max_steps": 8, "learning_rate": 1e-2, "lora_r": 2, "lora_dropout": 0.1,
    "logging_steps": 1, "sample_packing": True, "eval_steps": 3, "save_steps": 2, "save_total_limit": 2, "save_best": True, "threads": 1,
    "bf16": False, "progress": "none", "lora_target_modules": ["o_proj"]}  # few tensors: fewer calls to break
RESUMED = re.compile(r"going on from .*?step-0*(\d+)$", re.MULTILINE)
TIMES = {"seconds", "training_seconds", "tokens_per_second", "memory_bytes", "time", "bytes_per_second"}


class Broken(Exception):
    """A promise was broken; says which, where and what the program said."""


class Ended:
    def __init__(self, code, out, err, seconds, sent=None):
        self.code, self.out, self.err, self.seconds = code, out, err, seconds
        self.killed = code == -signal.SIGKILL
        self.sent = sent  # seconds from the signal to the end

    def errors(self):
        return [line for line in self.err.splitlines() if line.startswith("error: ")]

    def said(self):
        return f"exit {self.code}: {self.out.strip()[-300:]} | {self.err.strip()[-700:]}"


def records(first, count):
    return "".join(json.dumps({"messages": [
        {"role": "user", "content": f"What is {i}?"},
        {"role": "assistant", "content": f"{i} is a number, " * (1 + i % 3)}]}) + "\n" for i in range(first, first + count))


def without_times(value):
    if isinstance(value, dict):
        return {name: without_times(one) for name, one in value.items() if name not in TIMES and name != "metrics_bytes"}
    return [without_times(one) for one in value] if isinstance(value, list) else value


class Bench:
    """A folder with a model, data and settings, in which runs are made side by side."""

    def __init__(self, keep=False, program=None, **settings):
        self.program = program or PROGRAM
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="phi3-tune-reliability-")).resolve()
        self.keep, self.lock, self.last = keep, threading.Lock(), 0
        made = self.start("init-model", self.base / "model", "--shape", "tiny").wait()
        if made.code != DONE:
            raise Broken(f"init-model: {made.said()}")
        self.write("data.jsonl", records(0, 12))
        self.write("validation.jsonl", records(100, 3))
        self.settings = {**SETTINGS_OF_A_RUN, **settings}
        self.config = self.configured("run")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self.keep:
            shutil.rmtree(self.base, ignore_errors=True)

    def write(self, name, text):
        path = self.base / name
        path.write_text(text, encoding="utf-8")
        return path

    def configured(self, name, **settings):
        """A settings file; None takes a setting away."""
        every = {**self.settings, **settings}
        return self.write(f"{name}.yaml", json.dumps({k: v for k, v in every.items() if v is not None}, indent=1) + "\n")

    def place(self, name="case"):
        """An output folder of its own, not there yet."""
        with self.lock:
            self.last += 1
            return self.base / f"{name}-{self.last}"

    def start(self, *words, env=None, cwd=None):
        return Running([self.program, *map(str, words)], env, cwd or self.base)

    def train(self, out, *words, config=None, env=None, timeout=120):
        return self.start("--config", config or self.config, "--output_dir", out, *words, env=env).wait(timeout)

    def undisturbed(self, config=None):
        """The result that every other way must come to."""
        out = self.place("undisturbed")
        ended = self.train(out, config=config)
        if ended.code != DONE:
            raise Broken(f"the undisturbed run: {ended.said()}")
        return Result(out, ended)

    def finish(self, out, expected, *, config=None, attempts=1, codes=(DONE,), names=True):
        """The same command line again, until it is done; then all is as if nothing had happened."""
        for attempt in range(attempts):
            ended = self.train(out, config=config)
            check_end(ended)
            if ended.code == DONE:
                expected.compare(out, ended, names)
                return ended
            if ended.code not in codes:
                break
        raise Broken(f"the run that goes on: {ended.said()}")

    def done_with(self, out):
        shutil.rmtree(out, ignore_errors=True)


class Running:
    def __init__(self, command, env, cwd):
        settings = {name: value for name, value in os.environ.items() if not name.startswith(("PHI3_TUNE__", "PHI3TUNE_FAULTS_"))}
        settings.update({"OMP_WAIT_POLICY": "passive", **(env or {})})
        self.started = time.monotonic()
        self.signalled = None
        self.process = subprocess.Popen(command, env=settings, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        errors="replace", stdin=subprocess.DEVNULL)

    def send(self, what):
        self.signalled = self.signalled or time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(what)

    def wait(self, timeout=120):
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise Broken(f"{self.process.args} does not end in {timeout} s: {err[-500:]}") from None
        now = time.monotonic()
        return Ended(self.process.returncode, out, err, now - self.started, now - self.signalled if self.signalled else None)


def check_end(ended, kill_sent=False):
    """No run ends by a signal but the one we sent, nor with a bug of ours."""
    if ended.killed and kill_sent:
        return
    if ended.code < 0 or ended.code >= 128 or ended.code == 70:
        raise Broken(ended.said())


class Result:
    """What a finished run left."""

    def __init__(self, out, ended=None):
        self.out, self.ended = out, ended
        self.adapter = adapter_of(out)
        self.metrics = metrics_of(out)
        self.names = names_of(out)

    def compare(self, out, ended, names=True):
        adapter = adapter_of(out)
        for name in sorted(self.adapter.keys() | adapter.keys()):
            if self.adapter.get(name) != adapter.get(name):
                raise Broken(f"{out}/adapter/{name} is not that of the undisturbed run; {ended.said()}")
        metrics = metrics_of(out)
        if metrics != self.metrics:
            at = next((i for i, (one, other) in enumerate(zip(self.metrics, metrics)) if one != other), min(len(self.metrics), len(metrics)))
            raise Broken(f"{out}/metrics.jsonl: line {at + 1} of {len(metrics)} is {metrics[at:at + 1]}, undisturbed {self.metrics[at:at + 1]} "
                         f"of {len(self.metrics)}; {ended.said()}")
        found = names_of(out)
        if names and found != self.names:
            raise Broken(f"{out} holds {sorted(found - self.names)} more and {sorted(self.names - found)} less than the undisturbed run; "
                         f"{ended.said()}")


def adapter_of(out):
    return {path.name: path.read_bytes() for path in (out / "adapter").iterdir()}


def metrics_of(out):
    return [without_times(json.loads(line)) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def names_of(out):
    return {str(path.relative_to(out)) for path in out.rglob("*")}


def steps_of(out):
    """Steps of the checkpoints under their final names."""
    folder = out / "checkpoints"
    return sorted(int(path.name[5:]) for path in folder.glob("step-*")) if folder.is_dir() else []


def normal_tree(out):
    """What a run left, without what differs between equal runs: times, process ids in temporary names."""
    found = {}
    if out.exists():
        for path in sorted(out.rglob("*")):
            name = re.sub(r"\.\d+-\d+\.part$", ".part", str(path.relative_to(out)))
            if path.is_dir():
                found[name] = b""
                continue
            found[name] = bare_content(path)
    return found


def bare_content(path):
    content = path.read_bytes()
    with contextlib.suppress(ValueError, AttributeError):
        if path.name == "run.json":
            record = json.loads(content)
            return json.dumps({k: record.get(k) for k in ("status", "files", "hashes")}, sort_keys=True).encode()
        if path.name == "metrics.jsonl":
            return json.dumps([without_times(json.loads(line)) for line in content.splitlines()]).encode()
        if path.name == "training_state.json":
            return json.dumps(without_times(json.loads(content))).encode()
        if path.name == "manifest.json":
            return json.dumps(sorted(json.loads(content)["files"])).encode()
    return content


def generator(seed, *parts):
    return random.Random("/".join(map(str, (seed, *parts))))


def resumed_from(ended):
    """The step that a run says it goes on from; of a finished one a step beyond all; 0: it began at the beginning."""
    if "this run is finished" in ended.err:
        return FINISHED
    found = RESUMED.search(ended.err)
    return int(found[1]) if found else 0
