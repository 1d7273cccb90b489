"""The library of faults/ from Python: the environment that arms it, and the trace it leaves. faults/plan.h says what it does.

PHI3TUNE_FAULTS names the built library (ctest sets it).
"""
import json
import os
import pathlib

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
LIBRARY = os.environ.get("PHI3TUNE_FAULTS", str(SOURCE / "build/bin/libfaults_for_tests.so"))

INTERRUPTIBLE = {"open", "write", "fsync", "close", "truncate"}  # what may end with EINTR
LISTING = ("opendir", "readdir", "statvfs")


def armed(under, *, at=0, do="kill", persist=False, calls=(), trace=None, room=None, allocate=None):
    """Environment for a process whose calls below the folder `under` are counted and, the one numbered `at`, hit.

    `allocate`: (number, bytes): that allocation of as many bytes or more fails instead; number 0 only counts.
    """
    found = {"LD_PRELOAD": LIBRARY, "PHI3TUNE_FAULTS_UNDER": str(pathlib.Path(under).resolve())}
    if at:
        found.update(PHI3TUNE_FAULTS_AT=str(at), PHI3TUNE_FAULTS_DO=do)
    if persist:
        found["PHI3TUNE_FAULTS_PERSIST"] = "1"
    if calls:
        found["PHI3TUNE_FAULTS_CALLS"] = ",".join(calls)
    if trace:
        found["PHI3TUNE_FAULTS_TRACE"] = str(trace)
    if room is not None:
        found["PHI3TUNE_FAULTS_ROOM"] = str(room)
    if allocate:
        found.update(PHI3TUNE_FAULTS_ALLOCATE_AT=str(allocate[0]), PHI3TUNE_FAULTS_ALLOCATE_FROM=str(allocate[1]))
    return found


class Call:
    """A counted call: n, call, path, to, offset, size, made, truncated as recorded, and the bytes written."""

    def __init__(self, entry, data):
        self.n, self.call, self.path = entry["n"], entry["call"], entry["path"]
        self.to = entry.get("to", "")
        self.offset, self.size = entry.get("offset", -1), entry.get("size", 0)
        self.made, self.truncated = entry.get("made", False), entry.get("truncated", False)
        self.bytes = data[entry["data"]:entry["data"] + self.size] if "data" in entry else b""

    def __repr__(self):
        return f"{self.n} {self.call} {self.path}{' -> ' + self.to if self.to else ''}"


def read_trace(path):
    path = pathlib.Path(path)
    if not path.exists():
        return []
    data = path.with_name(path.name + ".data").read_bytes()
    return [Call(json.loads(line), data) for line in path.read_text(encoding="utf-8").splitlines()]
