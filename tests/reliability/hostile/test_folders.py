"""Hostile folders are refused with one report, soon, in little memory, and without a look at anything that lies outside them."""
import os
import pathlib
import sys
import tempfile
import unittest

import folders
import program
import sound

CASES = 149


class Folders(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = tempfile.TemporaryDirectory(prefix="phi3-tune-hostile-")
        cls.addClassCleanup(cls.place.cleanup)
        cls.folder = pathlib.Path(cls.place.name)
        cls.sound = sound.Sound(cls.folder / "sound")
        cls.worst_seconds, cls.worst_peak = (0.0, ""), (0, "")

    def case_folder(self, case):
        around = pathlib.Path(tempfile.mkdtemp(dir=self.folder))
        folder = self.sound.copy(around / "case")
        (around / "outside").mkdir()
        for name in ("model/model.safetensors", "model/config.json", "model/tokenizer.json", "model/tokenizer_config.json",
                     "adapter/adapter_model.safetensors", "adapter/adapter_config.json"):
            os.link(self.sound.folder / name, around / "outside" / pathlib.Path(name).name)
        (around / "outside/index.json").write_text("{}")
        case.make(folder)
        return folder

    def check(self, case, words):
        folder = self.case_folder(case)
        ended = program.run(words, folder)
        broken = program.faults_of(case, ended)
        if case.around and program.has_strace():
            trace = folder.parent / "trace"
            program.run(words, folder, trace)
            broken += [f"opened {path}" for path in program.leaves(program.opened(trace), folder)]
        self.assertFalse(os.path.exists(folders.Bomb.MARK), case.name)
        if broken:
            self.fail(f"{case.name}: {'; '.join(broken)}: {ended.said()}")
        cls = type(self)
        cls.worst_seconds = max(cls.worst_seconds, (ended.seconds, case.name))
        cls.worst_peak = max(cls.worst_peak, (ended.peak, case.name))

    def test_the_sound_folder_passes(self):
        folder = self.sound.copy(self.folder / "untouched")
        for words in (folders.INSPECT, folders.INSPECT_ADAPTER, folders.CHECK_ADAPTER, folders.PREVIEW):
            ended = program.run(words, folder)
            self.assertEqual(ended.code, 0, ended.said())

    def test_each_is_refused(self):
        cases = folders.folders()
        self.assertEqual(len(cases), CASES)
        self.assertEqual(len({case.name for case in cases}), CASES)
        for case in cases:
            with self.subTest(case.name):
                self.check(case, case.words)
                if case.words == folders.PREVIEW and program.has_engine():
                    self.check(case, folders.TRAIN)
        print(f"{CASES} folders; at most {self.worst_seconds[0]:.2f} s of the processor ({self.worst_seconds[1]}), "
              f"{self.worst_peak[0] / 2**20:.0f} MB ({self.worst_peak[1]}); "
              + ("reads outside were traced" if program.has_strace() else "strace is not there: reads outside were not traced"),
              file=sys.stderr)


if __name__ == "__main__":
    unittest.main()
