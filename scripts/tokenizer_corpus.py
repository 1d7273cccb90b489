#!/usr/bin/env python3
"""Writes a corpus that is hard for tokenizers, one JSON string a line; the same seed gives the same bytes anywhere.

    scripts/tokenizer_corpus.py CORPUS.jsonl --lines 100000 --seed 1

Kinds, mixed line by line: prose in twenty languages, words of random letters of every script, code and numbers, white space of
every kind, contractions in both cases, emoji sequences, control characters, chat markers and other added tokens in the
middle of text (whole, cut, doubled, with white space around them), long runs, and random code points of all planes
(never surrogates: every line is valid UTF-8). Needs nothing but Python.
"""
import argparse, json, random

PROSE = """The relief valve opens at 12.5 bar; check it monthly, and don't forget the gasket.
We've measured it twice: they'll say it isn't so, but I'd trust the gauge (it's new).
A patient's fever of 39.4 °C that lasts > 3 days needs a second look, e.g. a blood count.
Tous les êtres humains naissent libres; c'est l'été, n'oublie pas l'œuvre d'Ève à Nîmes.
Die Größe der Straße ändert sich: Übermäßiger Druck führt zu Öl-Verlust.
¿Dónde está la niña? El pingüino comió ñoquis mañana por la tarde.
Все люди рождаются свободными и равными в своём достоинстве и правах.
Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια.
כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.
يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق، ٣٤٥ مرة.
सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता प्राप्त है।
সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে।
மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.
เราทุกคนเกิดมาอย่างอิสระ เราทุกคนมีความคิดและความเข้าใจเป็นของเราเอง
人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心。
すべての人間は、生まれながらにして自由であり、データ分析するにはなにをすればいい？
모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.
Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm.
Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar; IĞDIR'ın ılık çayı.
ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებით.
Բոլոր մարդիկ ծնվում են ազատ ու հավասար իրենց արժանապատվությամբ։
የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው።
def f(x: int) -> str:\n    return f"{x!r:>8}"  # tabs\tand spaces
for (int i = 0; i < n; ++i) { a[i] += b[i] * 0x1F; } /* C */
SELECT name, COUNT(*) FROM t WHERE id IN (1, 22, 333, 4444, 55555) GROUP BY 1;
https://example.org/a/b?c=d&e=%20#frag user.name+tag@mail.example.co.uk C:\\Temp\\x.txt""".split("\n")

# First and last code point of blocks whose letters, marks, digits and signs differ in kind.
BLOCKS = [(0x21, 0x7E), (0xA1, 0xFF), (0x100, 0x24F), (0x250, 0x2FF), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x52F),
          (0x531, 0x58A), (0x591, 0x5F4), (0x600, 0x6FF), (0x700, 0x74F), (0x780, 0x7B1), (0x7C0, 0x7FA), (0x900, 0x97F),
          (0x980, 0x9FE), (0xA01, 0xA76), (0xA81, 0xAFF), (0xB01, 0xB77), (0xB82, 0xBFA), (0xC00, 0xC7F), (0xC80, 0xCF2),
          (0xD00, 0xD7F), (0xD81, 0xDF4), (0xE01, 0xE5B), (0xE81, 0xEDF), (0xF00, 0xFDA), (0x1000, 0x109F), (0x10A0, 0x10FF),
          (0x1100, 0x11FF), (0x1200, 0x139F), (0x13A0, 0x13FD), (0x1400, 0x167F), (0x1680, 0x169C), (0x16A0, 0x16F8),
          (0x1780, 0x17F9), (0x1800, 0x18AA), (0x1E00, 0x1FFE), (0x2000, 0x206F), (0x2070, 0x209C), (0x20A0, 0x20C0),
          (0x20D0, 0x20F0), (0x2100, 0x218B), (0x2190, 0x23FF), (0x2460, 0x24FF), (0x2500, 0x27BF), (0x2C60, 0x2DFF),
          (0x3000, 0x303F), (0x3041, 0x30FF), (0x3105, 0x318E), (0x3200, 0x33FF), (0x4E00, 0x9FFF), (0xA000, 0xA4C6),
          (0xA500, 0xA62B), (0xA720, 0xA7CA), (0xAC00, 0xD7A3), (0xFB00, 0xFB4F), (0xFB50, 0xFDFF), (0xFE00, 0xFE0F),
          (0xFE20, 0xFE2F), (0xFF01, 0xFFEE), (0x10000, 0x100FA), (0x10330, 0x1034A), (0x10400, 0x1044F), (0x10900, 0x10939),
          (0x11000, 0x1107F), (0x12000, 0x12399), (0x13000, 0x1342E), (0x1D400, 0x1D7FF), (0x1E900, 0x1E95F),
          (0x1F000, 0x1F0F5), (0x1F100, 0x1F1FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0xE0100, 0xE01EF)]

SPACES = [" ", "  ", "   ", "\t", "\n", "\n\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0", "\u1680",
          "\u180e", "\u2000", "\u2003", "\u2009", "\u200a", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\ufeff"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'T", "'RE", "'Ve", "'M", "'LL", "'lL", "'D", "\u2019s", "\u2019ll",
                "'\u017f", "'\u017ft", "''s", "'sx", "'x", "'", "\u02bcs", "'r", "'v", "'l"]
EMOJI = ["🙂", "👩‍👩‍👧‍👦", "👍🏽", "🇩🇪", "🇩🇪🇫🇷", "1️⃣", "❤️", "❤", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "👨🏿‍🚀", "☕", "™", "🤷‍♀️", "⚕️", "🧑‍⚕️", "💊", "🩺"]
MARKERS = ["<|endoftext|>", "<|assistant|>", "<|user|>", "<|system|>", "<|end|>", "<|placeholder1|>", "<|placeholder6|>", "<s>", "</s>",
           "<unk>", "<|im_start|>", "<|im_end|>", "<|im_sep|>", "<|dummy_0|>", "<|fim_prefix|>", "<|endofprompt|>", "<|tool|>",
           "<|/tool|>", "<|tool_call|>", "<|/tool_call|>", "<|tool_response|>", "<|tag|>", "<0x0A>", "<0xE2>", "▁", "▁▁", "Ġ", "Ċ",
           "<repo_name>", "<file_sep>", "<empty_output>", "<issue_start>"]


def code_point(r):
    """Any scalar value; the planes weigh alike, so that rare ones appear."""
    while True:
        plane = r.choice([0, 0, 0, 0, 1, 1, 2, 3, 14, 15, 16])
        value = plane * 0x10000 + r.randrange(0x10000)
        if not 0xD800 <= value <= 0xDFFF:
            return chr(value)


def word(r):
    first, last = r.choice(BLOCKS)
    return "".join(chr(r.randint(first, last)) for _ in range(r.randint(1, 9)))


def prose(r):
    line = r.choice(PROSE)
    start = r.randrange(max(1, len(line) // 2))
    return line[start:start + r.randint(1, 60)] if r.random() < 0.5 else line


def number(r):
    digits = r.choice(["0123456789", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९", "０１２３４５６７８９", "²³¹½¼Ⅷ①㉈", "𝟎𝟙𝟤𝟱𝟺"])
    text = "".join(r.choice(digits) for _ in range(r.randint(1, 12)))
    return r.choice(["", "-", "$", " ", "€"]) + text + r.choice(["", "%", ".5", ",000", "e-5", " °C", "rd", "\u0301"])


def marker(r):
    text = r.choice(MARKERS)
    kind = r.random()
    if kind < 0.15:
        cut = r.randrange(1, len(text) + 1)
        text = text[:cut] + text[cut + 1:]
    elif kind < 0.3:
        text += r.choice(MARKERS)
    elif kind < 0.4:
        text = text[0] + text
    around = lambda: "".join(r.choice(SPACES) for _ in range(r.randrange(3)))
    return around() + text + around()


def case_flipped(r):
    return "".join(c.upper() if r.random() < 0.5 else c.lower() for c in r.choice(PROSE)[:30])


PARTS = [(prose, 20), (word, 20), (number, 10), (marker, 14), (lambda r: r.choice(EMOJI), 8), (lambda r: r.choice(SPACES), 14),
         (lambda r: r.choice(["it", "I", "we", "DON", "ß", "", "é", "नि"]) + r.choice(CONTRACTIONS) + r.choice(["", " ", "x", "1"]), 8),
         (lambda r: chr(r.choice([*range(0x20), *range(0x7F, 0xA0)])), 4), (case_flipped, 4),
         (lambda r: "".join(code_point(r) for _ in range(r.randint(1, 6))), 8),
         (lambda r: r.choice(["a", " ", "\n", "=", "-", "é", "の", "🙂", "0", "\t", "\u0301", "."]) * r.choice([2, 3, 7, 17, 33, 100]), 4)]
MAKERS, WEIGHTS = zip(*PARTS)


def line(r):
    """One text of the corpus."""
    kind = r.random()
    if kind < 0.03:
        return "".join(code_point(r) for _ in range(r.randint(1, 40)))
    if kind < 0.06:
        return r.choice(["", " ", "\n", "\x00", "\ufffd", "a", "▁", "\u00ad", "\ufeff", "\U0010ffff"]) * r.randint(0, 3)
    joint = r.choice(["", "", " ", " ", "\n"])
    return joint.join(make(r) for make in r.choices(MAKERS, WEIGHTS, k=r.randint(1, 8)))


def lines(count, seed):
    r = random.Random(seed)
    for _ in range(count):
        yield line(r)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("--lines", type=int, default=100_000)
    ap.add_argument("--seed", type=int, default=1)
    args = ap.parse_args()
    with open(args.out, "w", encoding="utf-8", newline="\n") as out:
        for text in lines(args.lines, args.seed):
            out.write(json.dumps(text, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
