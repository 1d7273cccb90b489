"""A key that is misspelt is never ignored, and nearly always the right one is named."""
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import unittest

import program

EDITS = 3
LETTERS = "abcdefghijklmnopqrstuvwxyz_"
SEED = 1


def misspelt(word, generator):
    """One slip of the pen: a letter left out, put in, changed, or swapped with its neighbour."""
    at = generator.randrange(len(word))
    kind = generator.randrange(4)
    if kind == 0:
        return word[:at] + word[at + 1:]
    if kind == 1:
        return word[:at] + generator.choice(LETTERS) + word[at:]
    if kind == 2:
        return word[:at] + generator.choice(LETTERS) + word[at + 1:]
    at = min(at, len(word) - 2)
    return word[:at] + word[at + 1] + word[at] + word[at + 2:]


def schema():
    return json.loads(subprocess.run([program.PROGRAM, "config", "schema"], capture_output=True, text=True, check=True).stdout)


class Typos(unittest.TestCase):
    def setUp(self):
        place = tempfile.TemporaryDirectory(prefix="phi3-tune-typos-")
        self.addCleanup(place.cleanup)
        self.folder = pathlib.Path(place.name)

    def setting_of(self, name):
        done = subprocess.run([program.PROGRAM, "config", "explain", name, "--json"], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)["name"]

    def refusals(self, text):
        """line -> the report about it"""
        (self.folder / "run.yaml").write_text(text)
        ended = program.run(["config", "check", "--config", "run.yaml"], self.folder)
        self.assertEqual(ended.code, program.SETTINGS, ended.said())
        found = {}
        for line in ended.errors:
            place = re.match(r"run\.yaml:(\d+):\d+: (.*)", line)
            if place:
                found.setdefault(int(place.group(1)), place.group(2))
        return found

    def test_each_key_with_three_edits(self):
        properties = schema()["properties"]
        self.assertGreater(len(properties), 60)
        # Other names of a setting lead to it too.
        settings = {name: self.setting_of(name) for name in properties}
        generator = random.Random(SEED)
        words = []
        for name in properties:
            for _ in range(EDITS):
                word = name
                taken = {"", "true", "null", *properties, *(one for one, _ in words)}
                while word in taken or not re.fullmatch(r"[a-z_][a-z_0-9]*", word):
                    word = misspelt(name, generator)
                words.append((word, name))
        found = self.refusals("".join(f"{word}: 1\n" for word, _ in words))
        ignored = [word for number, (word, _) in enumerate(words, 1) if number not in found]
        self.assertEqual(ignored, [])
        right = 0
        wrong = []
        for number, (word, name) in enumerate(words, 1):
            suggestion = re.search(r"did you mean (\w+)\?", found[number])
            if suggestion and settings.get(suggestion.group(1)) == settings[name]:
                right += 1
            else:
                wrong.append(f"{word} ({name}): {found[number]}")
        share = right / len(words)
        print(f"{len(properties)} keys, {len(words)} slips (seed {SEED}): all refused, {100 * share:.1f} % with the right name", file=sys.stderr)
        self.assertGreaterEqual(share, 0.9, wrong[:20])


if __name__ == "__main__":
    unittest.main()
