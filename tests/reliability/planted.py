"""Plants bugs into the sources, one listed way at a time, and asks whether the row that should see them does.

planted.json lists them: {"file", "breaks" (what it does, in words), "find" (exact text, once in the file), "replace", and the one
that must go red: "row" (a number, run in its reduced form), or "unit" ("<layer>:<gtest filter>"), or "cli" ("test_x.py Class.test")}.
The changed file alone is compiled, with the commands of the build, and its library linked again into a folder of its own.
"""
import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import rows
import runs

SOURCE = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(SOURCE / "scripts"))
import broken_build  # noqa: E402

BASE_LAYERS = {"core", "io", "config", "phi3", "data", "quant", "plan"}
TIMEOUT = 300
GATE = 20  # of all, by the commit's hash


class Bug:
    def __init__(self, entry):
        self.file, self.breaks, self.find, self.replace = entry["file"], entry["breaks"], entry["find"], entry["replace"]
        self.row, self.unit, self.cli = entry.get("row"), entry.get("unit"), entry.get("cli")
        self.also = entry.get("also", [])  # further exchanges in the same file

    def __repr__(self):
        return f"{self.file}: {self.breaks}"

    def catcher(self):
        return f"row {self.row}" if self.row else self.unit or self.cli

    def exchanges(self):
        return [(self.find, self.replace)] + [tuple(pair) for pair in self.also]

    def faults(self):
        path = SOURCE / self.file
        if not path.exists():
            return [f"{self}: there is no such file"]
        text = path.read_text(encoding="utf-8")
        return [f"{self}: {find!r} occurs {text.count(find)} times, wanted once" for find, _ in self.exchanges() if text.count(find) != 1]

    def target(self):
        """What the file is linked into: the name of the library or program."""
        layer = pathlib.Path(self.file).parts[1]
        if layer in BASE_LAYERS:
            return "bin/libphi3tune_base.so"
        return "bin/phi3-tune" if layer == "cli" or "commands/front" in self.file else "bin/libphi3tune_engine.so"


def listed():
    return [Bug(entry) for entry in json.loads((SOURCE / "tests/reliability/planted.json").read_text(encoding="utf-8"))]


class Build:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder).resolve()
        self.compiles = broken_build.compile_commands(self.folder)
        self.links = {}

    def link(self, target):
        if target not in self.links:
            self.links[target] = broken_build.link_command(self.folder, target)
        return self.links[target]

    def words(self, source):
        found = [words for file, words in self.compiles if file == source and "objects_" in " ".join(words)]
        found = found or [words for file, words in self.compiles if file == source]
        if not found:
            raise runs.Broken(f"{source} is not compiled in {self.folder}")
        # What it includes from its own folder is found there still.
        return [found[0][0], *found[0][1:], "-iquote", str(source.parent)]

    def plant(self, bug, place):
        """A folder bin in `place` with the bug in it; the program there."""
        bin_folder = place / "bin"
        bin_folder.mkdir(parents=True)
        os.symlink(self.folder / "share", place / "share")
        for path in (self.folder / "bin").iterdir():
            if path.name == "phi3-tune":
                shutil.copy(path, bin_folder / path.name)  # a link would lead $ORIGIN back
            elif path.suffix == ".so":
                os.symlink(path, bin_folder / path.name)
        source = SOURCE / bug.file
        text = source.read_text(encoding="utf-8")
        for find, replace in bug.exchanges():
            text = text.replace(find, replace)
        changed, made = place / source.name, place / "changed.o"
        changed.write_text(text, encoding="utf-8")
        theirs, error = broken_build.compile_changed(self.folder, self.words(source), source, changed, made)
        if error:
            raise runs.Broken("does not compile: " + broken_build.first_error(error))
        target = f"bin/test_{bug.unit.split(':')[0]}" if bug.unit else bug.target()
        out = bin_folder / pathlib.Path(target).name
        out.unlink(missing_ok=True)
        if error := broken_build.link_changed(self.folder, self.link(target), {theirs: made}, out):
            raise runs.Broken("does not link: " + broken_build.first_error(error))
        return out if bug.unit else bin_folder / "phi3-tune"


def judge(bug, build, base, seed):
    """(who saw it and how, fault)"""
    place = base / f"bug-{abs(hash(repr(bug))):x}"
    try:
        program = build.plant(bug, place)
        saw = look(bug, program, seed)
        return saw, "" if saw else f"SURVIVED {bug.catcher()}"
    except runs.Broken as fault:
        return "", str(fault)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def look(bug, program, seed):
    """What the catcher says against it; nothing if it is content."""
    if bug.row:
        try:
            good, line, broken = importlib.import_module(f"row_{bug.row:02d}").run(rows.Context("reduced", seed, 1, str(program)))
        except runs.Broken as fault:  # too coarse to be a planted bug: not even an undisturbed run
            raise runs.Broken(f"nothing runs with it: {fault}") from None
        return "" if good else broken[0]
    if bug.unit:
        command = [str(program), "--gtest_brief=1", "--gtest_filter=" + bug.unit.split(":", 1)[1]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False, env={**os.environ, "OMP_WAIT_POLICY": "passive"})
        if " 0 tests ran" in done.stdout or " 0 tests from" in done.stdout:
            raise runs.Broken(f"no test of {bug.unit} ran")
    else:
        script, *chosen = bug.cli.split()
        command = [sys.executable, str(SOURCE / "tests/cli" / script), *chosen]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False,
                              env={**os.environ, "PHI3TUNE_PROGRAM": str(program), "PYTHONDONTWRITEBYTECODE": "1"})
        if "Ran 0 tests" in done.stderr:
            raise runs.Broken(f"no test of {bug.cli} ran")
    failure = [line for line in (done.stdout + done.stderr).splitlines() if "Failure" in line or "Error" in line or "FAILED" in line]
    return "" if done.returncode == 0 else (failure or [f"exit {done.returncode}"])[0]


def run(context, build):
    """The row 24."""
    started = time.monotonic()
    bugs = listed()
    broken = [fault for bug in bugs for fault in bug.faults()]
    if broken:
        return rows.figures(started, broken, f"{len(bugs)} planted bugs")
    with context.bench() as bench:
        made = Build(build)
        only = os.environ.get("PHI3TUNE_PLANTED")
        chosen = [bug for bug in bugs if not only or only in repr(bug)]
        if not only and context.size == "gate":
            chosen = context.generator("planted").sample(chosen, GATE)

        def one(bug):
            begun = time.monotonic()
            saw, fault = judge(bug, made, bench.base, context.seed)
            print(f"        {bug} | {bug.catcher()}: {fault or ' '.join(saw.split())[:160]} ({time.monotonic() - begun:.0f} s)", flush=True)
            if fault:
                raise runs.Broken(fault)
        _, broken = context.each(chosen, one)
    return rows.figures(started, broken, f"{len(chosen)} of {len(bugs)} planted bugs, {len(chosen) - len(broken)} caught by the row that should")
