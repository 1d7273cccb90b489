#!/usr/bin/env python3
"""Writes src/data/tokenizer/unicode_tables.inc: what Hugging Face's tokenizers takes each code point for.

Three things differ between Unicode versions and regex engines, so they are asked of the library itself, code point by
code point, instead of being taken from a table of another version:
  - the general category, as seen by the engine (Oniguruma) behind Split and ByteLevel patterns,
  - numeric characters, as seen by the Digits pre-tokeniser,
  - word characters, as seen by an added token with single_word.

Needs: pip install tokenizers==0.23.3. Run from anywhere; the file is written in place.
"""

from pathlib import Path

import tokenizers
from code_point_tables import CODE_POINTS, lines, table
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers

CATEGORIES = ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn").split()


def categories() -> dict[int, int]:
    text = "".join(map(chr, CODE_POINTS))
    found: dict[int, int] = {}
    for index, name in enumerate(CATEGORIES):
        split = pre_tokenizers.Split(Regex(rf"\p{{{name}}}"), "removed", invert=True)
        for _, (begin, end) in split.pre_tokenize_str(text):
            for place in range(begin, end):
                assert CODE_POINTS[place] not in found
                found[CODE_POINTS[place]] = index
    assert len(found) == len(CODE_POINTS)
    return found


def numeric() -> list[int]:
    text = "".join("x" + chr(c) for c in CODE_POINTS)
    pieces = pre_tokenizers.Digits(individual_digits=True).pre_tokenize_str(text)
    # A numeric character stands alone, at an odd place; a run of the others never starts at an odd place.
    return [CODE_POINTS[begin // 2] for _, (begin, end) in pieces if begin % 2 == 1 and end == begin + 1]


def word() -> list[int]:
    tokenizer = Tokenizer(models.BPE(vocab={"?": 0}, merges=[], unk_token="?"))
    tokenizer.add_tokens([AddedToken("AB", single_word=True, normalized=False)])
    token = tokenizer.token_to_id("AB")
    return [c for c in CODE_POINTS if token not in tokenizer.encode("AB" + chr(c)).ids]


def main() -> None:
    category = categories()
    runs: list[tuple[int, int]] = []
    for point in range(0x110000):
        value = category.get(point, CATEGORIES.index("Cn"))
        if not runs or runs[-1][1] != value:
            runs.append((point, value))
    text = [
        f"// Made by scripts/make_unicode_tables.py from tokenizers {tokenizers.__version__}; not edited by hand.",
        "// clang-format off",
        "// First code point of each run of one general category, and the category.",
        "constexpr CategoryRun kCategoryRuns[] = {",
        *lines([f"{{0x{point:X},{value}}}," for point, value in runs]),
        "};",
        *table("kNumericRanges", numeric()),
        *table("kWordRanges", word()),
        "// clang-format on",
    ]
    target = Path(__file__).resolve().parent.parent / "src/data/tokenizer/unicode_tables.inc"
    target.write_text("\n".join(text) + "\n", encoding="utf-8")
    print(f"{target}: {len(runs)} runs of categories, Unicode as in tokenizers {tokenizers.__version__}")


if __name__ == "__main__":
    main()
