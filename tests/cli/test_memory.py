"""Memory that runs out before step 1: less is taken and said, and what is learnt stays the same.

The library of tests/reliability/faults lets allocations fail that are as large as a case says.
"""
import json
import os
import pathlib
import sys
import unittest

import front

sys.path.insert(0, str(front.SOURCE / "tests/reliability"))
os.environ.setdefault("PHI3TUNE_FAULTS", str(pathlib.Path(front.PROGRAM).parent / "libfaults_for_tests.so"))
import faults  # noqa: E402  (after its place is known)

RESOURCE = 4
TRAINING = {"micro_batch_size": 8, "gradient_accumulation_steps": 1}
BY_HALVES = {"micro_batch_size": 4, "gradient_accumulation_steps": 2}


class Memory(front.FrontTest):
    def setUp(self):
        super().setUp()
        self.good("init-model", self.folder / "model", "--shape", "tiny", "--seed", 7)
        self.data("data.jsonl", 0, 27)  # the last step of an epoch is a ragged one
        self.data("validation.jsonl", 100, 20)

    def data(self, name, first, count):
        self.write(name, "".join(json.dumps({"messages": [
            {"role": "user", "content": f"What is {i}?"},
            {"role": "assistant", "content": f"{i} is a number, " * 30}]}) + "\n" for i in range(first, first + count)))

    def train(self, out, limit=None, at=1, persist=True, **settings):
        every = {"base_model": "model", "datasets": [{"path": "data.jsonl"}], "sequence_len": 2048, "max_steps": 5,
                 "learning_rate": 1e-2, "lora_r": 4, "lora_dropout": 0.1, "logging_steps": 1, "device": "cpu", "bf16": False, "threads": 1,
                 "gradient_checkpointing": "none", "progress": "none", **settings}
        config = self.write(f"{out}.yaml", json.dumps(every))
        # Counted from the first call on the output folder: libtorch is loaded then, which itself ends where memory does.
        env = faults.armed(self.folder / out, allocate=(at, limit), persist=persist) if limit else None
        return front.run("--config", config, "--output_dir", self.folder / out, env=env, cwd=self.folder)

    def plain(self, out, **settings):
        done = self.train(out, **settings)
        self.assertEqual(done.returncode, front.GOOD, done.stderr)
        self.assertNotIn("tried again", done.stderr)
        return int(self.record(out)["compute"]["arena_bytes"])

    def record(self, out):
        return json.loads((self.folder / out / "run.json").read_text())

    def adapter(self, out):
        return (self.folder / out / "adapter/adapter_model.safetensors").read_bytes()

    def test_less_is_taken_in_more_passes_and_the_adapter_is_that_of_these(self):
        whole = self.plain("whole", **TRAINING)
        halves = self.plain("halves", **BY_HALVES)
        done = self.train("limited", limit=(whole + halves) // 2, **TRAINING)
        self.assertEqual(done.returncode, front.GOOD, done.stderr)
        warnings = [line for line in done.stderr.splitlines() if "tried again" in line]
        self.assertEqual(len(warnings), 1, done.stderr)
        self.assertIn("micro_batch_size 4 instead of 8 and gradient_accumulation_steps 2 instead of 1", warnings[0])
        record = self.record("limited")
        self.assertEqual({name: record["settings"][name] for name in BY_HALVES}, BY_HALVES)
        self.assertEqual(record["compute"]["micro_batch_size halved from"], "8")
        self.assertLess(int(record["compute"]["arena_bytes"]), (whole + halves) // 2)
        self.assertEqual(self.adapter("limited"), self.adapter("halves"))

    def test_down_to_one_row_with_rows_in_the_same_order(self):
        one = self.plain("one", micro_batch_size=1, gradient_accumulation_steps=6, group_by_length=True)
        two = self.plain("two", micro_batch_size=3, gradient_accumulation_steps=2, group_by_length=True)
        done = self.train("limited", limit=(one + two) // 2, micro_batch_size=6, gradient_accumulation_steps=1, group_by_length=True)
        self.assertEqual(done.returncode, front.GOOD, done.stderr)
        self.assertEqual(done.stderr.count("tried again"), 2)
        self.assertEqual(self.record("limited")["compute"]["micro_batch_size halved from"], "6")
        self.assertEqual(self.adapter("limited"), self.adapter("one"))

    def test_a_row_that_does_not_fit_ends_the_run_with_a_way_out(self):
        one = self.plain("one", micro_batch_size=1)
        done = self.train("limited", limit=one // 2, micro_batch_size=2)
        self.assertEqual(done.returncode, RESOURCE, done.stderr)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        self.assertEqual(len(errors), 1, done.stderr)
        self.assertIn("with micro_batch_size 1 the run does not fit: a shorter sequence_len", errors[0])
        self.assertFalse((self.folder / "limited/adapter").exists())

    def test_an_evaluation_batch_of_its_own_is_what_gets_smaller(self):
        wanted = {"micro_batch_size": 1, "gradient_accumulation_steps": 2, "test_datasets": [{"path": "validation.jsonl"}]}
        large = self.plain("large", eval_batch_size=20, **wanted)
        small = self.plain("small", eval_batch_size=10, **wanted)
        self.assertLess(small, large)
        done = self.train("limited", limit=(large + small) // 2, eval_batch_size=20, **wanted)
        self.assertEqual(done.returncode, front.GOOD, done.stderr)
        self.assertIn("eval_batch_size 10 instead of 20", done.stderr)
        record = self.record("limited")
        self.assertEqual([record["settings"][name] for name in ("micro_batch_size", "eval_batch_size")], [1, 10])
        self.assertEqual(record["compute"]["eval_batch_size halved from"], "20")
        self.assertNotIn("micro_batch_size halved from", record["compute"])
        self.assertEqual(self.adapter("limited"), self.adapter("large"))

    def test_any_one_allocation_may_fail(self):
        # Once, wherever it is: the run takes less, or ends with one line, and the same command goes on.
        count = self.folder / "count"
        env = {**faults.armed(self.folder / "counted", allocate=(0, 1 << 16)), "PHI3TUNE_FAULTS_ALLOCATE_COUNT": str(count)}
        self.plain("plain", **TRAINING)
        config = self.folder / "plain.yaml"
        front.run("--config", config, "--output_dir", self.folder / "counted", env=env, cwd=self.folder)
        total = len(count.read_bytes())
        self.assertGreater(total, 10)
        failed = 0
        for at in sorted({1 + i * (total - 1) // 7 for i in range(8)}):
            out = f"at-{at}"
            done = self.train(out, limit=1 << 16, at=at, persist=False, save_steps=1, **TRAINING)
            self.assertIn(done.returncode, (front.GOOD, RESOURCE), f"{at} of {total}: {done.stderr}")
            if done.returncode == RESOURCE:
                self.assertEqual(sum(line.startswith("error: ") for line in done.stderr.splitlines()), 1, done.stderr)
                failed += 1
                done = self.train(out, save_steps=1, **TRAINING)
                self.assertEqual(done.returncode, front.GOOD, done.stderr)
                self.assertEqual(self.adapter(out), self.adapter("plain"))
        self.assertGreater(failed, 0)

    def test_a_pass_before_the_first_step_is_said(self):
        done = self.train("out", **TRAINING)
        self.assertRegex(done.stderr, r"the largest micro-batch was tried: \d+ tokens, [\d.]+ s\n")


if __name__ == "__main__":
    unittest.main()
