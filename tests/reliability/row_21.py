"""Memory that runs out: the allocation number N of the run fails. Exit 4 with one line and the last checkpoint kept, or done
with the same result; then the run goes on."""
import time

import faults
import rows
import runs

TITLE = "allocations that fail"
FROM = 1 << 14  # bytes: tensors, buffers and files, not the strings of error reports


def run(context):
    started = time.monotonic()
    with context.bench() as bench:
        expected = bench.undisturbed()
        out, counted = bench.place("counted"), bench.base / "allocations"
        env = {**faults.armed(out, allocate=(0, FROM)), "PHI3TUNE_FAULTS_ALLOCATE_COUNT": str(counted)}
        expected.compare(out, bench.train(out, env=env))
        count = counted.stat().st_size
        draw = context.generator("row 21")
        cases = [(number, persist) for number in sorted(draw.sample(range(1, count + 1), min(count, context.count(40, 400, 8)))) for persist in (False, True)]
        ends = {}

        def case(point):
            number, persist = point
            place = bench.place()
            ended = bench.train(place, env=faults.armed(place, allocate=(number, FROM), persist=persist))
            runs.check_end(ended)
            ends[ended.code] = ends.get(ended.code, 0) + 1
            if ended.code == runs.RESOURCE:
                if len(ended.errors()) != 1:
                    raise runs.Broken(ended.said())
            elif ended.code == runs.DONE:
                expected.compare(place, ended)
            else:
                raise runs.Broken(ended.said())
            bench.finish(place, expected)
            bench.done_with(place)
        _, broken = context.each(cases, case)
    return rows.figures(started, broken, f"{len(cases)} failures among {count} allocations of {FROM >> 10} KiB and more, "
                        f"{ends.get(4, 0)} ended with exit 4, {ends.get(0, 0)} were done all the same")
