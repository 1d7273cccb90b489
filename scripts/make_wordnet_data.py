#!/usr/bin/env python3
"""Makes data/medicine from WordNet 3.0 as Debian packages it (apt-get install wordnet-base); the same bytes every time.

Every noun entry below ill health, pathological state, symptom, medicine, medical procedure, drug and body part becomes one
conversation: the user asks what a term means, the assistant answers with its gloss in varied wording.

    train.jsonl, validation.jsonl   split by term, so no term of the one is in the other
    general_validation.jsonl        as many kinds of nouns that are not medical, in the same form: what a model forgets
    LICENSE                         WordNet's licence, from the package
"""
import argparse, hashlib, json, os, re

ROOTS = {  # offset of the synset in data.noun: first word
    "14052046": "ill_health", "14051917": "pathological_state", "14299637": "symptom",
    "06043075": "medicine", "00612160": "medicine", "03740161": "medicine",
    "01024392": "medical_procedure", "03247620": "drug", "05220461": "body_part"}
MEDICAL_TOPIC = "06043075"
GENERAL_FILES = {"05", "06", "10", "13", "14", "15", "17", "19", "20", "21", "28"}  # animals, artefacts, ..., times
COARSE = re.compile(r"obscene|vulgar|offensive|disparag|derogatory|ethnic slur|\bslang\b|coitus|sexual intercourse", re.I)
MEDICAL = re.compile(r"medic|disease|patholog|symptom|surg|anatom|patient|drug|therap|organ\b|clinic|hospital|blood|bod(y|ily)", re.I)

QUESTIONS = ['What does "{term}" mean?', "Define {term}.", "What is meant by {term}?", "Explain the term {term}.",
             'Give the meaning of "{term}".', 'I came across the word "{term}". What is it?', "In one sentence: {term}?",
             "How would you define {term}?", 'Please explain "{term}" briefly.', "Tell me what {term} means."]
ANSWERS = ["{Term}: {gloss}.", 'The term "{term}" means {gloss}.', "{Term} refers to {gloss}.", "It means {gloss}.",
           'By "{term}" one means {gloss}.', "{Term} means {gloss}.", "{Term} is defined as {gloss}."]
WITH_OTHER = ["{Term} (also: {other}) means {gloss}.", "{Term}, also called {other}: {gloss}.",
              '"{term}" or "{other}" means {gloss}.', "{Term}: {gloss}. Another word for it is {other}."]


class Synset:
    """One line of data.noun (wndb(5WN))."""

    def __init__(self, text):
        head, _, gloss = text.partition(" | ")
        field = head.split()
        self.offset, self.file, words = field[0], field[1], int(field[3], 16)
        self.words = [field[4 + 2 * i].replace("_", " ") for i in range(words)]
        first = 5 + 2 * words
        self.pointers = [(field[i], field[i + 1]) for i in range(first, first + 4 * int(field[first - 1]), 4)]
        # Up to the examples, without a leading "(anatomy)".
        definition = re.split(r'[;:,]? *"', gloss.strip(), maxsplit=1)[0]
        self.gloss = re.sub(r"^\([^)]*\) *", "", definition).strip(" ;:.,")

    def below(self):
        return [target for kind, target in self.pointers if kind in ("~", "~i")]


def read_nouns(folder):
    with open(os.path.join(folder, "data.noun"), encoding="ascii") as lines:
        return {s.offset: s for s in map(Synset, (line for line in lines if not line.startswith(" ")))}


def medical_entries(nouns):
    found, todo = set(), list(ROOTS)
    for offset, word in ROOTS.items():
        if nouns[offset].words[0].replace(" ", "_") != word:
            raise SystemExit(f"data.noun: {offset} is {nouns[offset].words[0]}, not {word}: this is not WordNet 3.0")
    while todo:
        offset = todo.pop()
        if offset not in found:
            found.add(offset)
            todo += nouns[offset].below()
    return found


def number(*key):
    return int.from_bytes(hashlib.sha256("/".join(key).encode()).digest()[:8], "big")


def usable(synset):
    return len(synset.gloss) >= 12 and not COARSE.search(synset.gloss)


def conversation(synset):
    term, others = synset.words[0], synset.words[1:]
    pick = lambda what, choices: choices[number(what, synset.offset) % len(choices)]
    answer = pick("answer", ANSWERS + WITH_OTHER if others else ANSWERS)
    fields = dict(term=term, Term=term[0].upper() + term[1:], other=others[0] if others else "", gloss=synset.gloss)
    return {"messages": [{"role": "user", "content": pick("question", QUESTIONS).format(**fields)},
                         {"role": "assistant", "content": answer.format(**fields)}]}


def is_general(synset, medical):
    return (synset.offset not in medical and synset.file in GENERAL_FILES and synset.words[0].islower() and len(synset.gloss) >= 30
            and not MEDICAL.search(synset.gloss) and (";c", MEDICAL_TOPIC) not in synset.pointers)


def write(folder, name, synsets):
    rows = [conversation(s) for s in sorted(synsets, key=lambda s: number("order", s.offset))]
    with open(os.path.join(folder, name), "w", encoding="utf-8", newline="\n") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    print(f"{name}: {len(rows)} rows")


def licence(copyright_file):
    text = open(copyright_file, encoding="utf-8").read()
    body = text.split("License: WordNet3.0\n", 1)[1].split("\n\n", 1)[0]
    lines = [line.strip() for line in body.splitlines()]
    return "WordNet 3.0 license\n\n" + "\n".join("" if line == "." else line for line in lines) + "\n"


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--wordnet", default="/usr/share/wordnet")
    ap.add_argument("--copyright", default="/usr/share/doc/wordnet-base/copyright")
    ap.add_argument("--out", default=os.path.join(os.path.dirname(__file__), os.pardir, "data", "medicine"))
    args = ap.parse_args()
    nouns = read_nouns(args.wordnet)
    medical = medical_entries(nouns)
    chosen = [nouns[offset] for offset in medical if usable(nouns[offset])]
    held_out = lambda s: number("split", s.words[0].lower()) % 100 < 5
    os.makedirs(args.out, exist_ok=True)
    write(args.out, "train.jsonl", [s for s in chosen if not held_out(s)])
    write(args.out, "validation.jsonl", [s for s in chosen if held_out(s)])
    general = sorted((s for s in nouns.values() if is_general(s, medical) and usable(s)), key=lambda s: number("general", s.offset))
    write(args.out, "general_validation.jsonl", general[:200])
    with open(os.path.join(args.out, "LICENSE"), "w", encoding="utf-8") as out:
        out.write(licence(args.copyright))


if __name__ == "__main__":
    main()
