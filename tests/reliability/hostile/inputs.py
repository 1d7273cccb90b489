"""Malformed inputs, such as a slip of the pen, a broken download or another tool makes: 90 settings files, 90 data files, 60 model and
adapter folders, 30 tokenizers.
"""
import json

import sound
from folders import ADAPTER, ADAPTER_CONFIG, INDEX, INSPECT, INSPECT_ADAPTER, PREVIEW, TRAIN, WEIGHTS
from folders import first, header, in_json, replace, set_keys, sharded, special, steps
from program import DAMAGED, INPUT, SETTINGS, SOURCE, Case

CHECK = ["config", "check", "--config", "run.yaml"]
BAD_SETTINGS = SOURCE / "tests/unit/config/bad"
GOOD = sound.RECORDS.encode()


# ---- settings ----

def settings_file(text):
    return replace("run.yaml", text if isinstance(text, bytes) else text.encode())


def with_line(line):
    """The sound settings and one more line."""
    return sound.SETTINGS + line + "\n"


def other_settings():
    line = sound.SETTINGS.count("\n") + 1
    laughs = "a: &a [x, x, x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi"))
    yield "a billion laughs", laughs, "run.yaml:1:", "anchor"
    yield "nested to the bottom", "a: " + "[" * 100_000, "run.yaml:1:", "deep"
    yield "nested by lines", "".join(" " * i + f"k{i}:\n" for i in range(200)), "run.yaml:33:", "nested deeper than 32"
    yield "a Python object", with_line('seed: !!python/object/apply:os.system ["true"]'), f"run.yaml:{line}:", "tag"
    yield "a merge key", with_line("<<: {seed: 1}"), f"run.yaml:{line}:1", "<<"
    yield "a NUL", with_line("seed: 1\0"), f"run.yaml:{line}:8", "control character"
    yield "a terminal command", with_line("seed: \x1b[2J"), f"run.yaml:{line}:7", "0x1b"
    yield "Latin-1", with_line("").encode() + b"run_name: Gr\xf6\xdfe\n", f"run.yaml:{line + 1}:13", "0xf6"
    yield "UTF-16", sound.SETTINGS.encode("utf-16"), "run.yaml:1:1", "0xff"
    yield "10,000 unknown keys", "".join(f"key_{i}: 1\n" for i in range(10_000)), "run.yaml:1:1", "key_0 is not a setting"
    yield "one key of a megabyte", "k" * 1_000_000 + ": 1\n", "run.yaml", ""
    yield "one value of a megabyte", with_line("seed: " + "9" * 1_000_000), f"run.yaml:{line}:7", "seed: found"
    yield "a key with lines", with_line('"seed\\nerror": 1'), f"run.yaml:{line}:", "seed"
    yield "a key that turns the line round", with_line("\u202edees: 1"), f"run.yaml:{line}:", "is not a setting"
    yield "a list of lists for data", sound.SETTINGS.replace("  - path: data.jsonl", "  - [data.jsonl]"), "run.yaml:3:", "datasets"
    yield "JSON with a comma too much", '{"base_model": "model",, "seed": 1}', "run.yaml:1:", ""
    yield "settings of 10 GB", None, "run.yaml", "larger than"
    yield "settings that are a pipe", "fifo", "run.yaml", "not a regular file"
    yield "settings that are a folder", "folder", "run.yaml", "folder"
    yield "settings that are not there", "nowhere", "run.yaml", "cannot be read"
    yield "a value of 10^400", with_line("learning_rate: 1e400"), f"run.yaml:{line}:16", "learning_rate: found"
    yield "a rank below 0", with_line("lora_r: -8"), f"run.yaml:{line}:9", "lora_r: found \"-8\""
    yield "a pattern that is none", with_line("lora_target_modules: '(['"), f"run.yaml:{line}:", "lora_target_modules"


def settings_cases():
    cases = []
    for path in sorted(BAD_SETTINGS.glob("*.yaml")):
        text = path.read_text()
        cases.append(Case(f"settings: {path.stem}", settings_file(text), CHECK, SETTINGS, "run.yaml", lines=text.count("# expect ")))
    for name, text, place, says in other_settings():
        if text in ("fifo", "folder", "nowhere"):
            make = special("run.yaml", text)
        elif text is None:
            make = special("run.yaml", "sparse")
        else:
            make = settings_file(text)
        cases.append(Case(f"settings: {name}", make, CHECK, SETTINGS, place, says))
    return cases


# ---- data ----

def message(**keys):
    return {"role": "user", "content": "a", **keys}


def answer(**keys):
    return {"role": "assistant", "content": "b", **keys}


def chat(*messages, **keys):
    return json.dumps({"messages": list(messages), **keys}).encode() + b"\n"


def record(**keys):
    return json.dumps(keys).encode() + b"\n"


def bytes_of_lines():
    """Faults below JSON's meaning: (name, file, place behind the name, words)"""
    yield "nothing", b"", "", "the file is empty"
    yield "blanks", b"\n \n\t\n", "", "holds no record"
    yield "a NUL", GOOD + b'{"text": "a\0"}\n', ":5:12", "NUL"
    yield "only NULs", bytes(1000), ":1:1", "NUL"
    yield "UTF-16", "{}\n".encode("utf-16"), ":1:1", "UTF-16"
    yield "Latin-1", GOOD + b'{"text": "\xe9"}\n', ":5:11", "not UTF-8"
    yield "an overlong slash", b'{"text": "\xc0\xaf"}\n', ":1:11", "not UTF-8"
    yield "half an emoji at the end", b'{"text": "\xf0\x9f\x98', ":1:11", "not UTF-8"
    yield "a surrogate", b'{"text": "\xed\xa0\x80"}\n', ":1:11", "not UTF-8"
    yield "half a surrogate pair", b'{"text": "\\ud83d"}\n', ":1:", "surrogate"
    yield "a byte order mark inside", GOOD + b"\xef\xbb\xbf" + GOOD, ":5:1", "byte order mark"
    yield "two byte order marks", b"\xef\xbb\xbf\xef\xbb\xbf" + GOOD, ":1:", "byte order mark"
    yield "cut in a text", GOOD + b'{"messages": [{"role": "us', ":5:", ""
    yield "cut in a list", GOOD + b'{"messages": [', ":5:", ""
    yield "a gzip file", b"\x1f\x8b\x08\0\0\0\0\0" + bytes(range(256)), ":1:", ""
    yield "a Parquet file", b"PAR1" + bytes(100) + b"PAR1", ":1:", ""
    yield "a pickle", b"\x80\x04\x95\x10\0\0\0\0\0\0\0.", ":1:1", ""
    yield "CSV", b"prompt,completion\na,b\n", ":1:1", ""
    yield "YAML", b"- prompt: a\n  completion: b\n", ":1:", ""
    yield "XML", b"<data>a</data>\n", ":1:1", ""
    yield "Python's quotes", b"{'text': 'a'}\n", ":1:2", ""
    yield "Python's True", b'{"text": True}\n', ":1:10", ""
    yield "a comma at the end of an object", b'{"text": "a",}\n', ":1:", ""
    yield "a comma at the end of a list", b'{"messages": [{"role": "user", "content": "a"},]}\n', ":1:", ""
    yield "a comment", b'{"text": "a"} // mine\n', ":1:", ""
    yield "a key without quotes", b'{text: "a"}\n', ":1:3", ""
    yield "a raw newline in a text", b'{"text": "a\nb"}\n', ":1:", ""
    yield "a raw tab in a text", b'{"text": "a\tb"}\n', ":1:12", ""
    yield "a wrong escape", b'{"text": "\\q"}\n', ":1:", ""
    yield "an escape cut short", b'{"text": "\\u12"}\n', ":1:", ""
    yield "NaN", b'{"text": NaN}\n', ":1:10", ""
    yield "Infinity", b'{"text": -Infinity}\n', ":1:", ""
    yield "a number of 10^400", b'{"text": 1e400}\n', ":1:", ""
    yield "a number with a leading 0", b'{"text": 01}\n', ":1:", ""
    yield "two records on a line", b'{"text": "a"}{"text": "b"}\n', ":1:14", ""
    yield "a record over lines", b'{\n"text": "a"\n}\n', ":1:", ""
    yield "a key twice", b'{"text": "a", "text": "b"}\n', ":1:15", "given twice"
    yield "a key twice, once as an escape", b'{"text": "a", "\\u0074ext": "b"}\n', ":1:", "given twice"
    yield "100,000 brackets", b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", ":1:", "nested deeper"
    yield "100,000 braces", b'{"a":' * 100_000, ":1:", "nested deeper"
    yield "an array that is not closed", b'[{"text": "a"}, ', "", "ends inside the array"
    yield "an array without commas", b'[{"text": "a"} {"text": "b"}]', ":1:", ""
    yield "text behind the array", b'[{"text": "a"}] x', ":1:17", ""
    yield "a line of 70 MB", lambda: b'{"text": "' + b"a" * 70_000_000 + b'"}\n', ":1", ""
    yield "a line of 60 MB that breaks at its end", lambda: b'{"text": "' + b"a" * 60_000_000 + b'}\n', ":1", ""
    yield "a million values", lambda: b'{"text": [' + b"0," * 1_500_000 + b"0]}\n", ":1", ""
    yield "a million keys", lambda: b"{" + b",".join(b'"k%d":0' % i for i in range(600_000)) + b"}\n", ":1", ""
    yield "a million broken lines", lambda: b"x\n" * 1_000_000, ":1", ""


def meaning_of_records():
    """Faults of what is said: all on the first line but where the place says otherwise."""
    yield "a number", b"5\n", ":1", "wanted an object"
    yield "a text", b'"a"\n', ":1", "wanted an object"
    yield "null", b"null\n", ":1", "wanted an object"
    yield "a list", b"[[1]]\n", ":1", "wanted an object"
    yield "an empty object", b"{}\n", ":1", "format is not known"
    yield "unknown keys", record(question="a", answer="b"), ":1", '"question", "answer"'
    yield "a key that commands the terminal", record(**{"\x1b[2J": "a", "\u202e": 1}), ":1", "format is not known"
    yield "a key with lines", record(**{"a\nerror: b": 1}), ":1", "format is not known"
    yield "two formats", record(instruction="a", output="b", text="c"), ":1", "alpaca and text"
    yield "one message", record(role="user", content="a"), ":1", "this is one message"
    yield "preferences", record(prompt="a", chosen="b", rejected="c"), ":1", "preference"
    yield "no messages", chat(), ":1", "an empty list"
    yield "messages as text", record(messages="a"), ":1", "wanted a list"
    yield "messages as an object", record(messages={"role": "user"}), ":1", "wanted a list"
    yield "a message as text", chat("a"), ":1", "messages[0]"
    yield "a message as null", chat(message(), None), ":1", "messages[1]"
    yield "no role", chat({"content": "a"}, answer()), ":1", "messages[0].role is missing"
    yield "a role as a number", chat(message(role=1), answer()), ":1", "messages[0].role"
    yield "a role in capitals", chat(message(role="USER"), answer()), ":1", "messages[0].role"
    yield "a role misspelt", chat(message(), answer(role="asistant")), ":1", "did you mean assistant"
    yield "a role of 10 MB", chat(message(role="r" * 10_000_000), answer()), ":1", ""
    yield "no content", chat({"role": "user"}, answer()), ":1", "messages[0].content is missing"
    yield "content as null", chat(message(content=None), answer()), ":1", "messages[0].content"
    yield "content as a number", chat(message(content=1.5), answer()), ":1", "messages[0].content"
    yield "content as parts", chat(message(content=[{"type": "text", "text": "a"}]), answer()), ":1", "messages[0].content"
    yield "content with a NUL", b'{"messages": [{"role": "user", "content": "\\u0000"}, {"role": "assistant", "content": "b"}]}\n', ":1", "NUL"
    yield "a weight as text", chat(message(), answer(weight="1")), ":1", "messages[1].weight"
    yield "a weight below 0", chat(message(), answer(weight=-1)), ":1", "messages[1].weight"
    yield "train as text", chat(message(), answer(train="yes")), ":1", "messages[1].train"
    yield "a role without a place", chat({"role": "tool", "content": "a"}, answer()), ":1", "tool"
    yield "another format in the middle", GOOD + record(text="a"), ":5", "like the record at"
    yield "a broken line in the middle", GOOD + b"{\n" + GOOD, ":5:", ""
    yield "ShareGPT without from", record(conversations=[{"value": "a"}]), ":1", "from"
    yield "ShareGPT of an unknown speaker", record(conversations=[{"from": "narrator", "value": "a"}]), ":1", "narrator"
    yield "ShareGPT without value", record(conversations=[{"from": "human"}]), ":1", "value"
    yield "ShareGPT as text", record(conversations="a"), ":1", "conversations"
    yield "Alpaca without text", record(instruction=1, output="b"), ":1", "instruction"
    yield "Alpaca with a list", record(instruction="a", output=["b"]), ":1", "output"
    yield "Alpaca with half a turn", record(instruction="a", output="b", history=[["c"]]), ":1", "history"
    yield "a completion as a number", record(prompt="a", completion=1), ":1", "completion"
    yield "prompt and completion of two kinds", record(prompt="a", completion=[answer()]), ":1", ""
    yield "text as a number", record(text=1), ":1", "text"


def data_cases():
    cases = []
    for name, contents, place, says in [*bytes_of_lines(), *meaning_of_records()]:
        cases.append(Case(f"data: {name}", replace("data.jsonl", contents), PREVIEW, INPUT, f"data.jsonl{place}", says))
    return cases


# ---- models and adapters ----

def config(**keys):
    return set_keys("model/config.json", **keys)


def without(key, path="model/config.json"):
    return in_json(path, lambda value: value.pop(key))


def tensor(change):
    """Changes the entry of the first tensor."""
    return header(lambda h: h[first(h)].update(change) if isinstance(change, dict) else change(h, first(h)))


def model_cases():
    rows = []

    def add(name, make, *says):
        rows.append(Case(f"model: {name}", make, INSPECT, INPUT, "model", *says))
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "max_position_embeddings"):
        add(f"no {key}", without(key), "config.json: ", f"{key} is missing")
    for key, value in (("hidden_size", "64"), ("hidden_size", 64.5), ("num_hidden_layers", 0), ("num_key_value_heads", 3),
                       ("rms_norm_eps", "small"), ("rms_norm_eps", -1), ("tie_word_embeddings", "no"), ("sliding_window", -5),
                       ("hidden_act", "gelu"), ("attention_bias", True), ("rope_theta", 0), ("partial_rotary_factor", 1.5),
                       ("rope_scaling", "linear"), ("rope_scaling", {"type": "linear", "factor": 2}),
                       ("rope_scaling", {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}),
                       ("model_type", "llama"), ("architectures", ["LlamaForCausalLM"]), ("resid_pdrop", 0.1)):
        add(f"{key} {value}", config(**{key: value}), "config.json: ", key)
    add("config.json cut", lambda f: (f / "model/config.json").write_bytes((f / "model/config.json").read_bytes()[:300]), "config.json:", "ends too early")
    add("config.json missing", lambda f: (f / "model/config.json").unlink(), "config.json")
    add("config.json of a list", replace("model/config.json", b"[]"), "config.json")
    add("no weights", lambda f: (f / WEIGHTS).unlink(), "no weights")
    add("weights cut", lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-7]), "model.safetensors: ", "cut short")
    add("weights cut in the header", lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:99]), "model.safetensors: ", "91 are left")
    add("weights of seven bytes", replace(WEIGHTS, b"1234567"), "7 bytes, too short")
    add("another dtype than is known", tensor({"dtype": "F4"}), "dtype \"F4\" is not one")
    add("a dtype as a number", tensor({"dtype": 4}), "dtype is 4")
    add("no shape", tensor(lambda h, n: h[n].pop("shape") and None), "shape is missing")
    add("no offsets", tensor(lambda h, n: h[n].pop("data_offsets") and None), "data_offsets is missing")
    add("three offsets", tensor({"data_offsets": [0, 1, 2]}), "wanted two whole numbers")
    add("a key too many", tensor({"scale": 1}), "key \"scale\" is not part")
    add("a size with a fraction", tensor({"shape": [1.5]}), "wanted whole numbers")
    add("a shape of another size", tensor({"shape": [3, 3]}), "needs 18 bytes")
    add("whole numbers for weights", tensor({"dtype": "I16"}), "dtype I16, wanted BF16")
    add("a shape turned round", tensor(lambda h, n: h[n].update(shape=h[n]["shape"][::-1])), "wanted [")
    add("a tensor of another name", tensor(lambda h, n: h.update({"another": h.pop(n)})), "missing", "not part of the model")
    add("metadata of numbers", header(lambda h: h.update(__metadata__={"a": 1})), "wanted a string")
    add("a header of a list", replace(WEIGHTS, sound.header_bytes(b"[]")), "begins with byte 0x5b")
    add("an index without a map", sharded(lambda w, _: {}), "weight_map")
    add("an index that names a file that is not there", sharded(lambda w, _: {**w, first(w): "b.safetensors"}), "b.safetensors: missing")
    add("an index that forgets a tensor", sharded(lambda w, _: {n: w[n] for n in list(w)[1:]}), "is not in the weight_map")
    add("an index that knows one too many", sharded(lambda w, _: {**w, "more": "a.safetensors"}), "tensor more is not in a.safetensors")
    add("an index cut short", steps(sharded(lambda w, _: w), lambda f: (f / INDEX).write_text('{"weight_map": {')), "index.json:1:", "ends too early")

    def adapter(name, make, *says):
        rows.append(Case(f"adapter: {name}", make, INSPECT_ADAPTER, DAMAGED, "adapter", *says))
    for key, value in (("r", "8"), ("r", 0), ("peft_type", "IA3"), ("bias", "all"), ("lora_dropout", 1.0), ("target_modules", []),
                       ("target_modules", None), ("rank_pattern", {"q": "4"})):
        adapter(f"{key} {value}", set_keys(ADAPTER_CONFIG, **{key: value}), "adapter_config.json: ", key)
    for key, value, missing in (("use_dora", True, "lora_magnitude_vector"), ("modules_to_save", ["lm_head"], "lm_head.weight")):
        adapter(f"{key} without its tensors", set_keys(ADAPTER_CONFIG, **{key: value}), "adapter_model.safetensors: ", f"{missing} is missing", key)
    adapter("adapter_config.json missing", lambda f: (f / ADAPTER_CONFIG).unlink(), "adapter_config.json")
    adapter("adapter_config.json cut", lambda f: (f / ADAPTER_CONFIG).write_bytes((f / ADAPTER_CONFIG).read_bytes()[:99]), "ends too early")
    adapter("no weights", lambda f: (f / ADAPTER).unlink(), "missing")
    adapter("an empty file of weights", replace(ADAPTER, b""), "0 bytes, too short")
    adapter("weights cut", lambda f: (f / ADAPTER).write_bytes((f / ADAPTER).read_bytes()[:-3]), "cut short")
    adapter("no tensors", replace(ADAPTER, sound.header_bytes(b"{}")), "no tensors")
    return rows


# ---- tokenizers ----

JSON = "model/tokenizer.json"
CONFIG = "model/tokenizer_config.json"


def tokenizer_cases():
    rows = []

    def add(name, make, *says):
        rows.append(Case(f"tokenizer: {name}", make, PREVIEW, INPUT, "model/", *says))

    def model(change):
        return in_json(JSON, lambda t: change(t["model"]))
    rows.append(Case("tokenizer: not there", lambda f: (f / JSON).unlink(), PREVIEW, INPUT, "neither tokenizer.json nor tokenizer.model"))
    add("empty", replace(JSON, b""), "tokenizer.json:1:1")
    add("cut", lambda f: (f / JSON).write_bytes((f / JSON).read_bytes()[:5000]), "tokenizer.json:", "ends too early")
    add("a list", replace(JSON, b"[]"), "wanted an object")
    add("no model", without("model", JSON), "model: not there")
    add("another model", model(lambda m: m.update(type="Unigram")), "model.type")
    add("no vocabulary", model(lambda m: m.pop("vocab")), "model.vocab: not there")
    add("an empty vocabulary", model(lambda m: m.update(vocab={})), "model.vocab: no pieces")
    add("an id as text", model(lambda m: m["vocab"].update(q1="7")), 'model.vocab["q1"]: found "7"')
    add("an id twice", model(lambda m: m["vocab"].update(q1=5)), "id 5 belongs to the piece")
    add("an id with a fraction", model(lambda m: m["vocab"].update(q1=1.5)), 'model.vocab["q1"]')
    add("no merges", model(lambda m: m.pop("merges")), "model.merges: not there")
    add("a merge of three", model(lambda m: m["merges"].insert(0, "a b c")), "model.merges[0]")
    add("a merge of one", model(lambda m: m["merges"].insert(0, ["a"])), "model.merges[0]: found an array of 1, wanted two pieces")
    add("a merge of unknown pieces", model(lambda m: m["merges"].insert(0, "qq zz")), "model.merges[0]", "is not a piece")
    add("a merge as a number", model(lambda m: m["merges"].insert(0, 5)), "model.merges[0]")
    add("dropout", model(lambda m: m.update(dropout=0.1)), "model.dropout")
    add("a normalizer of another family", in_json(JSON, lambda t: t.update(normalizer={"type": "NFKC"})), "normalizer")
    add("a pre-tokenizer of another family", in_json(JSON, lambda t: t.update(pre_tokenizer={"type": "BertPreTokenizer"})), "BertPreTokenizer")
    add("no decoder", in_json(JSON, lambda t: t.update(decoder=None)), "decoder")
    add("an added token without content", in_json(JSON, lambda t: t["added_tokens"][0].pop("content")), "added_tokens[0].content")
    add("an added token with a wrong id", in_json(JSON, lambda t: t["added_tokens"][-1].update(id=4000)), "added_tokens[")
    add("a flag as text", in_json(JSON, lambda t: t["added_tokens"][0].update(lstrip="yes")), "added_tokens[0].lstrip")
    add("an empty added token", in_json(JSON, lambda t: t["added_tokens"][0].update(content="")), "added_tokens[0]")
    add("tokenizer_config.json cut", replace(CONFIG, b'{"a": '), "tokenizer_config.json:1:")
    add("tokenizer_config.json of a list", replace(CONFIG, b"[]"), "tokenizer_config.json")
    add("an eos token as a number", set_keys(CONFIG, eos_token=2), "eos_token")
    add("an added token under a word", set_keys(CONFIG, added_tokens_decoder={"seven": {"content": "a"}}), "added_tokens_decoder.seven")
    add("another token under a known id", set_keys(CONFIG, added_tokens_decoder={"5": {"content": "<|other|>"}}), "added_tokens_decoder.5")
    add("a template as a number", set_keys(CONFIG, chat_template=5), "chat_template")
    return rows
