"""scripts/quickstart as a newcomer runs it: without the pre-trained model, and, where PHI3TUNE_TEST_DEMO=1, with it."""
import os
import re
import shutil
import subprocess
import unittest

import front

QUICK = front.SOURCE / "scripts/quickstart"
MOST_SECONDS = 240  # of both runs, where the yardstick takes this long:
YARDSTICK = (2.0, 1.5)  # products, and reads: see yardstick.py


def slowdown():
    """How much slower this machine is at the moment than the two quiet cores the limit is for: 1 to 4."""
    said = subprocess.run([front.SOURCE / "scripts/parity_python", front.SOURCE / "tests/cli/yardstick.py"],
                          stdout=subprocess.PIPE, text=True, check=True).stdout
    return min(4.0, max(1.0, *(float(took) / quiet for took, quiet in zip(said.split(), YARDSTICK))))


class Quickstart(front.FrontTest):
    def quickstart(self, *words):
        done = subprocess.run([QUICK, *words], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr[-3000:])
        adapters = re.findall(r"adapter: (\S+)", done.stdout)
        self.assertEqual([path.split("/")[-2] for path in adapters], ["lora", "qlora"])
        folder = front.SOURCE / adapters[0].rsplit("/", 2)[0]
        self.addCleanup(shutil.rmtree, folder)
        for path in adapters:
            self.good("inspect", front.SOURCE / path)
        self.assertTrue((folder / "lora/eval/report.html").is_file())
        return done.stdout

    def test_without_the_pre_trained_model(self):
        out = self.quickstart("--smoke")
        self.assertIn("validation: 40 rows, 4 of them answered (greedy, at most 8 new tokens)", out)

    @unittest.skipUnless(os.environ.get("PHI3TUNE_TEST_DEMO") == "1", "the pre-trained model was not asked for (scripts/test --parity does)")
    def test_a_real_model_learns_with_lora_and_with_qlora_in_four_minutes(self):
        slower = slowdown()
        out = self.quickstart()
        slower = max(slower, slowdown())
        print(out)
        losses = re.findall(r"(\w+): loss ([\d.]+) before training, ([\d.]+)", out)
        self.assertEqual([name for name, _, _ in losses], ["validation", "general_validation"] * 2)
        for name, before, after in losses:
            if name == "validation":
                self.assertLess(float(after), float(before) - 0.5)
        self.assertLess(int(re.search(r"both runs took (\d+) s", out)[1]), MOST_SECONDS * slower, f"on a machine {slower:.2f} times slower")
        for name in ("loss", "f1, %", "rouge_l, %"):  # of terms that were not in the training data
            self.assertRegex(out, rf"\| {name} +\|.*\| +better \|")


if __name__ == "__main__":
    unittest.main()
