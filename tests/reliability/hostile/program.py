"""Runs the built program on one hostile input and measures it. Standard library only.

PHI3TUNE_PROGRAM names the program (ctest sets it).
"""
import atexit
import functools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parents[3]
PROGRAM = os.environ.get("PHI3TUNE_PROGRAM", str(SOURCE / "build/bin/phi3-tune"))

SETTINGS, INPUT, DAMAGED = 2, 3, 6

# The promise. Seconds are those of the processor: a busy machine is no fault of the program's; a hang meets the other limit.
MOST_SECONDS = 2.0
MOST_WALL_SECONDS = 30.0
MOST_BYTES = 200 << 20

# pylint: disable-next=consider-using-with
LAUNCHER = subprocess.Popen([sys.executable, "-S", pathlib.Path(__file__).with_name("launcher.py")], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)
atexit.register(LAUNCHER.stdin.close)


class Ended:
    def __init__(self, words, found):
        self.words = words
        self.code, self.out, self.err = found["code"], found["out"], found["err"]
        self.seconds, self.wall, self.peak = found["seconds"], found["wall"], found["peak"]
        self.errors = [line[len("error: "):] for line in self.err.splitlines() if line.startswith("error: ")]

    def said(self):
        return f"`{' '.join(map(str, self.words))}` exit {self.code}: {self.out[-300:]}{self.err[-1500:]}"


def run(words, cwd, trace=None):
    """One run, with its processor seconds and the most memory it had."""
    command = [PROGRAM, *map(str, words)]
    if trace is not None:
        command = ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=open,openat,openat2", "-o", str(trace), *command]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PHI3_TUNE__")}
    environment.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="passive")
    LAUNCHER.stdin.write(json.dumps({"command": command, "cwd": str(cwd), "environment": environment, "limit": MOST_WALL_SECONDS}) + "\n")
    LAUNCHER.stdin.flush()
    return Ended(words, json.loads(LAUNCHER.stdout.readline()))


@functools.cache
def has_engine():
    return pathlib.Path(PROGRAM).resolve().with_name("libphi3tune_engine.so").exists()


@functools.cache
def has_strace():
    return shutil.which("strace") is not None and subprocess.run(
        ["strace", "-qq", "-e", "trace=none", "true"], capture_output=True, check=False).returncode == 0


def opened(trace):
    """Paths that were opened, successfully, as the program named them."""
    paths = []
    for line in trace.read_text(errors="replace").splitlines():
        found = re.search(r'\bopen(?:at2?)?\((?:AT_FDCWD, )?"((?:[^"\\]|\\.)*)".*\) = \d+', line)
        if found:
            paths.append(found.group(1).encode().decode("unicode_escape"))
    return paths


def leaves(paths, folder):
    """Those of the paths that were read under `folder`'s parent, but lie outside `folder` when links are followed."""
    inside, around = os.path.realpath(folder), os.path.realpath(folder.parent)
    real = [os.path.realpath(path) for path in paths]
    return [path for path in real if path.startswith(around + "/") and not path.startswith(inside + "/") and path != inside]


def faults_of(case, ended):
    """What of the promise an end broke; empty: it holds."""
    broken = []
    if ended.code not in case.codes:
        broken.append(f"exit {ended.code}, wanted {' or '.join(map(str, case.codes))}")
    if ended.out and not case.speaks:
        broken.append(f"standard output: {ended.out[:80]!r}")
    if not ended.errors:
        broken.append("no error line")
    for line in ended.err.splitlines():
        if len(line) > 2000 or not line.isprintable():
            broken.append(f"a line that no terminal should get: {line[:100]!r}")
            break
    text = "\n".join(ended.errors)
    for wanted in case.says:
        if wanted not in text:
            broken.append(f"the report does not say {wanted!r}")
    if case.lines is not None and len(ended.errors) != case.lines:
        broken.append(f"{len(ended.errors)} error lines, wanted {case.lines}")
    if ended.seconds >= MOST_SECONDS or ended.wall >= MOST_WALL_SECONDS:
        broken.append(f"{ended.seconds:.2f} s of the processor, {ended.wall:.2f} s")
    if ended.peak >= MOST_BYTES:
        broken.append(f"{ended.peak >> 20} MB")
    return broken


class Case:
    """One hostile input: `make(folder)` damages a folder of sound inputs; `words` is what a user then runs there.

    codes: exit codes that are right. says: texts of the report, the place among them. lines: how many faults there are.
    """

    def __init__(self, name, make, words, codes, *says, lines=None, around=False, speaks=False):
        self.name, self.make, self.words = name, make, words
        self.codes = codes if isinstance(codes, tuple) else (codes,)
        self.says, self.lines = says, lines
        self.speaks = speaks  # a report of what can still be used goes to standard output
        self.around = around  # something of the case lies outside the folder and must not be opened
