"""Writes tests/references/answer_metrics.jsonl: pairs with their scores, then the whole of them with intervals.

    scripts/parity_python tests/parity/make_answer_references.py
"""
import json, os

import answer_scores as by

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "references", "answer_metrics.jsonl")
PAIRS = 45
SEED = 42
RESAMPLES = 200


def main():
    pairs = by.pairs(PAIRS)
    rows = [{"answer": a, "reference": r, **by.scores(a, r)} for a, r in pairs]
    f1 = [row["f1"] for row in rows]
    weights = [float(1 + i % 7) for i in range(PAIRS)]
    whole = by.corpus_scores(pairs)
    whole |= {"seed": SEED, "resamples": RESAMPLES, "weights": weights,
              "mean": by.interval(PAIRS, lambda rows: sum(f1[i] for i in rows) / PAIRS, SEED, RESAMPLES),
              "weighted": by.interval(PAIRS, lambda rows: sum(f1[i] for i in rows) / sum(weights[i] for i in rows), SEED, RESAMPLES),
              "bleu_interval": by.interval(PAIRS, lambda rows: by.corpus_scores([pairs[i] for i in rows])["bleu"], SEED, RESAMPLES),
              "chrf_interval": by.interval(PAIRS, lambda rows: by.corpus_scores([pairs[i] for i in rows])["chrf"], SEED, RESAMPLES)}
    with open(OUT, "w", encoding="utf-8") as file:
        for row in rows + [whole]:
            file.write(json.dumps(row) + "\n")
    print(f"{os.path.normpath(OUT)}: {PAIRS} pairs")


if __name__ == "__main__":
    main()
