"""Pairs of an answer and its reference, and their scores by rouge_score, sacrebleu and SQuAD's own formulas."""
import collections, random, re, string

import numpy
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU, CHRF

WORDS = ("the a an The A of to in is are was not heart blood pressure mg 500 3.5 1,200 12-lead 2-3 -5 x-ray don't it's e.g. U.S. "
         "naïve Ärger ÄRGER straße ΟΔΟΣ ΑΣ Σ İstanbul \u212Aelvin 中文 文本 тест ТЕСТ ﬁbre café cafe\u0301 \u00bd x² ٣ ⅷ 😀 👩‍⚕️ a_b _ the_ an. (the) "
         "\"a\" &quot; &amp;lt; &lt;b&gt; <skipped> ... , . ,, .5 5. 5.5. a.b 1.a a,1 \u2019 — – « » “q” ' '' ` ~ { } [ ] / \\ % $5 #1 @x ^ | = + * ? ! ; :").split(" ")
BLANKS = [" "] * 12 + ["  ", "\n", "\t", "\u00a0", "\u3000", "-\n", "\r\n", "\x1f", "\u2028"]
FIXED = [
    ("", ""), ("", "the answer"), ("the answer", ""), ("the", "a"), ("A", "a"), ("...", "!"), ("a", "b"), ("x", "x"), (" ", "\n"),
    ("yes", "Yes."), ("The cat sat on the mat", "the cat sat on a mat"), ("the the the the", "the cat is on the mat"),
    ("It is guacamole, 3.5 mg.", "It is guacamole, 3,5 mg."), ("well-\nknown fact - it.", "well-known fact it ."),
    ("blood blood blood pressure", "blood pressure blood pressure"), ("ΟΔΟΣ ΑΣΑ ΑΣ. Σ", "οδος ασα ας. σ"), ("İ i", "i̇ I"),
    ("3", "3.0"), ("1,000.50", "1000.50"), ("don't", "dont"), ("a. b. c.", "a b c"), ("中文文本", "中文 文本"), ("a" * 40, "a" * 30),
    ("one two three four five", "one two three four five"), ("five four three two one", "one two three four five"),
]


def words(random_, count):
    return "".join(random_.choice(WORDS) + random_.choice(BLANKS) for _ in range(count))


def changed(random_, text):
    """A text near another one: words left out, twice, swapped, in capitals."""
    kept = []
    for word in text.split(" "):
        kind = random_.random()
        kept += [] if kind < 0.1 else [word, word] if kind < 0.15 else [word.upper()] if kind < 0.2 else [word]
    if len(kept) > 3 and random_.random() < 0.5:
        i = random_.randrange(len(kept) - 1)
        kept[i], kept[i + 1] = kept[i + 1], kept[i]
    return " ".join(kept)


def pairs(count, seed=7):
    random_ = random.Random(seed)
    out = list(FIXED)
    while len(out) < count:
        reference = words(random_, random_.choice([1, 2, 3, 5, 8, 13, 30]))
        out.append((changed(random_, reference) if random_.random() < 0.7 else words(random_, random_.randrange(15)), reference))
    return out[:count]


# SQuAD's evaluate-v2.0.py.
def normalize_answer(s):
    s = s.lower()
    s = "".join(c for c in s if c not in set(string.punctuation))
    s = re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", s)
    return " ".join(s.split())


def f1(answer, reference):
    given, wanted = normalize_answer(answer).split(), normalize_answer(reference).split()
    if not given or not wanted:
        return float(given == wanted)
    same = sum((collections.Counter(given) & collections.Counter(wanted)).values())
    if same == 0:
        return 0.0
    precision, recall = same / len(given), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


ROUGE = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)


def scores(answer, reference):
    """Of one pair; BLEU and chrF as of a corpus of one."""
    bleu = BLEU(tokenize="13a", smooth_method="exp", force=True).corpus_score([answer], [[reference]])
    return {"normalized": normalize_answer(answer), "exact_match": float(normalize_answer(answer) == normalize_answer(reference)),
            "f1": f1(answer, reference), "rouge_l": ROUGE.score(reference, answer)["rougeL"].fmeasure, "bleu": bleu.score,
            "sentence_bleu": BLEU(effective_order=True, force=True).sentence_score(answer, [reference]).score,
            "bleu_counts": bleu.counts + bleu.totals + [bleu.sys_len, bleu.ref_len],
            "chrf": CHRF(char_order=6, word_order=0, beta=2).corpus_score([answer], [[reference]]).score}


def corpus_scores(all_pairs):
    answers, references = [a for a, _ in all_pairs], [r for _, r in all_pairs]
    return {"bleu": BLEU(force=True).corpus_score(answers, [references]).score, "chrf": CHRF().corpus_score(answers, [references]).score}


# The draws of our bootstrap, by numpy.
MASK = (1 << 64) - 1


def mixed(counter):
    z = counter * 0x9E3779B97F4A7C15 & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


def draws(rows, seed, resamples=1000):
    for resample in range(resamples):
        key = mixed(mixed(seed + 1) ^ (resample + 1))
        yield [mixed(key + draw & MASK) * rows >> 64 for draw in range(rows)]


def interval(rows, score, seed, resamples=1000):
    found = [score(indices) for indices in draws(rows, seed, resamples)]
    low, high = numpy.percentile(found, [2.5, 97.5])
    return {"value": score(range(rows)), "low": low, "high": high}
