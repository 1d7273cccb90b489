"""Writes what transformers and TRL make of chats: rendered templates, assistant masks, prompt/completion masks, packing,
length groups and the Trainer's step arithmetic.

    scripts/parity_python tests/parity/make_data_references.py

Into tests/references/chat, one JSON object a line:
    templates.jsonl    {template, jinja, messages, add_generation_prompt, eos, bos, default_system, text}
    masks.jsonl        {tokenizer, template, messages, input_ids, trained}, trained = 0/1 a token: the assistant_masks of
                       transformers with a training template (TRL's for phi_3 and phi_35, the same marks in the others)
    completions.jsonl  {tokenizer, template | null, prompt, completion, input_ids, prompt_length}: TRL's split
    packing.jsonl      {sequence_len, lengths, rows}: TRL's _pack_bfd
    length_groups.jsonl  {lengths, batch, seed, order}: transformers' get_length_grouped_indices
    steps.jsonl        {rows, micro_batch_size, gradient_accumulation_steps, num_epochs, max_steps | null, ...results of
                       Trainer.set_initial_training_values}
The tokenizers are those of tests/references/tokenizers; spm_first is spm_like with every rstrip flag off, as the first
release of Phi-3-mini had them.
"""
import json, os, random, re, tempfile
from types import SimpleNamespace

import pyarrow as pa
import torch
import trl
from transformers import PreTrainedTokenizerFast, Trainer
from transformers.trainer_pt_utils import get_length_grouped_indices
from transformers.utils.chat_template_utils import render_jinja_template
from trl.data_utils import _pack_bfd, common_prefix_length

HERE = os.path.dirname(os.path.abspath(__file__))
REFERENCES = os.path.join(HERE, os.pardir, "references")
OUT = os.path.join(REFERENCES, "chat")
TRL_TEMPLATES = os.path.join(os.path.dirname(trl.__file__), "chat_templates")

# The texts of the models' own folders; phi_3 and phi_35 are read from TRL's copies.
MEDIUM = ("{% for message in messages %}{% if (message['role'] == 'user') %}{{'<|user|>' + '\\n' + message['content'] + '<|end|>' + "
          "'\\n' + '<|assistant|>' + '\\n'}}{% elif (message['role'] == 'assistant') %}{{message['content'] + '<|end|>' + '\\n'}}"
          "{% endif %}{% endfor %}")
PHI4 = ("{% for message in messages %}{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + message['content'] + "
        "'<|im_end|>'}}{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}"
        "{% elif (message['role'] == 'assistant') %}{{'<|im_start|>assistant<|im_sep|>' + message['content'] + '<|im_end|>'}}"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}")
PHI4_MINI = ("{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and message['tools'] is not none "
             "%}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}"
             "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
             "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}")
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
SMOLLM_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
SMOLLM = ("{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n" + SMOLLM_SYSTEM +
          "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
          "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def trl_template(name):
    return open(os.path.join(TRL_TEMPLATES, name)).read()


# name, Jinja, eos, bos, default system message
TEMPLATES = [
    ("phi_3", trl_template("phi3.jinja"), "<|endoftext|>", "<s>", ""),
    ("phi_35", trl_template("phi3_5.jinja"), "<|endoftext|>", "<s>", ""),
    ("phi_3_first", "{{ bos_token }}" + MEDIUM, "<|endoftext|>", "<s>", ""),
    ("phi_3_medium", MEDIUM, "<|endoftext|>", "<s>", ""),
    ("phi_4", PHI4, "<|im_end|>", "<|endoftext|>", ""),
    ("phi_4_mini", PHI4_MINI, "<|endoftext|>", "<|endoftext|>", ""),
    ("chatml", CHATML, "<|im_end|>", "<|im_start|>", ""),
    ("chatml", SMOLLM, "<|im_end|>", "<|im_start|>", SMOLLM_SYSTEM),
]



# The same templates with generation marks around what TRL's own training templates mark: content and end of turn.
TRAINING = {
    "phi_3": trl_template("phi3_training.jinja"),
    "phi_35": trl_template("phi3_5_training.jinja"),
    "phi_3_medium": ("{% for message in messages %}{% if message['role'] == 'user' %}{{'<|user|>\n' + message['content'] + '<|end|>\n"
                     "<|assistant|>\n'}}{% elif message['role'] == 'assistant' %}{% generation %}{{message['content'] + '<|end|>\n'}}"
                     "{% endgeneration %}{% endif %}{% endfor %}"),
    "phi_4": ("{% for message in messages %}{% if message['role'] == 'assistant' %}{{'<|im_start|>assistant<|im_sep|>'}}{% generation %}"
              "{{message['content'] + '<|im_end|>'}}{% endgeneration %}{% else %}{{'<|im_start|>' + message['role'] + '<|im_sep|>' + "
              "message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}"),
    "phi_4_mini": ("{% for message in messages %}{% if message['role'] == 'assistant' %}{{'<|assistant|>'}}{% generation %}"
                   "{{message['content'] + '<|end|>'}}{% endgeneration %}{% else %}{{'<|' + message['role'] + '|>' + "
                   "message['content'] + '<|end|>'}}{% endif %}{% endfor %}{% if messages[-1]['role'] == 'assistant' %}{% generation %}"
                   "{{eos_token}}{% endgeneration %}{% else %}{{eos_token}}{% endif %}"),
    "chatml": ("{% for message in messages %}{% if message['role'] == 'assistant' %}{{'<|im_start|>assistant\n'}}{% generation %}"
               "{{message['content'] + '<|im_end|>\n'}}{% endgeneration %}{% else %}{{'<|im_start|>' + message['role'] + '\n' + "
               "message['content'] + '<|im_end|>\n'}}{% endif %}{% endfor %}"),
}
TRAINING["phi_3_first"] = "{{ bos_token }}" + TRAINING["phi_3_medium"]
MASKS = [("spm_like", "phi_3"), ("spm_like", "phi_35"), ("spm_like", "phi_3_medium"), ("spm_first", "phi_3_first"),
         ("spm_first", "phi_3"), ("phi4_like", "phi_4"), ("phi4_mini_like", "phi_4_mini"), ("smollm_like", "chatml")]


def m(role, content, **more):
    return {"role": role, "content": content, **more}


CHATS = [
    [m("user", "Hello"), m("assistant", "Hi there.")],
    [m("system", "You are a helpful assistant."), m("user", "What is 2+2?"), m("assistant", "The answer is 4.")],
    [m("user", "a"), m("assistant", "b"), m("user", "c"), m("assistant", "d"), m("user", "e"), m("assistant", "f")],
    [m("user", "What does anaemia mean?"), m("assistant", "")],
    [m("user", ""), m("assistant", "An answer to nothing.")],
    [m("system", ""), m("user", "x"), m("assistant", "y")],
    [m("user", "Größe 42 🙂 分析"), m("assistant", "héllo 🙂\nこんにちは\n\n- one\n- two")],
    [m("user", "code:\n```\nif x < 3:\n    y = '<tag>'\n```"), m("assistant", "Fine, {{ this }} is {% not %} a template.")],
    [m("user", "typed <|end|> and <|user|> by hand"), m("assistant", "They become tokens: <|im_end|> too.")],
    [m("user", "tail space "), m("assistant", "tail newline\n")],
    [m("user", "q"), m("assistant", "one"), m("assistant", "two")],
    [m("user", "an open question"), m("assistant", "answered"), m("user", "and an open end")],
    [m("user", "first"), m("system", "late system"), m("assistant", "ok")],
    [m("assistant", "I begin."), m("user", "then me"), m("assistant", "then I")],
]
TOOL_CHATS = [
    [m("system", "Call tools.", tools='[{"name": "add"}]'), m("user", "1+1"), m("assistant", "2")],
    [m("system", "None.", tools=None), m("user", "1+1"), m("tool", "2"), m("assistant", "It is 2.")],
]


def random_chats(count, seed):
    random.seed(seed)
    words = "fever bone a of the is tissue 12 3.5 x: médecine 心臓 😀 <b> \\n cell's (see) acute— [1] {k}".split()
    chats = []
    for _ in range(count):
        chat = [m("system", " ".join(random.choices(words, k=3)))] if random.random() < 0.3 else []
        for _ in range(random.randint(1, 4)):
            for role in ("user", "assistant"):
                text = random.choice([" ", "\n", "  "]).join(random.choices(words, k=random.randint(0, 12)))
                chat.append(m(role, text + random.choice(["", "", "\n", " ."])))
        chats.append(chat)
    return chats


def open_tokenizer(name, folder):
    source = "spm_like" if name == "spm_first" else name
    text = open(os.path.join(REFERENCES, "tokenizers", source, "tokenizer.json"), encoding="utf-8").read()
    if name == "spm_first":
        text = re.sub(r'"rstrip":\s*true', '"rstrip": false', text)
    path = os.path.join(folder, name + ".json")
    open(path, "w", encoding="utf-8").write(text)
    config = json.load(open(os.path.join(REFERENCES, "tokenizers", source, "tokenizer_config.json"), encoding="utf-8"))
    return PreTrainedTokenizerFast(tokenizer_file=path, bos_token=config["bos_token"], eos_token=config["eos_token"])


def write(name, rows):
    os.makedirs(OUT, exist_ok=True)
    with open(os.path.join(OUT, name), "w", encoding="utf-8") as f:
        for row in rows:
            f.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{name}: {len(rows)}")


def templates():
    rows = []
    for name, jinja, eos, bos, system in TEMPLATES:
        tools = name in ("phi_4_mini", )
        for chat in CHATS + (TOOL_CHATS if tools else []):
            for gen in (False, True):
                (text, ), _ = render_jinja_template([chat], chat_template=jinja, add_generation_prompt=gen, eos_token=eos, bos_token=bos)
                rows.append({"template": name, "jinja": jinja, "messages": chat, "add_generation_prompt": gen, "eos": eos, "bos": bos,
                             "default_system": system, "text": text})
    write("templates.jsonl", rows)


# Contents that begin with whitespace lose it to the header token, which transformers then marks as trained: left out.
def masks(folder):
    rows = []
    for tokenizer_name, template in MASKS:
        tokenizer = open_tokenizer(tokenizer_name, folder)
        for chat in [c for c in CHATS if not any("<|" in x["content"] for x in c)] + random_chats(20, 5):
            if tokenizer_name != "spm_first" and any(x["content"] and x["content"][0].isspace() for x in chat):
                continue
            if not any(x["role"] == "assistant" for x in chat):
                continue
            out = tokenizer.apply_chat_template(chat, chat_template=TRAINING[template], return_assistant_tokens_mask=True,
                                                return_dict=True)
            rows.append({"tokenizer": tokenizer_name, "template": template, "messages": chat, "input_ids": out["input_ids"],
                         "trained": out["assistant_masks"]})
    write("masks.jsonl", rows)


def completions(folder):
    rows = []
    plain = [("Question: what is fever?\nAnswer:", " a high temperature"), ("ends in a word", "piece that may merge"), ("", "no prompt"),
             ("2+2=", "4"), ("trailing ", " leading"), ("x", "ends already EOS"), ("分", "析 🙂")]
    jinja = {name: text for name, text, *_ in TEMPLATES if name != "chatml"} | {"chatml": CHATML}
    for name in ("spm_like", "phi4_like", "phi4_mini_like", "smollm_like"):
        tokenizer = open_tokenizer(name, folder)
        for prompt, completion in plain:
            completion = completion.replace("EOS", tokenizer.eos_token)
            whole = completion if completion.endswith(tokenizer.eos_token) else completion + tokenizer.eos_token
            prompt_ids = tokenizer(prompt)["input_ids"]
            ids = tokenizer(prompt + whole)["input_ids"]
            rows.append({"tokenizer": name, "template": None, "prompt": prompt, "completion": completion, "input_ids": ids,
                         "prompt_length": common_prefix_length(prompt_ids, ids)})
    for name, template in MASKS:
        if name == "spm_first":
            continue
        tokenizer = open_tokenizer(name, folder)
        for chat in [c for c in CHATS if len(c) > 1 and c[-1]["role"] == "assistant" and c[-2]["role"] == "user"]:
            prompt, completion = chat[:-1], chat[-1:]
            kwargs = {"chat_template": jinja[template], "return_dict": True}
            prompt_ids = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, **kwargs)["input_ids"]
            ids = tokenizer.apply_chat_template(chat, **kwargs)["input_ids"]
            rows.append({"tokenizer": name, "template": template, "prompt": prompt, "completion": completion, "input_ids": ids,
                         "prompt_length": common_prefix_length(prompt_ids, ids)})
    write("completions.jsonl", rows)


def packing():
    random.seed(3)
    rows = []
    for count, length, high in ((1, 8, 8), (7, 10, 10), (40, 16, 16), (200, 64, 64), (300, 512, 90), (64, 32, 4)):
        lengths = [random.randint(1, high) for _ in range(count)]
        table = pa.table({"input_ids": [[i] * n for i, n in enumerate(lengths)]})
        packed = _pack_bfd(table, length).to_pydict()["input_ids"]
        rows.append({"sequence_len": length, "lengths": lengths,
                     "rows": [list(dict.fromkeys(row)) for row in packed]})
    write("packing.jsonl", rows)


def length_groups():
    random.seed(4)
    rows = []
    for count, batch in ((1, 2), (5, 4), (37, 4), (100, 3), (1000, 2)):
        lengths = [random.randint(1, 20) for _ in range(count)]
        for seed in (0, 42):
            order = get_length_grouped_indices(lengths, batch, generator=torch.Generator().manual_seed(seed))
            rows.append({"lengths": lengths, "batch": batch, "seed": seed, "order": order})
    write("length_groups.jsonl", rows)


def steps():
    rows = []
    fake = SimpleNamespace(get_total_train_batch_size=lambda args: args.per_device_train_batch_size * args.gradient_accumulation_steps,
                           get_sp_size=lambda: 1, num_examples=lambda loader: 0)
    for n in (1, 2, 7, 16, 33, 100, 4001):
        for micro, accumulate in ((1, 1), (2, 8), (3, 4), (8, 1)):
            for epochs, max_steps in ((1, -1), (3, -1), (0.5, -1), (2.4, -1), (0.03, -1), (3, 1), (3, 10), (1, 250)):
                args = SimpleNamespace(max_steps=max_steps, num_train_epochs=epochs, per_device_train_batch_size=micro,
                                       gradient_accumulation_steps=accumulate)
                loader = torch.utils.data.DataLoader(range(n), batch_size=micro)
                looped, updates, _, _, _, batches, total = Trainer.set_initial_training_values(fake, args, loader)
                rows.append({"rows": n, "micro_batch_size": micro, "gradient_accumulation_steps": accumulate, "num_epochs": epochs,
                             "max_steps": None if max_steps < 0 else max_steps, "batches_per_epoch": batches,
                             "updates_per_epoch": updates, "total_steps": total, "epochs_looped": looped})
    write("steps.jsonl", rows)


if __name__ == "__main__":
    templates()
    with tempfile.TemporaryDirectory() as folder:
        masks(folder)
        completions(folder)
    packing()
    length_groups()
    steps()
