"""Numbers that are not finite: no update, exit 5, step and sample lines named, the last good checkpoint stands."""
import json
import re
import struct
import time

import rows
import runs

TITLE = "non-finite numbers"


def run(context):
    started = time.monotonic()
    with context.bench() as bench:
        ways = [poisoned_token, rate_of_1e30]
        _, broken = context.each(ways, lambda way: way(bench))
    return rows.figures(started, broken, f"{len(ways)} ways to diverge")


def expect_exit_5(ended, step):
    runs.check_end(ended)
    if ended.code != runs.NUMBERS or len(ended.errors()) != 1:
        raise runs.Broken(f"wanted exit 5 with one error: {ended.said()}")
    if f"step {step}:" not in ended.errors()[0]:
        raise runs.Broken(f"step {step} is not named: {ended.said()}")
    return ended.errors()[0]


def poisoned_token(bench):
    """The embedding of one token, which one record alone uses, is infinite."""
    bench.write("poisoned.jsonl", runs.records(0, 12).replace("What is 7?", "What is \u00fe?"))
    where = bench.base / "poisoned"
    made = bench.start("init-model", where, "--shape", "tiny").wait()
    if made.code != runs.DONE:
        raise runs.Broken(made.said())
    put_infinity(where, "\u00fe")
    every = {"base_model": "poisoned", "datasets": [{"path": "poisoned.jsonl"}], "sample_packing": False, "gradient_accumulation_steps": 1,
             "save_steps": 1, "save_total_limit": 0, "max_steps": 12}
    config = bench.configured("poisoned", **every)
    out = bench.place()
    ended = bench.train(out, config=config)
    step = int((re.search(r"step (\d+):", ended.err) or [0, 0])[1])
    message = expect_exit_5(ended, step)
    if "poisoned.jsonl:8" not in message:
        raise runs.Broken(f"line 8 holds the token; {ended.said()}")
    if step < 2:
        raise runs.Broken(f"the record comes at step {step}: nothing was saved before it, choose another")
    check_last_good(bench, out, config, step)


def rate_of_1e30(bench):
    """The first update makes weights of 1e30; the next loss is not finite."""
    config = bench.configured("rate", learning_rate=1e30, lr_scheduler="constant", warmup_ratio=0, max_grad_norm=0, lora_target_modules=["all-linear"], save_steps=1,
                              save_total_limit=0)
    out = bench.place()
    ended = bench.train(out, config=config)
    step = int((re.search(r"step (\d+):", ended.err) or [0, 0])[1])
    expect_exit_5(ended, step)
    check_last_good(bench, out, config, step)


def check_last_good(bench, out, config, step):
    if (out / "adapter").exists():
        raise runs.Broken("an adapter was written all the same")
    if json.loads((out / "run.json").read_text(encoding="utf-8"))["status"] != "failed":
        raise runs.Broken("run.json does not say failed")
    if runs.steps_of(out) != list(range(1, step)):
        raise runs.Broken(f"step {step} is not finite, checkpoints are there of {runs.steps_of(out)}")
    newest = out / f"checkpoints/step-{step - 1:06d}"
    sound = bench.start("inspect", newest).wait()
    if sound.code != runs.DONE:
        raise runs.Broken(f"inspect {newest.name}: {sound.said()}")
    before = {path: path.read_bytes() for path in newest.iterdir()}
    again = bench.train(out, config=config)
    expect_exit_5(again, step)
    if runs.resumed_from(again) != step - 1:
        raise runs.Broken(f"went on from step {runs.resumed_from(again)}: {again.said()}")
    if {path: path.read_bytes() for path in newest.iterdir()} != before:
        raise runs.Broken("the last good checkpoint is another now")


def put_infinity(folder, character):
    """In bfloat16, into the row of the first byte that `character` falls back to, or of its own token."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    token = vocabulary.get(character, vocabulary.get("<0x%02X>" % character.encode()[-1]))
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    length = struct.unpack("<Q", content[:8])[0]
    entry = json.loads(content[8:8 + length])["model.embed_tokens.weight"]
    width = entry["shape"][1]
    at = 8 + length + entry["data_offsets"][0] + token * width * 2
    content[at:at + width * 2] = b"\x80\x7f" * width
    path.write_bytes(content)
