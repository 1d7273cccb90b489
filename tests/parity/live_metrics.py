"""Holds the scores of answers to rouge_score, sacrebleu and SQuAD's formulas, pair by pair and as a whole.

    scripts/parity_python tests/parity/live_metrics.py --program build/bin/metrics_dump [--pairs 500]
"""
import argparse, json, subprocess, sys

import answer_scores as by


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--program", required=True, help="the program metrics_dump")
    ap.add_argument("--pairs", type=int, default=500)
    args = ap.parse_args()
    pairs = by.pairs(args.pairs)
    text = "".join(json.dumps({"answer": a, "reference": r}) + "\n" for a, r in pairs)
    done = subprocess.run([args.program], input=text, stdout=subprocess.PIPE, text=True, check=True)
    ours = [json.loads(line) for line in done.stdout.split("\n") if line]
    theirs = [by.scores(a, r) for a, r in pairs] + [by.corpus_scores(pairs)]
    assert len(ours) == len(theirs), (len(ours), len(theirs))
    passed, failed = 0, []
    for place, (mine, wanted) in enumerate(zip(ours, theirs)):
        for name, value in mine.items():
            # Sums in another order: a few units of the last place of 100.
            same = value == wanted[name] if isinstance(value, str) else abs(value - wanted[name]) <= 1e-11
            passed += same
            if not same:
                failed.append(f"{name} of pair {place}: {value!r}, wanted {wanted[name]!r}")
    for line in failed[:20]:
        print(line)
    print(f"{len(pairs)} pairs: {passed} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
