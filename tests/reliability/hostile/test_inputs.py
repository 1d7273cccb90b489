"""Malformed inputs end in one report with the place, what was found and what is wanted, soon and in little memory."""
import os
import pathlib
import sys
import tempfile
import unittest

import checkpoints
import inputs
import program
import sound

SETTINGS, DATA, MODELS, TOKENIZERS, CHECKPOINTS = 90, 90, 60, 30, 30  # at least


class Inputs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        place = tempfile.TemporaryDirectory(prefix="phi3-tune-inputs-")
        cls.addClassCleanup(place.cleanup)
        cls.folder = pathlib.Path(place.name)
        cls.sound = sound.Sound(cls.folder / "sound")

    def check(self, kind, cases, at_least):
        self.assertGreaterEqual(len(cases), at_least)
        self.assertEqual(len({case.name for case in cases}), len(cases))
        seconds, peak = [], []
        for number, case in enumerate(cases):
            with self.subTest(case.name):
                folder = self.sound.copy(self.folder / f"{kind} {number}" / "case")
                (folder.parent / "outside").mkdir()
                case.make(folder)
                for words in [case.words, inputs.TRAIN] if case.words == inputs.PREVIEW and program.has_engine() else [case.words]:
                    ended = program.run(words, folder)
                    broken = program.faults_of(case, ended)
                    seconds.append((ended.seconds, case.name))
                    peak.append((ended.peak, case.name))
                    if broken:
                        break
                for path in folder.glob("*.jsonl"):
                    os.truncate(path, 0)  # some are large
                if broken:
                    self.fail(f"{case.name}: {'; '.join(broken)}: {ended.said()}")
        print(f"{len(cases)} {kind}; at most {max(seconds)[0]:.2f} s of the processor ({max(seconds)[1]}), "
              f"{max(peak)[0] / 2**20:.0f} MB ({max(peak)[1]})", file=sys.stderr)

    def test_settings(self):
        self.check("settings files", inputs.settings_cases(), SETTINGS)

    def test_data(self):
        self.check("data files", inputs.data_cases(), DATA)

    def test_models_and_adapters(self):
        self.check("model and adapter folders", inputs.model_cases(), MODELS)

    def test_tokenizers(self):
        self.check("tokenizers", inputs.tokenizer_cases(), TOKENIZERS)

    def test_checkpoints(self):
        folder = self.sound.copy(self.folder / "checkpoint")
        checkpoints.write(folder)
        ended = program.run(checkpoints.INSPECT, folder)
        self.assertEqual(ended.code, 0, ended.said())
        self.check("checkpoints", checkpoints.checkpoint_cases(), CHECKPOINTS)


if __name__ == "__main__":
    unittest.main()
