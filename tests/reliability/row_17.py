"""However the rows of a step are cut into passes, and whether they are packed: the same loss and the same gradient."""
import time

import rows
import runs

TITLE = "accumulation and packing"
# (micro_batch_size, gradient_accumulation_steps) of a step of 12 rows, and of 8, 7, 6 of 12 with a remainder
SPLITS = [(1, 12), (12, 1), (2, 6), (6, 2), (3, 4), (4, 3), (5, 3), (7, 2), (8, 2), (1, 16)]
BOUND = 1e-5


def run(context):
    started = time.monotonic()
    with context.bench() as bench:
        common = {"sample_packing": False, "lora_dropout": 0.1, "max_grad_norm": 0, "max_steps": 2, "eval_steps": None, "warmup_ratio": 0, "lr_scheduler": "constant",
                  "save_steps": 100, "shuffle": False}
        settings = {f"{micro}x{steps}": {**common, "micro_batch_size": micro, "gradient_accumulation_steps": steps} for micro, steps in SPLITS}
        settings["auto"] = {**common, "micro_batch_size": "auto", "gradient_accumulation_steps": 12}
        for length in (64, 96, 128, 512):
            for strategy in ("bfd", "sequential"):
                settings[f"packed {length} {strategy}"] = {**common, "sample_packing": True, "sequence_len": length, "packing_strategy": strategy,
                                                           "micro_batch_size": 1, "gradient_accumulation_steps": 12}
        settings["packed in one pass"] = {**common, "sample_packing": True, "sequence_len": 1024, "micro_batch_size": 12, "gradient_accumulation_steps": 1}

        def first_step(name):
            out = bench.place()
            ended = bench.train(out, config=bench.configured(name.replace(" ", "-"), **settings[name]))
            if ended.code != runs.DONE:
                raise runs.Broken(ended.said())
            metrics = [line for line in runs.metrics_of(out) if "loss" in line]
            bench.done_with(out)
            return metrics
        found, broken = context.each(list(settings), first_step)
        found = dict(zip(settings, found))
        worst = 0.0
        for name, metrics in found.items():
            for step, (one, other) in enumerate(zip(metrics or [], found["1x12"] or []), 1):
                for what in ("loss", "grad_norm", "trained_tokens"):
                    error = abs(one[what] - other[what]) / abs(other[what])
                    worst = max(worst, error)
                    if error > BOUND:
                        broken.append(f"{name}, step {step}: {what} {one[what]}, of single rows one by one {other[what]}")
    return rows.figures(started, broken, f"{len(settings)} ways to cut a step, largest relative difference {worst:.1e}, bound {BOUND:.0e}")
