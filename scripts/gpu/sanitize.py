"""compute-sanitizer over the kernels' tests: memcheck, racecheck, initcheck, synccheck.

Each tool gets an equal share of the time that is left. Buffers of the tests are filled before use, so initcheck sees only what
kernels leave unwritten in memory of their own.
"""
import re

from . import kernels
from .box import last_line, toolkit_program

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
FOUND = 9  # exit status that we ask for where the tool finds something
SUMMARY = re.compile(r"(?:ERROR SUMMARY: (\d+) errors?|RACECHECK SUMMARY: (\d+) hazards? displayed)")
REFUSALS = ("device not supported", "unable to find injection", "internal sanitizer error", "target application terminated before",
            "failed to initialize", "operation not permitted", "permission denied", "incompatible driver", "insufficient driver")


def judge(checks, tool, done):
    """One line: what the tool found, or that it doesn't serve this device."""
    text = done.out + "\n" + done.err
    summary = SUMMARY.findall(text)
    good, failed = text.count("[       OK ]"), text.count("[  FAILED  ]")
    refusal = next((line for line in text.splitlines() if any(word in line.lower() for word in REFUSALS)), "")
    if done.status == kernels.SKIPPED or (refusal and not good):
        checks.refused(tool, (refusal or last_line(done.out)).strip("= ")[:300])
    elif done.timed_out:
        findings = sum(line.startswith("========= ") and ("Invalid" in line or "Error" in line or "hazard" in line) for line in text.splitlines())
        if findings:
            checks.require(tool, False, "nothing found", f"{findings} findings before it was cut off after {done.seconds:.0f} s, see raw/")
        else:
            checks.skipped(tool, f"cut off after {done.seconds:.0f} s: nothing found in {good} cases, the rest was not run")
    elif summary:
        errors = sum(int(a or b) for a, b in summary)
        checks.require(tool, errors == 0 and failed == 0 and good > 0, "0 findings, no case fails, at least one runs",
                       f"{errors} findings, {good} cases good, {failed} failed, {done.seconds:.0f} s")
    else:
        checks.require(tool, False, "a summary", f"exit {done.status} without one: {last_line(done.err or done.out)}")


def rehearse(box, checks):
    """What looks for the same faults on the host: AddressSanitizer and UBSan; races, reads of unwritten memory, barriers."""
    names = box.build(checks, "test_kernels_sanitized", "test_kernels_checked")
    for place, name in enumerate(names):
        kernels.suite(box, checks, name, box.program(name), [], box.left() / (len(names) - place), {"KERNEL_SCHEDULES": "1"})


def run(box, checks):
    if box.rehearse:
        rehearse(box, checks)
        return
    tool = toolkit_program("compute-sanitizer")
    if not tool:
        for name in TOOLS:
            checks.refused(name, "no compute-sanitizer on the PATH or in the toolkit (package cuda-sanitizer)")
        return
    if "test_kernels_device" not in box.build(checks, "test_kernels_device"):
        return
    for place, name in enumerate(TOOLS):
        command = [tool, "--tool", name, "--error-exitcode", str(FOUND), "--print-limit", "20", box.program("test_kernels_device"),
                   f"--gtest_filter=-{kernels.HUGE}"]
        judge(checks, name, box.call(name, command, box.left() / (len(TOOLS) - place), {"KERNEL_RUNS": "1"}))
