"""ENOSPC, EIO and EDQUOT at every call of a run on its files, once and from then on; short writes and EINTR; folders that
cannot be listed. Exit 4 with one line, or done all the same; the last good checkpoint stands, and the run goes on from it."""
import time

import faults
import row_02
import rows
import runs
import strace
import traces

TITLE = "errors at every file call"


def run(context):
    started = time.monotonic()
    with context.bench(**traces.SWEPT) as bench:
        expected = bench.undisturbed()
        traced = traces.Traced(bench)
        cases = []
        for call in traced.calls:
            # A disk that is full or over quota differs in the number alone: the gate takes turns.
            full = ("ENOSPC", "EDQUOT") if context.size == "release" else ("ENOSPC", "EDQUOT")[call.n % 2:][:1]
            for error in full:
                cases.append((call.n, error, True, ()))
            cases.append((call.n, "EIO", False, ()))
            if context.size == "release":
                cases += [(call.n, error, False, ()) for error in full] + [(call.n, "EIO", True, ())]
            if call.call == "write":
                cases.append((call.n, "short", False, ()))
            if call.call in faults.INTERRUPTIBLE and (context.size == "release" or call.n % 3 == 0):
                cases.append((call.n, "EINTR", False, ()))
        listing = traces_of_listing(bench)
        cases += [(n, "EIO", False, tuple(faults.LISTING)) for n in range(1, listing + 1)]
        if context.reduced:
            syncs = [case for case in cases if case[1:3] == ("EIO", False) and not case[3] and traced.calls[case[0] - 1].call == "fsync"]
            cases = syncs + context.generator("row 3").sample(cases, min(len(cases), 60))
        once, ends = rows.Once(), {}

        def case(point):
            number, what, persist, calls = point
            out = bench.place()
            ended = bench.train(out, env=faults.armed(out, at=number, do=what, persist=persist, calls=calls))
            runs.check_end(ended)
            where = f"call {number if calls else traced.calls[number - 1]}"
            if what in ("short",) and ended.code != runs.DONE:
                raise runs.Broken(f"{where}: a short write is no error: {ended.said()}")
            if ended.code == runs.RESOURCE:
                if len(ended.errors()) != 1:
                    raise runs.Broken(f"{where}: {len(ended.errors())} errors said, wanted one: {ended.said()}")
            elif ended.code == runs.DONE:
                if not calls and must_be_said(traced.calls[number - 1], what):
                    raise runs.Broken(f"{where}: {what} was passed over: {ended.said()}")
                expected.compare(out, ended)
            else:
                raise runs.Broken(f"{where}: {ended.said()}")
            ends[ended.code] = ends.get(ended.code, 0) + 1
            if once.first(repr(sorted(runs.normal_tree(out).items()))):
                ended = bench.finish(out, expected)
                if not calls:
                    row_02.check_start(ended, traced.announced[number - 1])
            bench.done_with(out)
        _, broken = context.each(cases, case)
        also = ""
        if context.size == "release" and strace.is_there():
            also = sweep_by_strace(context, bench, expected, broken)
    return rows.figures(started, broken, f"{len(cases)} faults at {len(traced)} calls and {listing} listings, "
                        f"{ends.get(4, 0)} ended with exit 4, {ends.get(0, 0)} were done all the same, {len(once.seen)} distinct states resumed{also}")


def sweep_by_strace(context, bench, expected, broken):
    calls = strace.traced(bench)

    def case(point):
        number, error = point
        out = bench.place()
        ended = strace.inject(bench, out, calls[number], error)
        runs.check_end(ended)
        if ended.code not in (runs.DONE, runs.RESOURCE):
            raise runs.Broken(f"{calls[number]}: {ended.said()}")
        bench.finish(out, expected)
        bench.done_with(out)
    cases = [(number, error) for number in range(len(calls)) for error in ("ENOSPC", "EIO")]
    broken += context.each(cases, case)[1]
    return f"; {len(cases)} by strace"


def must_be_said(call, what):
    """Bytes or names that may not be there: no run goes on as if they were."""
    if call.path.endswith("metrics.jsonl") and call.call in ("write", "close"):
        return False  # lines wait in memory; the sync of the next save is what counts
    return what in ("EIO", "ENOSPC", "EDQUOT") and call.call in ("open", "write", "fsync", "close", "rename", "mkdir")


def traces_of_listing(bench):
    out, trace = bench.place("listed"), bench.base / "listed.trace"
    bench.train(out, env=faults.armed(out, trace=trace, calls=faults.LISTING))
    return len(faults.read_trace(trace))
