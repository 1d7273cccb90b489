"""What a stage may use: programs, processes with a time limit, the GPU's name, the folder of results."""
import collections
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
STAGE_SECONDS = 470.0  # of the eight minutes that a stage may take
REHEARSED = "rehearsed: no GPU"
PLUGIN = "PHI3TUNE_CUDA_PLUGIN"
LIBRARIES = ("phi3tune_engine", "phi3tune_cuda")  # targets that are no program

Done = collections.namedtuple("Done", "out err status seconds timed_out")


def cache():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(os.environ.get("PHI3TUNE_CACHE") or os.path.join(base, "phi3-tune"))


def end_group(child):
    """Ends a process that was started in a session of its own, and what it started."""
    for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, 10)):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        try:
            child.wait(patience)
            return
        except subprocess.TimeoutExpired:
            pass


class Box:
    """The machine and the time. `gpu`: name, memory_mib, ... as nvidia-smi says; None without one."""

    def __init__(self, options, folder, gpu, seconds):
        self.options, self.folder, self.gpu = options, folder, gpu
        self.rehearse = options.rehearse
        self.ends = time.monotonic() + seconds
        self.stage, self.stage_ends, self.calls = "", self.ends, 0
        self.environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
        self.named_plugin = self.environment.pop(PLUGIN, "")  # nothing may stand in for a GPU that is there
        if gpu:
            self.environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
            self.environment.setdefault("CUDA_VISIBLE_DEVICES", str(options.device))

    def begin(self, stage):
        self.stage, self.calls = stage, 0
        self.stage_ends = min(self.ends, time.monotonic() + STAGE_SECONDS)

    def left(self):
        """Seconds of this stage."""
        return max(0.0, self.stage_ends - time.monotonic())

    # ---- programs ----

    def build_folder(self):
        return self.options.build or SOURCE / ("build" if self.rehearse else "build-cuda")

    def program(self, name):
        return self.build_folder() / "bin" / name

    def plugin(self):
        """In a rehearsal, the library that stands in for the GPU: the one that the environment names, or the one that was built;
        "" without one. Programs that are started afterwards take it for the device."""
        built = self.program("libphi3tune_cuda_rehearsal.so")
        found = (self.named_plugin or (str(built) if built.exists() else "")) if self.rehearse else ""
        if found:
            self.environment[PLUGIN] = found
        return found

    def build(self, checks, *targets):
        """Programs of `targets` that are there afterwards. With --build nothing is built; what is missing is a line."""
        programs = [name for name in targets if name not in LIBRARIES]
        preset = [] if self.rehearse else ["cuda"]
        if not self.options.build:
            done = self.call("build", [SOURCE / "scripts/build", *preset, *targets], self.left())
            if done.timed_out:
                checks.skipped("build", f"{' '.join(['scripts/build', *preset])} had not ended after {done.seconds:.0f} s; run it first, then gpu_check again")
            else:
                checks.require("build", done.status == 0, "exit 0", f"{done.seconds:.0f} s" if not done.status else f"exit {done.status}: {last_line(done.err)}")
        there = [name for name in programs if self.program(name).exists()]
        for name in programs:
            if name not in there:
                checks.skipped(name, f"is not in {self.program(name).parent}; {' '.join(['scripts/build', *preset, name])} makes it")
        return there

    # ---- processes ----

    def call(self, name, command, limit, env=None, watch=None):
        """Runs one process, in a session of its own which the time limit ends; its output stays in raw/. `watch` is called
        with its id about once a second."""
        self.calls += 1
        raw = self.folder / "raw"
        raw.mkdir(exist_ok=True)
        paths = [raw / f"{self.stage}-{self.calls:02d}-{slug(name)}.{kind}" for kind in ("out", "err")]
        start, timed_out = time.monotonic(), False
        with open(paths[0], "wb") as out, open(paths[1], "wb") as err:
            try:
                child = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                         env={**self.environment, **(env or {})}, start_new_session=True)
            except OSError as fault:
                return Done("", f"{command[0]}: {fault.strerror}", 127, 0.0, False)
            try:
                while child.poll() is None:
                    if time.monotonic() - start > limit:
                        timed_out = True
                        end_group(child)
                    elif watch:
                        watch(child.pid)
                    try:
                        child.wait(1.0 if watch else min(0.5, max(0.02, limit - (time.monotonic() - start))))
                    except subprocess.TimeoutExpired:
                        pass
            except BaseException:  # Ctrl-C: nothing of ours stays behind
                end_group(child)
                raise
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in paths]
        return Done(*texts, child.returncode, time.monotonic() - start, timed_out)

    def smi(self, query, kind="gpu"):
        """Rows of nvidia-smi's answer, or [] where it has none."""
        tool = shutil.which("nvidia-smi", path=self.environment.get("PATH"))
        if not tool:
            return []
        return ask_smi(tool, query, kind, self.options.device)


def toolkit_program(name):
    """A program of the CUDA toolkit: on the PATH, or where scripts/setup looks for a toolkit. None if there is none."""
    named = os.environ.get("PHI3TUNE_CUDA_ROOT")
    roots = [named] if named else [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    return shutil.which(name) or next((path for root in roots if root and os.access(path := f"{root}/bin/{name}", os.X_OK)), None)


def ask_smi(tool, query, kind="gpu", device=None):
    command = [tool, f"--query-{kind}={query}", "--format=csv,noheader,nounits", *([] if device is None else [f"--id={device}"])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    return [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if line.strip()]


def find_gpu(device):
    """Name, memory and driver of a GPU, or None. A driver without nvidia-smi counts: its name is not known."""
    tool = shutil.which("nvidia-smi")
    rows = ask_smi(tool, "name,memory.total,driver_version", device=device) if tool else []
    if rows and len(rows[0]) == 3:
        return {"name": rows[0][0], "memory_mib": rows[0][1], "driver": rows[0][2]}
    if not tool and os.path.exists(f"/dev/nvidia{device}"):
        return {"name": "unknown", "memory_mib": "", "driver": ""}
    return None


def last_line(text):
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "no output"


def slug(text):
    """For the name of a file."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")


def short_gpu(name):
    """h200, h100, a100, 4090, l40s as `phi3-tune plan --gpu` calls them; the name in small letters otherwise."""
    text = name.lower()
    for known in ("h200", "h100", "a100", "4090", "l40s"):
        if known in text:
            return known
    return slug(text.replace("nvidia", "")) or "unknown"
