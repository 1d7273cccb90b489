"""Writes tests/references/sampling.jsonl: logits, and what transformers' processors leave of them.

    scripts/parity_python tests/parity/make_sampling_references.py

A row: the options, `logits` [V], `context` (token ids), `log_probabilities` [V] of the logits as they are, and either
`greedy` (the token taken) or `probabilities` [V] to draw from, 0 for a token that is filtered out.
"""
import itertools, json, os

import torch
from transformers import GenerationConfig
from transformers.generation.utils import GenerationMixin

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "references", "sampling.jsonl")
VOCABULARY = 48


class Model(GenerationMixin):
    """As much of a model as is asked for the list of its processors."""

    def processors(self, config, context):
        self.config = type("Config", (), {"is_encoder_decoder": False, "get_text_config": lambda s, **k: s, "vocab_size": VOCABULARY})()
        return self._get_logits_processor(generation_config=config, input_ids_seq_length=context.shape[1], encoder_input_ids=context,
                                          prefix_allowed_tokens_fn=None, logits_processor=[], device="cpu", model_kwargs={})


def options():
    for penalty in (1.0, 1.3, 0.8):
        yield {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": penalty}
    for temperature, top_k, top_p, min_p in itertools.product((0.7, 1.5), (0, 1, 7), (1.0, 0.9, 0.3), (0.0, 0.1)):
        yield {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p, "repetition_penalty": 1.0}
    for penalty in (1.2, 2.0):
        yield {"temperature": 0.9, "top_k": 20, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": penalty}
    for penalty in (0.5, 2.0):  # of all tokens, the unlikely ones too
        yield {"temperature": 2.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": penalty}


def main():
    torch.manual_seed(11)
    rows = []
    for index, option in enumerate(options()):
        logits = torch.randn(VOCABULARY) * 3
        if option["top_k"] == 7 and index % 2:
            logits[logits.topk(8).indices[6:]] = 1.25  # equals at the cut
        context = torch.randint(0, VOCABULARY, (1, 20))
        sampled = option["temperature"] > 0
        config = GenerationConfig(do_sample=sampled, repetition_penalty=option["repetition_penalty"], pad_token_id=0, eos_token_id=1,
                                  **({k: option[k] for k in ("temperature", "top_k", "top_p")} | {"min_p": option["min_p"] or None} if sampled else {}))
        scores = Model().processors(config, context)(context, logits[None].clone())[0]
        row = dict(option, logits=logits.tolist(), context=context[0].tolist(),
                   log_probabilities=torch.log_softmax(logits.double(), -1).tolist())
        if sampled:
            row["probabilities"] = torch.softmax(scores.double(), -1).tolist()
        else:
            row["greedy"] = int(scores.argmax())
        rows.append(row)
    with open(OUT, "w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
    print(f"{os.path.normpath(OUT)}: {len(rows)} rows")


main()
