"""A run stopped after any step goes on to the same bits: epochs' edges, accumulation 1, 3 and 4, packed or not, dropout,
evaluations, early stopping; stopped by a kill, by SIGTERM and by max_time."""
import shutil
import time

import faults
import rows
import runs
import traces

TITLE = "resume at every step"
EVERY = {"max_steps": None, "num_epochs": 3, "save_steps": 1, "save_total_limit": 0, "eval_steps": 2}


def ways(context):
    found = [(f"accumulation {steps}, {'packed' if packed else 'single'}", {"gradient_accumulation_steps": steps, "sample_packing": packed})
             for steps in (1, 3, 4) for packed in (True, False)]
    found.append(("early stopping", {"gradient_accumulation_steps": 2, "early_stopping_patience": 2, "learning_rate": 0.5,
                                     "lr_scheduler": "constant", "eval_steps": 1}))
    found.append(("by length", {"gradient_accumulation_steps": 3, "sample_packing": False, "group_by_length": True, "micro_batch_size": 2}))
    if context.size == "release":
        found.append(("quantised base", {"adapter": "qlora", "gradient_accumulation_steps": 3}))
        found.append(("bf16", {"bf16": True, "gradient_accumulation_steps": 3}))
        found.append(("fractions of an epoch", {"num_epochs": 2.5, "gradient_accumulation_steps": 2, "sample_packing": False}))
    return found[:2] + found[6:7] if context.reduced else found


def run(context):
    started = time.monotonic()
    broken, resumed, steps_made = [], 0, 0
    with context.bench() as bench:
        bench.write("data.jsonl", runs.records(0, 7))
        for name, settings in ways(context):
            config = bench.configured(name.replace(" ", "-").replace(",", ""), **{**EVERY, **settings})
            expected = bench.undisturbed(config)
            steps = runs.steps_of(expected.out)
            steps_made += len(steps)
            traced = traces.Traced(bench, config)
            expected.compare(traced.out, traced.ended)
            written = metrics_calls(traced)
            cases = [("killed", step) for step in steps] + [("stopped", step) for step in steps if step in written]
            if name == "early stopping" and len(steps) > 8:
                broken.append(f"{name}: {len(steps)} steps were made, the run should have ended early")

            def case(point):
                how, step = point
                out = bench.place()
                if how == "killed":
                    cut_back(expected.out, out, step)
                else:
                    ended = bench.train(out, config=config, env=faults.armed(out, at=written[step], do="term"))
                    runs.check_end(ended)
                    if ended.code not in (runs.STOPPED, runs.DONE):
                        raise runs.Broken(ended.said())
                    if ended.code == runs.STOPPED and max(runs.steps_of(out), default=0) < step:
                        raise runs.Broken(f"step {step} is lost: {ended.said()}")
                ended = bench.finish(out, expected, config=config)
                if how == "killed" and runs.resumed_from(ended) != step:
                    raise runs.Broken(f"went on from step {runs.resumed_from(ended)}: {ended.said()}")
                bench.done_with(out)
            resumed += len(cases)
            broken += [f"{name}, {fault}" for fault in context.each(cases, case)[1]]
        broken += timed(context, bench)
    return rows.figures(started, broken, f"{resumed} resumes of {steps_made} steps in {len(ways(context))} ways")


def metrics_calls(traced):
    """step -> the number of the call that writes its line: a signal then stops the run after that step."""
    found = {}
    for call in traced.calls:
        if call.call == "write" and call.path.endswith("metrics.jsonl"):
            text = call.bytes.decode()
            if '"loss"' in text:
                found[int(text.split('"step":')[1].split(",")[0])] = call.n
    return found


def cut_back(source, out, step):
    """The folder as a kill leaves it after the save of `step`: later checkpoints and the result are not there yet."""
    shutil.copytree(source, out, ignore=lambda folder, names: ["adapter"] if folder == str(source) else [])
    for later in runs.steps_of(out):
        if later > step:
            shutil.rmtree(out / f"checkpoints/step-{later:06d}")
    record = out / "run.json"
    record.write_text(record.read_text(encoding="utf-8").replace('"status": "finished"', '"status": "running"'), encoding="utf-8")


def timed(context, bench):
    """max_time stops as a signal does; the same command line goes on, as often as it takes."""
    config = bench.configured("timed", **{**EVERY, "gradient_accumulation_steps": 1, "sample_packing": False, "save_steps": 1000,
                                          "save_total_limit": 1})  # so that the checkpoint of a stop goes when the run is done
    expected = bench.undisturbed(config)
    text = config.read_text(encoding="utf-8")
    broken, stopped = [], []
    for part in (0.8 * 0.7 ** k for k in range(9)):  # the machine may be quicker now than it was
        if len(stopped) == (1 if context.reduced else 2):
            break
        limit = expected.ended.seconds * part
        out = bench.place("timed")
        config.write_text(text.replace("{", f'{{"max_time": {limit:.3f},', 1), encoding="utf-8")
        codes = []
        try:
            for _ in range(8):
                ended = bench.train(out, config=config)
                runs.check_end(ended)
                codes.append(ended.code)
                if ended.code != runs.STOPPED:
                    break
            if ended.code == runs.STOPPED:  # too little time to make a step: without the limit it is done
                config.write_text(text, encoding="utf-8")
                ended = bench.train(out, config=config)
            if ended.code != runs.DONE:
                raise runs.Broken(f"exits {codes}: {ended.said()}")
            expected.compare(out, ended)
        except runs.Broken as fault:
            broken.append(f"max_time {limit:.3f}: {fault}")
        if runs.STOPPED in codes:
            stopped.append(limit)
    if not stopped:
        broken.append("max_time stopped no run")
    return broken
