"""The same settings twice, in another process, another folder, at another time, from another current folder: the same bits."""
import re
import shutil
import time

import rows
import runs

TITLE = "the same seed"


def run(context):
    started = time.monotonic()
    ways = {"lora": {}, "qlora": {"adapter": "qlora"}, "bf16": {"bf16": True}, "single rows": {"sample_packing": False}, "two threads": {"threads": 2}}
    with context.bench() as bench:
        other = bench.base / "other place"
        other.mkdir()
        for name in ("model", "data.jsonl", "validation.jsonl"):
            copy = shutil.copytree if (bench.base / name).is_dir() else shutil.copy
            copy(bench.base / name, other / name)

        def case(name):
            config = bench.configured(name.replace(" ", "-"), **ways[name])
            expected = bench.undisturbed(config)
            copied = other / config.name
            shutil.copy(config, copied)
            time.sleep(1.1)  # another second of the clock
            out = bench.place()
            ended = bench.start("--config", copied, "--output_dir", out, cwd="/", env={"TZ": "Asia/Tokyo", "LC_ALL": "C", "HOME": "/"}).wait()
            runs.check_end(ended)
            if ended.code != runs.DONE:
                raise runs.Broken(ended.said())
            if bare(expected.adapter) != bare(runs.adapter_of(out)):
                raise runs.Broken(f"another adapter: {ended.said()}")
            if expected.metrics != runs.metrics_of(out):
                raise runs.Broken(f"other metrics: {ended.said()}")
            again = bench.place()
            bench.train(again, "--seed", 43, config=config)
            if runs.metrics_of(again) == expected.metrics:
                raise runs.Broken("another seed gives the same run")
        _, broken = context.each(list(ways), case)
    return rows.figures(started, broken, f"{len(ways)} kinds of run repeated elsewhere")


def bare(adapter):
    """The card and the config name the base as the run was told it: without its folder."""
    return {name: re.sub(rb'[^"`|(]*/(?=(model|data\.jsonl|validation\.jsonl)\b)', b"", content) if name in ("README.md", "adapter_config.json") else content
            for name, content in adapter.items()}
