"""SIGTERM at random times: exit 75 soon, no optimizer step lost, a second one does no harm, and the run goes on."""
import json
import signal
import statistics
import time

import faults
import row_07
import rows
import runs
import traces

TITLE = "random SIGTERM"
SOON = 3.0  # seconds, on a machine that is busy: a micro-batch and a save take hundredths


def run(context):
    started = time.monotonic()
    with context.bench() as bench:
        expected = bench.undisturbed()
        usual = expected.ended.seconds
        traced = traces.Traced(bench)
        draw = context.generator("row 6")
        cases = [("at", draw.uniform(0.1, 1.0) * usual, draw.choice((None, draw.uniform(0, 0.02))))
                 for _ in range(context.count(50, 500, 10))]
        inside = traced.numbers(lambda call: "checkpoints" in call.path + call.to or "adapter" in call.path)
        cases += [("in", number, None) for number in draw.sample(inside, min(len(inside), context.count(20, len(inside), 6)))]
        # While the line of a step is written, the run stops after that very step.
        after = {number: step for step, number in row_07.metrics_calls(traced).items() if step < 8}
        cases += [("in", number, None) for number in after]
        ends, waits = {}, []

        def case(point):
            how, moment, second = point
            out = bench.place()
            if how == "in":
                ended = bench.train(out, env=faults.armed(out, at=moment, do="term"))
            else:
                running = bench.start("--config", bench.config, "--output_dir", out)
                time.sleep(moment)
                running.send(signal.SIGTERM)
                if second is not None:
                    time.sleep(second)
                    running.send(signal.SIGTERM)
                ended = running.wait()
            ends[ended.code] = ends.get(ended.code, 0) + 1
            if ended.code == -signal.SIGTERM and not out.exists():
                return  # before main
            runs.check_end(ended)
            if ended.code not in (runs.DONE, runs.STOPPED):
                raise runs.Broken(ended.said())
            if how == "in" and moment in after and (ended.code != runs.STOPPED or max(runs.steps_of(out), default=0) != after[moment]):
                raise runs.Broken(f"a signal after step {after[moment]} left checkpoints of {runs.steps_of(out)}: {ended.said()}")
            if ended.code == runs.STOPPED and second is None:
                if ended.sent is not None:
                    waits.append(ended.sent)
                    if ended.sent > SOON:
                        raise runs.Broken(f"{ended.sent:.1f} s from the signal to the end: {ended.said()}")
                check_nothing_lost(out, ended)
            bench.finish(out, expected, names=False)  # a stop may leave a checkpoint of another step
            bench.done_with(out)
        _, broken = context.each(cases, case)
        written = [call.n for call in traced.calls if call.call == "write" and call.path.endswith("metrics.jsonl")]
        broken += context.each(written[::4] if context.size == "gate" else written[::8] if context.reduced else written,
                               lambda number: asked(bench, expected, number))[1]
        broken += context.each(["evaluating", "reading"], lambda what: long_stage(bench, what, waits))[1]
    longest = f"{max(waits):.2f} s at most, {statistics.median(waits):.2f} s in the middle" if waits else "none"
    return rows.figures(started, broken, f"{len(cases)} signals, {ends.get(75, 0)} stopped with 75, {ends.get(0, 0)} were done before; "
                        f"to the end {longest}")


def check_nothing_lost(out, ended):
    """Every step that was said to be made is in the newest checkpoint."""
    metrics = out / "metrics.jsonl"
    made = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()] if metrics.exists() else []
    last = max((line["step"] for line in made if "loss" in line), default=0)
    saved = max(runs.steps_of(out), default=0)
    if saved < last:
        raise runs.Broken(f"{last} steps were made, the newest checkpoint is of step {saved}: {ended.said()}")


def long_stage(bench, what, waits):
    """A signal in the middle of a stage that takes seconds: it is not waited for."""
    bench.write(f"{what}.jsonl", runs.records(0, 4000 if what == "evaluating" else 300000))
    settings = {"test_datasets": [{"path": "evaluating.jsonl"}]} if what == "evaluating" else {"datasets": [{"path": "reading.jsonl"}]}
    config = bench.configured(what, **settings)
    out = bench.place()
    running = bench.start("--config", config, "--output_dir", out)
    if what == "evaluating":
        while not (out / "metrics.jsonl").exists() and running.process.poll() is None:
            time.sleep(0.01)
    time.sleep(0.4)
    running.send(signal.SIGTERM)
    ended = running.wait()
    if ended.code != runs.STOPPED:
        raise runs.Broken(ended.said())
    waits.append(ended.sent)
    if ended.sent > SOON / 2:
        raise runs.Broken(f"while {what}: {ended.sent:.1f} s from the signal to the end")


def asked(bench, expected, number):
    """SIGUSR1 while a step's line is written: a checkpoint at the end of the step, and the run goes on."""
    out = bench.place()
    ended = bench.train(out, env=faults.armed(out, at=number, do="usr1"))
    if ended.code != runs.DONE or "a checkpoint is saved" not in ended.err:
        raise runs.Broken(f"asked for a checkpoint at call {number}: {ended.said()}")
    expected.compare(out, ended, names=False)
    bench.done_with(out)
