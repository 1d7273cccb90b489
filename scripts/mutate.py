#!/usr/bin/env python3
"""Breaks the kernels on purpose, one listed way at a time, and asks whether their tests notice.

    mutate.py --all                       every mutant of tests/kernels/mutants/*.json
    mutate.py --kernel rms_norm           those of one file
    mutate.py --sample 12 --seed HASH     as many that must be red, chosen by the seed (default: the commit's hash)
    mutate.py --check                     only looks whether the lists fit the sources

The broken file is compiled with the commands of an existing build folder, linked with that build's other objects, and the
tests of its kernel are run: plain, checked, sanitized, fused, the likeliest first, until one is red. Exits 1 if a mutant that
must be red survives, one that is listed as equivalent or gpu-only is red, or one does not compile. The format of the lists is
in tests/kernels/README.md. Needs a build with the kernels' tests: scripts/build.
"""
import argparse
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import broken_build

ROOT = pathlib.Path(__file__).resolve().parent.parent
KERNELS = ROOT / "kernels"
TESTS = ROOT / "tests/kernels"
BUILDS = ["plain", "checked", "sanitized", "fused"]
EXPECTED = ("red", "equivalent", "gpu-only")
TIMEOUT = 240  # seconds; a mutant that never ends is red
CAUSES = [(r"AddressSanitizer: ([\w-]+)", "address sanitizer"), (r"runtime error: ", "undefined behaviour"), (r"race, ", "race"),
          (r"which nobody wrote", "unwritten memory"), (r"wrote outside", "guard"), (r"(?:reads|writes) \d+ bytes at byte", "bounds"),
          (r"exit without|different __syncthreads", "barrier"), (r"cannot go on", "stuck"), (r"own lane|reads lane|with mask", "mask"),
          (r"cp\.async", "cp.async"), (r"depends on the schedule", "schedules differ"), (r"Failure", "numbers")]


class Mutant:
    def __init__(self, source, entry, number):
        self.kernel = source
        self.breaks, self.find, self.replace = entry["breaks"], entry["find"], entry["replace"]
        self.expect, self.reason = entry["expect"], entry.get("reason", "")
        self.through = entry.get("through")
        self.name = f"{pathlib.Path(source).stem}-{number}"

    def faults(self):
        where = f"{self.kernel}, \"{self.breaks}\""
        count = (KERNELS / self.kernel).read_text(encoding="utf-8").count(self.find)
        if count != 1:
            yield f"{where}: {self.find!r} occurs {count} times, wanted once"
        if self.find == self.replace:
            yield f"{where}: replaces text by itself"
        if self.expect not in EXPECTED:
            yield f"{where}: expect is {self.expect!r}, wanted one of {', '.join(EXPECTED)}"
        if self.expect != "red" and not self.reason:
            yield f"{where}: {self.expect} needs a reason"
        if self.through and not (KERNELS / self.through).exists():
            yield f"{where}: through names {self.through}, which is not in kernels/"

    def sources(self):
        """The .cu files to compile anew."""
        if self.through:
            return [self.through]
        if self.kernel.endswith(".cu"):
            return [self.kernel]
        include = re.compile(rf'#include "{re.escape(self.kernel)}"')
        return sorted(file.name for file in KERNELS.glob("*.cu") if include.search(file.read_text(encoding="utf-8")))

    def builds(self):
        if re.search(r"_rn\(", self.find):
            order = ["fused", "plain", "checked", "sanitized"]
        elif re.search(r"__sync|__pipeline|threadIdx\.x == 0|mask", self.find):
            order = ["checked", "plain", "sanitized", "fused"]
        else:
            order = BUILDS
        return order


def read_mutants(lists, only):
    mutants, faults = [], []
    for file in sorted(lists.glob("*.json")):
        listed = json.loads(file.read_text(encoding="utf-8"))
        if only and pathlib.Path(listed["kernel"]).stem != pathlib.Path(only).stem:
            continue
        if not (KERNELS / listed["kernel"]).exists():
            faults.append(f"{file.name}: there is no kernels/{listed['kernel']}")
            continue
        mine = [Mutant(listed["kernel"], entry, number) for number, entry in enumerate(listed["mutants"], 1)]
        faults += [fault for mutant in mine for fault in mutant.faults()]
        mutants += mine
    for file in sorted(KERNELS.glob(f"{pathlib.Path(only).stem}.cu" if only else "*.cu")):
        count = sum(mutant.kernel == file.name and mutant.expect == "red" for mutant in mutants)
        if count < 3:
            faults.append(f"kernels/{file.name}: {count} mutants that must be red, at least 3 wanted in tests/kernels/mutants")
    return mutants, faults


class Build:
    """The commands of a build folder."""

    def __init__(self, folder):
        self.folder = folder
        compiles = broken_build.compile_commands(folder)
        self.compiles, self.links = {}, {}
        for name in BUILDS:
            for source, words in compiles:
                if source.parent == KERNELS and any(f"kernels_{name}.dir/" in word for word in words):
                    self.compiles[name, source.name] = words
            self.links[name] = broken_build.link_command(folder, f"test_kernels_{name}")

    def program(self, name):
        return self.folder / f"bin/test_kernels_{name}"

    def make(self, name, sources, changed):
        """The test program with `sources` of the folder `changed` in place of its own; or what the compiler said."""
        objects = {}
        for source in sources:
            ours = changed / f"{name}-{source}.o"
            theirs, error = broken_build.compile_changed(self.folder, self.compiles[name, source], KERNELS / source, changed / source, ours)
            if error:
                return None, error
            objects[theirs] = ours
        program = changed / f"test_kernels_{name}"
        error = broken_build.link_changed(self.folder, self.links[name], objects, program)
        return (None, error) if error else (program, "")


def tests_of(sources):
    """A filter for the test suites of these files; everything if one has no test file of its name."""
    suites = set()
    for source in sources:
        files = sorted(TESTS.glob(f"{pathlib.Path(source).stem}*_test.cpp"))
        if not files:
            return "*"
        for file in files:
            suites.update(re.findall(r"\bT(?:EST|YPED_TEST)(?:_[FP])?\(\s*(\w+)", file.read_text(encoding="utf-8")))
    return ":".join(sorted(f"{suite}.*:{suite}/*:*/{suite}.*:*/{suite}/*" for suite in suites))


def run_tests(program, chosen):
    """Why the tests are red; nothing if they are green."""
    try:
        done = subprocess.run([program, "--gtest_brief=1", "--gtest_fail_fast", f"--gtest_filter={chosen}"], capture_output=True, text=True,
                              timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired:
        return "never ends"
    if done.returncode in (0, 77):
        if " 0 tests ran" in done.stdout or "[==========] 0 tests" in done.stdout:
            return "no test ran"
        return ""
    output = done.stdout + done.stderr
    return next((cause for pattern, cause in CAUSES if re.search(pattern, output)), f"crash ({done.returncode})")


def judge(mutant, build):
    """(builds and causes that were red, fault or nothing)"""
    changed = build.folder / "mutants" / mutant.name
    shutil.rmtree(changed, ignore_errors=True)
    shutil.copytree(KERNELS, changed)
    file = changed / mutant.kernel
    file.write_text(file.read_text(encoding="utf-8").replace(mutant.find, mutant.replace), encoding="utf-8")
    sources, verdict, fault = mutant.sources(), "", ""
    chosen = tests_of(sources)
    for name in mutant.builds():
        program, error = build.make(name, sources, changed)
        if not program:
            fault = "does not compile: " + broken_build.first_error(error)
            break
        cause = run_tests(program, chosen)
        program.unlink()
        if cause == "no test ran":
            fault = f"no test of {', '.join(sources)} ran"
            break
        if cause:
            verdict = f"{name}: {cause}"
            break
    shutil.rmtree(changed, ignore_errors=True)
    if not fault and not verdict and mutant.expect == "red":
        fault = "SURVIVED: no test noticed"
    elif not fault and verdict and mutant.expect != "red":
        fault = f"is red, but listed as {mutant.expect}"
    return verdict, fault


def commit():
    found = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "none"


def choose(mutants, options):
    if options.sample:
        key = lambda mutant: hashlib.sha256(f"{options.seed}/{mutant.name}".encode()).digest()
        mutants = sorted((mutant for mutant in mutants if mutant.expect == "red"), key=key)[:options.sample]
    return mutants


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--all", action="store_true")
    what.add_argument("--kernel", metavar="NAME")
    what.add_argument("--sample", type=int, metavar="N")
    what.add_argument("--check", action="store_true")
    parser.add_argument("--seed", default=None)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
    parser.add_argument("--lists", type=pathlib.Path, default=TESTS / "mutants", help="folder of the lists")
    parser.add_argument("--as-built", action="store_true", help="the folder is up to date and its tests are green: do not look")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    options.seed = options.seed or commit()

    mutants, faults = read_mutants(options.lists, options.kernel)
    if faults or options.check:
        print("\n".join(faults) if faults else f"{len(mutants)} mutants fit the kernels")
        sys.exit(1 if faults else 0)
    chosen = choose(mutants, options)
    if not chosen:
        sys.exit("mutate.py: no mutant chosen")
    folder = options.build.resolve()
    if not options.as_built:
        subprocess.run(["ninja", "-C", folder, *(f"test_kernels_{name}" for name in BUILDS)], check=True, stdout=subprocess.DEVNULL)
        for name in BUILDS:
            if cause := run_tests(folder / f"bin/test_kernels_{name}", "*"):
                sys.exit(f"mutate.py: test_kernels_{name} is red without any mutant: {cause}")
    build = Build(folder)
    if options.sample:
        print(f"seed {options.seed}")
    print("| kernel | broken | wanted | seen by |\n|---|---|---|---|")
    with concurrent.futures.ThreadPoolExecutor(max(1, options.jobs)) as pool:
        for mutant, (verdict, fault) in zip(chosen, pool.map(lambda mutant: judge(mutant, build), chosen)):
            print(f"| {mutant.kernel} | {mutant.breaks} | {mutant.expect}{': ' + mutant.reason if mutant.reason else ''} | "
                  f"{fault or verdict or '-'} |", flush=True)
            if fault:
                faults.append(f"{mutant.kernel}, \"{mutant.breaks}\": {fault}")
    print(f"\n{len(chosen)} of {len(mutants)} mutants, {len(faults)} not as listed")
    if faults:
        print("\n".join(faults), file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
