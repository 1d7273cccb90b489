"""Every kernel's tests on the device: 20 runs with equal bits, matrices beyond 2^31 elements."""
import json
import re

from . import facts
from .box import LIBRARIES, SOURCE, last_line, slug

RUNS = 20
SKIPPED = 77  # the programs' exit status where they cannot run
HUGE = "BeyondInt32*"
BACK_END = "test_cuda_device"


def test_files():
    """Stems of the files that must be part of the program."""
    return sorted(path.stem.removesuffix("_test") for path in (SOURCE / "tests/kernels").glob("*_test.cpp"))


def suite(box, checks, name, program, words, limit, env=None):
    """Runs a GoogleTest program; a line for all, one for each case that failed. The cases that ran, or None."""
    report = box.folder / "raw" / f"{box.stage}-{slug(name)}.json"
    report.unlink(missing_ok=True)
    done = box.call(name, [program, f"--gtest_output=json:{report}", *words], limit, env)
    if done.status == SKIPPED:
        checks.refused(name, last_line(done.out))
        return None
    if done.timed_out:
        ended = done.out.count("[       OK ]"), done.out.count("[  FAILED  ]")
        verdict = checks.skipped if not ended[1] else lambda what, why: checks.require(what, False, "no case fails", why)
        verdict(name, f"cut off after {done.seconds:.0f} s: {ended[0]} cases good, {ended[1]} failed; the rest was not run")
        return None
    try:
        result = json.loads(report.read_text(encoding="utf-8"))
        cases = [case for group in result["testsuites"] for case in group["testsuite"]]
    except (OSError, ValueError, KeyError, TypeError):
        checks.require(name, False, "no case fails", f"exit {done.status} and no report: {last_line(done.err or done.out)}")
        return None
    ran = [case for case in cases if case.get("result") == "COMPLETED"]
    failed = [case for case in ran if case.get("failures")]
    skipped = [case for case in cases if case.get("result") == "SKIPPED"]
    if skipped and not ran and done.status == 0:
        checks.skipped(name, f"all {len(skipped)} cases")
    else:
        checks.require(name, not failed and bool(ran) and done.status == 0, "no case fails, at least one runs",
                       f"{len(ran) - len(failed)} of {len(ran)} cases good, {len(skipped)} skipped, {done.seconds:.0f} s")
    for case in failed[:20]:
        what = str(case["failures"][0].get("failure", "")).replace("\n", " ")[:300]
        checks.require(f"{case['classname']}.{case['name']}", False, "no failure", what)
    if skipped:
        why = dict.fromkeys(re.findall(r": Skipped\n(.+)", done.out))
        checks.skipped(f"{name}: {len(skipped)} cases", f"{', '.join(case['classname'] + '.' + case['name'] for case in skipped)}: {'; '.join(why) or 'no reason given'}"[:600])
    return ran


def files_of(cases):
    """Stems of the files that cases are of."""
    return {str(case.get("file", "")).rsplit("/", 1)[-1].removesuffix(".cpp").removesuffix("_test") for case in cases}


def back_end_tests():
    """The back end's own tests for a device, where this tree has such a program."""
    named = any(BACK_END in path.read_text(encoding="utf-8") for path in (SOURCE / "tests").glob("**/CMakeLists.txt"))
    return [BACK_END] if named else []


def run(box, checks):
    host, device = ("test_kernels_plain", "test_cuda"), ("test_kernels_device", "phi3-tune", *LIBRARIES, "gpu_probe", *back_end_tests())
    there = box.build(checks, *(host if box.rehearse else device))  # all that later stages want too, by one call
    name = host[0] if box.rehearse else device[0]
    if name in there:
        runs = {"KERNEL_SCHEDULES": "1"} if box.rehearse else {"KERNEL_RUNS": str(RUNS)}
        title = "kernels on the host, one schedule" if box.rehearse else f"kernels on the device, {RUNS} runs with equal bits"
        ran = suite(box, checks, title, box.program(name), [f"--gtest_filter=-{HUGE}"], box.left() * 0.7, runs)
        if ran:
            missing = sorted(set(test_files()) - files_of(ran) - {"huge"})
            checks.require("every file of tests/kernels takes part", not missing, "none is missing", ", ".join(missing) or "none is missing")
        suite(box, checks, "the huge case, small" if box.rehearse else "beyond 2^31 elements", box.program(name), [f"--gtest_filter={HUGE}"], box.left())
    second = host[1] if box.rehearse else BACK_END
    if second in there:
        suite(box, checks, "the back end over the host's kernels" if box.rehearse else "the back end on the device", box.program(second), [], box.left())
    elif not box.rehearse and second not in device:
        checks.shown("the back end's tests", "have no program for the device: the stage train compares its losses with the CPU's instead")
    if not box.rehearse:
        facts.program(box, checks)  # the stage facts came before anything was built
