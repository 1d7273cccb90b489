"""The same sweeps by strace, which sees the system calls themselves: slower, for release figures, and it shows that the fault
library misses none."""
import re
import shutil

import runs

# The system calls behind each name that the fault library counts.
SYSCALLS = {"open": ("openat", "open", "creat"), "write": ("write", "pwrite64", "writev"), "fsync": ("fsync", "fdatasync"), "close": ("close",),
            "rename": ("rename", "renameat", "renameat2"), "mkdir": ("mkdir", "mkdirat"), "unlink": ("unlink", "unlinkat"), "rmdir": ("rmdir",),
            "truncate": ("ftruncate", "truncate"), "link": ("link", "linkat"), "symlink": ("symlink", "symlinkat")}
NAMES = {syscall: name for name, syscalls in SYSCALLS.items() for syscall in syscalls}
LINE = re.compile(r"^\d+ +(\w+)\((.*)")


def is_there():
    return shutil.which("strace") is not None


def start(bench, out, log, *more):
    words = ["strace", "-f", "-qq", "-y", "-s", "0", "-o", str(log), "-e", "trace=" + ",".join(NAMES), *more, "--",
             bench.program, "--config", str(bench.config), "--output_dir", str(out)]
    return runs.Running(words, None, bench.base)


def calls_of(log, out):
    """[(name as the fault library has it, system call, its number among those of its kind)] of those below `out`."""
    found, numbers, writers = [], {}, set()
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        match = LINE.match(line)
        if not match:
            continue
        syscall, rest = match[1], match[2]
        numbers[syscall] = numbers.get(syscall, 0) + 1
        name = NAMES[syscall]
        if f'"{out}' not in rest and f"<{out}" not in rest:
            continue
        if name == "open":
            changing = re.search(r"O_CREAT|O_WRONLY|O_RDWR|O_TRUNC", rest)
            opened = re.search(r"= (\d+)<", rest)
            if opened:
                (writers.add if changing else writers.discard)(opened[1])
            if not changing:
                continue
        elif name == "close" and rest.split("<")[0] not in writers:
            continue
        elif syscall == "unlinkat" and "AT_REMOVEDIR" in rest:
            name = "rmdir"
        found.append((name, syscall, numbers[syscall]))
    return found


def traced(bench):
    """The calls of an undisturbed run."""
    out, log = bench.place("strace"), bench.base / "strace.log"
    ended = start(bench, out, log).wait()
    if ended.code != runs.DONE:
        raise runs.Broken(f"under strace: {ended.said()}")
    return calls_of(log, out)


def inject(bench, out, call, what):
    """A run in which that call is hit: SIGKILL before it, or an error instead of it."""
    _, syscall, number = call
    how = "signal=KILL" if what == "kill" else f"error={what}"
    return start(bench, out, bench.base / f"{out.name}.strace", "-e", f"inject={syscall}:{how}:when={number}").wait()
