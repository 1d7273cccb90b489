#!/usr/bin/env python3
"""Writes src/generate/text_tables.inc: what Python's str.lower, str.isspace and the \\w of its `re` take each code point for.

The definitions of SQuAD's scores, rouge_score and sacrebleu are written in Python, so its own answers are asked for, code point by
code point. Unicode as in Python 3.11 (version 14). Run from anywhere; the file is written in place.
"""
import re
import unicodedata
from pathlib import Path

from code_point_tables import CODE_POINTS, lines, table


def lower_runs() -> list[tuple[int, int, int, int]]:
    """(first, last, step, what is added): neighbours one or two apart that move by the same amount."""
    runs: list[list[int]] = []
    for c in CODE_POINTS:
        low = chr(c).lower()
        if c == 0x130 or c == 0x3A3 or low == chr(c):
            continue  # two characters; by its place in the word: in the code
        assert len(low) == 1, hex(c)
        move = ord(low) - c
        if runs and runs[-1][3] == move:
            run, step = runs[-1], c - runs[-1][1]
            if step in (1, 2) and (run[0] == run[1] or run[2] == step):
                run[1], run[2] = c, step
                continue
        runs.append([c, c, 1, move])
    return [tuple(run) for run in runs]


def sigma_classes() -> tuple[list[int], list[int]]:
    """What str.lower looks through beside a capital sigma, and what makes it one inside a word."""
    ignorable = [c for c in CODE_POINTS if ("A\u03A3" + chr(c) + "A").lower()[1] == "\u03C3" and ("A\u03A3" + chr(c)).lower()[1] == "\u03C2"]
    cased = [c for c in CODE_POINTS if ("A\u03A3" + chr(c)).lower()[1] == "\u03C3"]
    return ignorable, cased


def main() -> None:
    assert "\u0130".lower() == "i\u0307"
    ignorable, cased = sigma_classes()
    word = re.compile(r"\w")
    text = [
        f"// Made by scripts/make_text_tables.py from Python with Unicode {unicodedata.unidata_version}; not edited by hand.",
        "// clang-format off",
        "// First and last of code points `step` apart, and what is added to each to make it lower case.",
        "constexpr LowerRun kLowerRuns[] = {",
        *lines([f"{{0x{a:X},0x{b:X},{s},{d}}}," for a, b, s, d in lower_runs()]),
        "};",
        *table("kWordRanges", [c for c in CODE_POINTS if word.match(chr(c))]),
        *table("kSpaceRanges", [c for c in CODE_POINTS if chr(c).isspace()]),
        *table("kCaseIgnorableRanges", ignorable),
        *table("kCasedRanges", cased),
        "// clang-format on",
    ]
    target = Path(__file__).resolve().parent.parent / "src/generate/text_tables.inc"
    target.write_text("\n".join(text) + "\n", encoding="utf-8")
    print(f"{target}: Unicode {unicodedata.unidata_version}")


if __name__ == "__main__":
    main()
