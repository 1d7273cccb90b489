"""SIGKILL at every call of a run on its files: saves, rotation, metrics, record, export; writes also torn in the middle."""
import time

import faults
import rows
import runs
import strace
import traces

TITLE = "SIGKILL at every file call"


def run(context):
    started = time.monotonic()
    with context.bench(**traces.SWEPT) as bench:
        expected = bench.undisturbed()
        traced = traces.Traced(bench)
        cases = [(call.n, "kill") for call in traced.calls]
        cases += [(call.n, "tear") for call in traced.calls if call.call == "write" and call.size > 1]
        if context.reduced:
            cases = context.generator("row 2").sample(cases, min(len(cases), 60))
        once = rows.Once()

        def case(point):
            number, how = point
            out = bench.place()
            ended = bench.train(out, env=faults.armed(out, at=number, do=how))
            if not ended.killed:
                raise runs.Broken(f"call {traced.calls[number - 1]} was not reached: {ended.said()}")
            if once.first(repr(sorted(runs.normal_tree(out).items()))):
                ended = bench.finish(out, expected)
                check_start(ended, traced.announced[number - 1])
            bench.done_with(out)
        _, broken = context.each(cases, case)
        also = ""
        if context.size == "release" and strace.is_there():
            also = sweep_by_strace(context, bench, expected, traced, broken)
    return rows.figures(started, broken, f"{len(cases)} kills at {len(traced)} calls, {len(once.seen)} distinct states resumed{also}")


def sweep_by_strace(context, bench, expected, traced, broken):
    calls = strace.traced(bench)
    ours = [call.call for call in traced.calls]
    if [name for name, _, _ in calls] != ours:
        broken.append(f"strace sees {len(calls)} calls, the fault library {len(ours)}")

    def case(number):
        out = bench.place()
        ended = strace.inject(bench, out, calls[number], "kill")
        if not ended.killed:
            raise runs.Broken(f"strace did not reach call {calls[number]}: {ended.said()}")
        bench.finish(out, expected)
        bench.done_with(out)
    broken += context.each(range(len(calls)), case)[1]
    return f"; {len(calls)} kills by strace"


def check_start(ended, announced):
    """The run went on from a step that was durable, or a later one."""
    found = runs.resumed_from(ended)
    if found < announced:
        raise runs.Broken(f"went on from step {found}, step {announced} was durable: {ended.said()}")
