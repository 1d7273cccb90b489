"""What goes wrong in other tools without a word, end to end: each case is detected, or provably right.

Modes: wrapped twice after loading (11), the sum of a step (17, row 17), nothing trained (18), ends never trained (19, 20), two
beginnings (21), cut answers (22), packed rows that see each other (23, row 17), stale caches (24), duplicate keys (27), the seed
(31, row 19), unknown keys (32), empty adapters (33), adapters for something else (34), scales (35).
"""
import json
import os
import shutil
import struct
import time

import rows
import runs

TITLE = "the silent ones"
CASES = []


def case(mode):
    def take(function):
        CASES.append((mode, function))
        return function
    return take


def run(context):
    started = time.monotonic()
    with context.bench() as bench:
        bench.expected = bench.undisturbed()
        _, broken = context.each([Case(*one) for one in CASES], lambda one: one.function(bench))
    return rows.figures(started, broken, f"{len(CASES)} cases of {len({mode for mode, _ in CASES})} modes")


class Case:
    def __init__(self, mode, function):
        self.mode, self.function = mode, function

    def __repr__(self):
        return f"mode {self.mode}, {self.function.__name__}"


def expect(holds, *facts):
    if not holds:
        raise runs.Broken(" ".join(map(str, facts)))


def refused(ended, code, *words):
    runs.check_end(ended)
    expect(ended.code == code and ended.errors(), f"wanted exit {code}:", ended.said())
    for word in words:
        expect(word in ended.err, f"{word!r} is not said:", ended.said())


def chat(*turns):
    return json.dumps({"messages": [{"role": role, "content": content} for role, content in turns]}, ensure_ascii=False) + "\n"


def data_of(bench, name, text, **settings):
    bench.write(f"{name}.jsonl", text)
    return bench.configured(name, datasets=[{"path": f"{name}.jsonl"}], **settings)


NO_VALIDATION = {"test_datasets": None, "eval_steps": None, "save_best": None}


def preview(bench, config, *more):
    ended = bench.start("data", "preview", "--config", config, "--output_dir", bench.base / "nowhere", "--json", *more).wait()
    expect(ended.code == runs.DONE, ended.said())
    return [json.loads(line) for line in ended.out.splitlines()]


def token_ids(bench):
    tokens = json.loads((bench.base / "model/tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    return {token["content"]: token["id"] for token in tokens}


# ---- 11: an adapter goes on where it was ----

@case(11)
def an_adapter_that_is_gone_on_from_starts_at_its_loss(bench):
    config = bench.configured("on", lora_model_dir=str(bench.expected.out / "adapter"), lora_r=None, lora_target_modules=None)
    out = bench.place()
    ended = bench.train(out, config=config)
    expect(ended.code == runs.DONE, ended.said())
    last = [line for line in bench.expected.metrics if "eval_loss" in line][-1]["eval_loss"]
    first = [line for line in runs.metrics_of(out) if "eval_loss" in line][0]["eval_loss"]
    expect(first == last, first, last)


@case(11)
def a_checkpoint_is_an_adapter_too(bench):
    newest = bench.expected.out / f"checkpoints/step-{runs.steps_of(bench.expected.out)[-1]:06d}"
    ended = bench.start("inspect", newest).wait()
    expect(ended.code == runs.DONE, ended.said())
    out = bench.place()
    ended = bench.train(out, config=bench.configured("from-checkpoint", lora_model_dir=str(newest), lora_r=None, lora_target_modules=None))
    expect(ended.code == runs.DONE, ended.said())
    last = [line for line in bench.expected.metrics if "eval_loss" in line][-1]["eval_loss"]
    expect([line for line in runs.metrics_of(out) if "eval_loss" in line][0]["eval_loss"] == last, "another loss at the start")


# ---- 18: nothing to train on ----

@case(18)
def a_set_without_any_answer_is_refused(bench):
    config = data_of(bench, "no-answer", chat(("user", "only a question")) * 3)
    refused(bench.train(bench.place(), config=config), runs.INPUT, "no-answer.jsonl:1", "no-answer.jsonl:3")


@case(18)
def a_set_of_which_nothing_is_trained_is_refused(bench):
    text = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "train": False}]}) + "\n"
    config = data_of(bench, "untrained", text * 4)
    refused(bench.train(bench.place(), config=config), runs.INPUT)


@case(18)
def a_record_of_which_nothing_is_trained_is_named(bench):
    text = json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "train": False}]}) + "\n"
    config = data_of(bench, "one-untrained", runs.records(0, 2) + text + runs.records(3, 3), max_steps=1)
    ended = bench.train(bench.place(), config=config)
    expect(ended.code == runs.INPUT or "one-untrained.jsonl:3" in ended.err, ended.said())


@case(18)
def the_number_of_trained_tokens_is_said(bench):
    expect("tokens of which" in bench.expected.ended.err, bench.expected.ended.said())


# ---- 19, 20, 21: beginnings and ends ----

CHATS = {"one turn": [("user", "Hi"), ("assistant", "Hello")],
         "two turns": [("user", "Hi"), ("assistant", "Hello"), ("user", "And?"), ("assistant", "Bye")],
         "a system message": [("system", "Be short."), ("user", "Hi"), ("assistant", "Hello")],
         "emoji": [("user", "\U0001f600"), ("assistant", "\U0001f680\u200d")],
         "spaces at the end": [("user", "Hi"), ("assistant", "Hello  \n")],
         "the end's own text": [("user", "What is <|end|>?"), ("assistant", "A token.")],
         "a beginning": [("user", "<s>Hi"), ("assistant", "Hello")],
         "long": [("user", "Hi"), ("assistant", "ha " * 400)]}


def ends_trained(bench, name):
    config = data_of(bench, "chat-" + name.replace(" ", "-").replace("'", ""), chat(*CHATS[name]), sequence_len=2048, **NO_VALIDATION)
    shown = preview(bench, config)[0]
    ids, labels = shown["input_ids"], shown["labels"]
    special = token_ids(bench)
    answers = sum(role == "assistant" for role, _ in CHATS[name])
    ends = [i for i, label in enumerate(labels) if label == special["<|end|>"]]
    expect(len(ends) == answers, f"{len(ends)} trained ends of {answers} answers:", shown["text"], labels)
    expect(all(ids[i] == labels[i] for i in range(len(ids)) if labels[i] != -100), "a label is not its token", labels)
    expect(labels[-1] == special["<|endoftext|>"] == ids[-1], "the last token is not the trained end of the text", labels)
    beginning = [i for i, token in enumerate(ids) if token == 1]
    expect(len(beginning) <= 1 and beginning in ([], [0]) or name == "a beginning", "beginnings at", beginning)
    roles = [i for i, token in enumerate(ids) if token == special["<|user|>"]]
    expect(all(labels[i] == -100 for i in roles), "a role of the user is trained", labels)


def add_chats():
    for name in CHATS:
        def one(bench, name=name):
            ends_trained(bench, name)
        one.__name__ = "ends_are_trained: " + name
        CASES.append((19, one))


add_chats()


@case(20)
def the_ends_are_tokens_and_not_text(bench):
    shown = preview(bench, bench.config, "-n", "1")[0]
    special = token_ids(bench)
    expect([token for token in shown["input_ids"] if token in (special["<|end|>"], special["<|endoftext|>"])] ==
           [special["<|end|>"], special["<|end|>"], special["<|endoftext|>"]], shown)


@case(21)
def a_text_with_a_beginning_gets_no_second_one(bench):
    tokenizer = json.loads((bench.base / "model/tokenizer_config.json").read_text(encoding="utf-8"))
    folder = bench.base / "model-bos"
    shutil.copytree(bench.base / "model", folder)
    tokenizer["add_bos_token"] = True
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    config = data_of(bench, "bos", chat(("user", "Hi"), ("assistant", "Hello")), base_model="model-bos", **NO_VALIDATION)
    ids = preview(bench, config)[0]["input_ids"]
    expect(ids[:2] != [1, 1], ids)


# ---- 22: nothing is cut without a word ----

LONG = chat(("user", "Count."), ("assistant", "one two three " * 60))


@case(22)
def what_is_too_long_is_refused(bench):
    config = data_of(bench, "too-long", runs.records(0, 3) + LONG)
    refused(bench.train(bench.place(), config=config), runs.INPUT, "too-long.jsonl:4", "sequence_len")


def counted_excess(bench, way):
    config = data_of(bench, f"too-long-{way}", runs.records(0, 3) + LONG, excess_length_strategy=way, max_steps=2)
    ended = bench.train(bench.place(), config=config)
    expect(ended.code == runs.DONE, ended.said())
    expect({"drop": "1 records left out", "truncate_end": "1 records truncated", "split": "2 more examples"}[way] in ended.err, "not counted:", ended.said())
    shown = preview(bench, config, "-n", "10")
    expect(all(len(one["input_ids"]) <= 64 for one in shown), "longer than sequence_len")


for way in ("drop", "truncate_end", "split"):
    def excess(bench, way=way):
        counted_excess(bench, way)
    excess.__name__ = "what_is_too_long_is_counted: " + way
    CASES.append((22, excess))


# ---- 24: nothing stale ----

def changed(bench, name, change):
    """The same command line after `change`, in a new folder: other numbers."""
    place = bench.base / f"stale-{name}"
    place.mkdir()
    for one in ("data.jsonl", "validation.jsonl"):
        shutil.copy(bench.base / one, place / one)
    shutil.copytree(bench.base / "model", place / "model")
    config = place / "run.yaml"
    config.write_text(bench.config.read_text(encoding="utf-8"), encoding="utf-8")
    results = []
    for out in ("first", "second"):
        ended = bench.start("--config", config, "--output_dir", place / out, cwd=place).wait()
        expect(ended.code == runs.DONE, ended.said())
        results.append(runs.metrics_of(place / out))
        if out == "first":
            change(place)
    expect(results[0] != results[1], "the numbers are those from before the change")


@case(24)
def another_record_is_seen(bench):
    def change(place):
        path = place / "data.jsonl"
        status = path.stat()
        path.write_text(path.read_text(encoding="utf-8").replace("What is 3?", "What is 4?"), encoding="utf-8")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # same length, same time
    changed(bench, "record", change)


@case(24)
def another_tokenizer_is_seen(bench):
    def change(place):
        path = place / "model/tokenizer.json"
        tokenizer = json.loads(path.read_text(encoding="utf-8"))
        tokenizer["model"]["merges"] = tokenizer["model"]["merges"][:100]
        path.write_text(json.dumps(tokenizer), encoding="utf-8")
    changed(bench, "tokenizer", change)


@case(24)
def other_weights_are_seen(bench):
    def change(place):
        path = place / "model/model.safetensors"
        content = bytearray(path.read_bytes())
        content[-2:] = struct.pack("<H", 0x4000)
        path.write_bytes(content)
    changed(bench, "weights", change)


@case(24)
def a_resume_over_changed_data_is_refused(bench):
    place = bench.base / "stale-resume"
    shutil.copytree(bench.base / "model", place / "model")
    for one in ("data.jsonl", "validation.jsonl", "run.yaml"):
        shutil.copy(bench.base / one, place / one)
    first = bench.start("--config", place / "run.yaml", "--output_dir", place / "out", "--max_steps", "4", "--save_steps", "2", cwd=place).wait()
    expect(first.code == runs.DONE, first.said())
    path = place / "data.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("What is 3?", "What is 4?"), encoding="utf-8")
    ended = bench.start("--config", place / "run.yaml", "--output_dir", place / "out", cwd=place).wait()
    refused(ended, runs.SETTINGS, "data")


# ---- 27: keys that come twice; 32: unknown ones ----

@case(27)
def a_setting_that_comes_twice_is_refused(bench):
    path = bench.write("twice.yaml", bench.config.read_text(encoding="utf-8").replace("{", '{"seed": 1, "seed": 2,', 1))
    refused(bench.train(bench.place(), config=path), runs.SETTINGS, "seed", "twice.yaml:1")


@case(27)
def a_record_with_a_key_that_comes_twice_is_refused(bench):
    config = data_of(bench, "twice", runs.records(0, 2) + '{"messages": [], ' + runs.records(2, 1)[1:])
    refused(bench.train(bench.place(), config=config), runs.INPUT, "twice.jsonl:3")


@case(27)
def a_header_with_a_tensor_that_comes_twice_is_refused(bench):
    folder = bench.base / "model-twice"
    shutil.copytree(bench.base / "model", folder)
    content = (folder / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = content[8:8 + length].rstrip()
    entry = header[header.index(b'"lm_head.weight"'):]
    entry = entry[:entry.index(b"}") + 1]
    header = header[:-1] + b"," + entry + b"}"
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length:])
    refused(bench.train(bench.place(), config=bench.configured("header-twice", base_model="model-twice")), runs.INPUT, "lm_head.weight")


@case(27)
def an_adapter_config_with_a_key_that_comes_twice_is_refused(bench):
    folder = bench.base / "adapter-twice"
    shutil.copytree(bench.expected.out / "adapter", folder)
    path = folder / "adapter_config.json"
    path.write_text(path.read_text(encoding="utf-8").replace("{", '{"r": 2,', 1), encoding="utf-8")
    refused(bench.train(bench.place(), config=bench.configured("twice-adapter", lora_model_dir=str(folder), lora_r=None, lora_target_modules=None)), runs.DAMAGED, "\"r\"")


@case(32)
def an_unknown_setting_is_refused_with_the_right_word(bench):
    path = bench.write("unknown.yaml", bench.config.read_text(encoding="utf-8").replace("{", '{"lora_rnak": 4,', 1))
    refused(bench.train(bench.place(), config=path), runs.SETTINGS, "lora_rnak", "unknown.yaml:1")


@case(32)
def an_unknown_option_is_refused(bench):
    refused(bench.train(bench.place(), "--learning_rte", "1"), runs.SETTINGS, "learning_rte")


@case(32)
def an_unknown_variable_is_refused(bench):
    refused(bench.train(bench.place(), env={"PHI3_TUNE__LEARNING_RTE": "1"}), runs.SETTINGS, "LEARNING_RTE".lower())


@case(32)
def an_unknown_setting_of_a_data_set_is_refused(bench):
    refused(bench.train(bench.place(), config=bench.configured("nested", datasets=[{"path": "data.jsonl", "fromat": "messages"}])), runs.SETTINGS,
            "fromat")


# ---- 33, 34, 35: adapters ----

def tensors_of(path):
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + length])
    return {name: content[8 + length + entry["data_offsets"][0]:8 + length + entry["data_offsets"][1]]
            for name, entry in header.items() if name != "__metadata__"}


@case(33)
def the_result_holds_every_tensor_and_none_is_zero(bench):
    tensors = tensors_of(bench.expected.out / "adapter/adapter_model.safetensors")
    expect(len(tensors) == 4, sorted(tensors))
    expect(all(any(content) for content in tensors.values()), "a tensor of zeros", [n for n, c in tensors.items() if not any(c)])


@case(33)
def the_result_is_the_newest_checkpoints(bench):
    newest = bench.expected.out / f"checkpoints/step-{max(runs.steps_of(bench.expected.out)):06d}/adapter_model.safetensors"
    expect(tensors_of(newest) == tensors_of(bench.expected.out / "adapter/adapter_model.safetensors"), "other tensors")


def broken_adapter(bench, name, change, *words, code=runs.DAMAGED):
    folder = bench.base / f"adapter-{name}"
    shutil.copytree(bench.expected.out / "adapter", folder)
    change(folder)
    config = bench.configured(f"adapter-{name}", lora_model_dir=str(folder), lora_r=None, lora_target_modules=None)
    refused(bench.train(bench.place(), config=config), code, *words)


def change_config(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({k: v for k, v in {**json.loads(path.read_text(encoding="utf-8")), **values}.items() if v != "gone"}), encoding="utf-8")


def rename_tensor(folder, old, new):
    path = folder / "adapter_model.safetensors"
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = content[8:8 + length].replace(old, new)
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length:])


@case(33)
def an_empty_adapter_is_refused(bench):
    def change(folder):
        header = b'{"__metadata__":{"format":"pt"}}'
        (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    broken_adapter(bench, "empty", change)


@case(34)
def an_adapter_that_matches_no_module_is_refused(bench):
    broken_adapter(bench, "elsewhere", lambda folder: (change_config(folder, target_modules=["query_key_value"]),
                                                       rename_tensor(folder, b"o_proj", b"query_key_value")))


@case(34)
def an_adapter_with_a_missing_tensor_is_refused(bench):
    broken_adapter(bench, "missing", lambda folder: rename_tensor(folder, b"layers.0.self_attn.o_proj", b"layers.9.self_attn.o_proj"), "layers.0")


@case(34)
def targets_that_match_nothing_are_refused(bench):
    refused(bench.train(bench.place(), config=bench.configured("targets", lora_target_modules=["query_key_value"])), runs.SETTINGS, "query_key_value")


@case(34)
def an_adapter_for_another_depth_is_refused(bench):
    other = bench.base / "model-deep"
    made = bench.start("init-model", other, "--shape", "tiny", "--layers", "3").wait()
    expect(made.code == runs.DONE, made.said())
    config = bench.configured("depth", base_model="model-deep", lora_model_dir=str(bench.expected.out / "adapter"), lora_r=None, lora_target_modules=None)
    refused(bench.train(bench.place(), config=config), runs.DAMAGED)


@case(35)
def a_scale_that_is_not_there_is_refused(bench):
    broken_adapter(bench, "no-alpha", lambda folder: change_config(folder, lora_alpha="gone"), "lora_alpha")


@case(35)
def a_scale_of_zero_is_refused(bench):
    broken_adapter(bench, "zero-alpha", lambda folder: change_config(folder, lora_alpha=0), "lora_alpha")


@case(35)
def a_rank_that_is_not_the_tensors_is_refused(bench):
    broken_adapter(bench, "rank", lambda folder: change_config(folder, r=4))


@case(35)
def another_scale_is_another_loss(bench):
    folder = bench.base / "adapter-scaled"
    shutil.copytree(bench.expected.out / "adapter", folder)
    change_config(folder, lora_alpha=json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))["lora_alpha"] / 2)
    out = bench.place()
    ended = bench.train(out, config=bench.configured("scaled", lora_model_dir=str(folder), lora_r=None, lora_target_modules=None))
    expect(ended.code == runs.DONE, ended.said())
    last = [line for line in bench.expected.metrics if "eval_loss" in line][-1]["eval_loss"]
    expect([line for line in runs.metrics_of(out) if "eval_loss" in line][0]["eval_loss"] != last, "alpha is not used")
