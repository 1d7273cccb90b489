"""Whole training runs on a tiny model: what they write, that they repeat, and how they end."""
import json
import re
import os
import pathlib
import signal
import subprocess
import time
import unittest

import front

DIVERGED = 5
CHECKPOINT = 6
RESOURCE = 4
INTERRUPTED = 75

ADAPTER_FILES = {"adapter_config.json", "adapter_model.safetensors", "README.md", "tokenizer.json", "tokenizer_config.json",
                 "chat_template.jinja"}


class Train(front.FrontTest):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"
        self.good("init-model", self.model, "--shape", "tiny-gqa", "--seed", 7)
        rows = [{"messages": [{"role": "user", "content": f"What is {i}?"}, {"role": "assistant", "content": f"{i} is a number, " * (1 + i % 3)}]}
                for i in range(40)]
        self.data = self.write("data.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def config(self, name="run.yaml", **settings):
        every = {"base_model": "model", "datasets": [{"path": "data.jsonl"}], "val_set_size": 0.2, "sequence_len": 128,
                 "micro_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 6, "learning_rate": 1e-2, "lora_r": 4,
                 "lora_dropout": 0.1, "logging_steps": 1, "output_dir": str(self.folder / "out")}
        every.update(settings)
        return self.write(name, json.dumps({k: v for k, v in every.items() if v is not None}, indent=1))

    def train(self, *words, **settings):
        return self.good("--config", self.config(**settings), *words)

    def metrics(self, out="out"):
        return [json.loads(line) for line in (self.folder / out / "metrics.jsonl").read_text().splitlines()]

    def record(self, out="out"):
        return json.loads((self.folder / out / "run.json").read_text())

    def tensors(self, out):
        return (self.folder / out / "adapter/adapter_model.safetensors").read_bytes()

    def test_a_run_writes_an_adapter_its_metrics_and_its_record(self):
        report = self.train()
        self.assertIn("validation: loss ", report)
        self.assertIn(str(self.folder / "out/adapter"), report)
        self.assertEqual({p.name for p in (self.folder / "out/adapter").iterdir()}, ADAPTER_FILES)
        steps = [m for m in self.metrics() if "loss" in m]
        self.assertEqual([m["step"] for m in steps], [1, 2, 3, 4, 5, 6])
        for key in ("epoch", "loss", "grad_norm", "learning_rate", "trained_tokens", "tokens_per_second", "memory_bytes"):
            self.assertIn(key, steps[0])
        evaluations = [m for m in self.metrics() if "eval_loss" in m]
        self.assertEqual([evaluations[0]["step"], evaluations[-1]["step"]], [0, 6])
        self.assertGreater(evaluations[0]["eval_tokens"], 0)
        self.assertLess(evaluations[-1]["eval_loss"], evaluations[0]["eval_loss"])
        record = self.record()
        self.assertEqual(record["status"], "finished")
        self.assertEqual(record["settings"]["lora_r"], 4)
        for name in ("base", "data", "tokenizer"):
            self.assertTrue(record["hashes"][name])

    def test_the_same_settings_give_the_same_bytes(self):
        for adapter in ("lora", "qlora"):
            for bf16 in (True, False):
                with self.subTest(adapter=adapter, bf16=bf16):
                    one, two, block = (f"{adapter}-{bf16}-{n}" for n in ("one", "two", "block"))
                    for out in (one, two):
                        self.train(adapter=adapter, bf16=bf16, sample_packing=True, output_dir=str(self.folder / out))
                    self.train(adapter=adapter, bf16=bf16, sample_packing=True, gradient_checkpointing=True, output_dir=str(self.folder / block))
                    self.assertEqual(self.tensors(one), self.tensors(two))
                    self.assertEqual(self.tensors(one), self.tensors(block))

    def test_another_seed_gives_other_bytes(self):
        self.train(output_dir=str(self.folder / "one"))
        self.train(output_dir=str(self.folder / "two"), seed=43)
        self.assertNotEqual(self.tensors("one"), self.tensors("two"))

    def test_a_run_goes_on_from_an_adapter(self):
        self.train(output_dir=str(self.folder / "first"))
        self.train(output_dir=str(self.folder / "second"), lora_model_dir="first/adapter", lora_r=None)
        end = [m for m in self.metrics("first") if "eval_loss" in m][-1]["eval_loss"]
        start = [m for m in self.metrics("second") if "eval_loss" in m][0]["eval_loss"]
        self.assertEqual(start, end)

    def test_anything_in_the_output_folder_is_refused_and_kept(self):
        mine = self.write("out/thesis.txt", "ten years of work")
        errors = self.refused(front.USAGE, "--config", self.config())
        self.assertIn("overwrite_output_dir", errors[0])
        self.refused(front.USAGE, "--config", self.config(overwrite_output_dir=True))
        self.assertEqual(mine.read_text(), "ten years of work")
        self.assertEqual([p.name for p in (self.folder / "out").iterdir()], ["thesis.txt"])

    def test_overwriting_replaces_our_own_files_and_only_when_the_new_run_can_start(self):
        self.train()
        before = self.tensors("out")
        errors = self.refused(front.USAGE, "--config", self.config(seed=9))
        self.assertTrue(any("seed: 42 then, 9 now" in line for line in errors), errors)
        self.refused(front.INPUT, "--config", self.config(overwrite_output_dir=True, base_model="nowhere"))
        bad = self.write("bad.jsonl", "{\n")
        self.refused(front.INPUT, "--config", self.config(overwrite_output_dir=True, datasets=[{"path": str(bad)}]))
        self.assertEqual(self.tensors("out"), before)
        self.train(overwrite_output_dir=True, seed=9)
        self.assertNotEqual(self.tensors("out"), before)

    def test_faulty_records_are_named_and_nothing_is_trained(self):
        lines = self.data.read_text().splitlines()
        lines[4] = '{"messages": [{"role": "user", "content": "no answer"}]}'
        lines[7] = '{"messages": '
        bad = self.write("bad.jsonl", "\n".join(lines) + "\n")
        done = front.run("--config", self.config(datasets=[{"path": "bad.jsonl"}]))
        self.assertEqual(done.returncode, front.INPUT)
        self.assertIn(f"{bad}:5", done.stderr)
        self.assertIn(f"{bad}:8", done.stderr)
        self.assertFalse((self.folder / "out/adapter").exists())

    def test_a_gpu_that_is_not_there_is_said(self):
        self.refused(RESOURCE, "--config", self.config(device="cuda:0"))

    def test_diverging_numbers_end_the_run_with_nothing_saved(self):
        # Rates of 1e30 make weights of 1e30 at once; the next loss is not finite.
        errors = self.refused(DIVERGED, "--config", self.config(learning_rate=1e30, lr_scheduler="constant", warmup_ratio=0, bf16=False,
                                                                max_grad_norm=0, val_set_size=0))
        self.assertRegex(" ".join(errors), r"step \d+")
        self.assertIn("data.jsonl:", front.run("--config", self.config(
            learning_rate=1e30, lr_scheduler="constant", warmup_ratio=0, bf16=False, max_grad_norm=0, val_set_size=0,
            overwrite_output_dir=True)).stderr)
        self.assertFalse((self.folder / "out/adapter").exists())
        self.assertEqual(self.record()["status"], "failed")

    def test_a_finished_run_says_so(self):
        self.train()
        before = {p: p.read_bytes() for p in (self.folder / "out").rglob("*") if p.is_file()}
        self.assertIn("finished already", self.train())
        self.assertEqual({p: p.read_bytes() for p in (self.folder / "out").rglob("*") if p.is_file()}, before)

    def test_a_signal_stops_after_a_micro_batch_with_a_checkpoint_saved(self):
        config = self.config(max_steps=100000, val_set_size=0)
        process = subprocess.Popen([front.PROGRAM, "--config", str(config)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        metrics = self.folder / "out/metrics.jsonl"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, INTERRUPTED, errors)
        steps = int(re.search(r"stopped by a signal after (\d+) steps; saved: (.*);", out)[1])
        self.assertEqual(self.record()["status"], "stopped")
        self.assertFalse((self.folder / "out/adapter").exists())
        self.good("inspect", self.folder / f"out/checkpoints/step-{steps:06}")

    def test_a_lost_terminal_stops_a_run_as_a_signal_does_and_its_evaluations_are_kept(self):
        process = subprocess.Popen([front.PROGRAM, "--config", str(self.config(max_steps=100000))], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        metrics = self.folder / "out/metrics.jsonl"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (metrics.exists() and len(metrics.read_text().splitlines()) > 3):
            time.sleep(0.02)
        process.send_signal(signal.SIGHUP)
        out, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, INTERRUPTED, errors)
        self.assertIn("stopping; a second signal ends at once", errors)
        self.assertEqual(len(self.record()["results"]["evaluations"]), 1)

    def test_an_explosive_pattern_ends_soon_and_patterns_must_match_something(self):
        errors = self.refused(front.USAGE, "--config", self.config(), "--lora_target_regex", r"(\w+\.?)+[!?]", timeout=20)
        self.assertIn("lora_target_regex", errors[0])
        self.refused(front.USAGE, "--config", self.config(lora_rank_pattern={"nonexist": 4}))

    def test_sequences_beyond_the_models_positions_are_said(self):
        config = json.loads((self.model / "config.json").read_text())
        config["max_position_embeddings"] = 16
        (self.model / "config.json").write_text(json.dumps(config))
        done = front.run("--config", self.config())
        self.assertIn("max_position_embeddings", done.stderr)

    def test_what_cannot_fit_is_refused_before_weights_are_read(self):
        self.good("init-model", self.folder / "deep", "--shape", "tiny-gqa", "--layers", "200")
        # A million tokens through 200 layers: 25 KB a token if each block keeps its input alone.
        long = {"messages": [{"role": "user", "content": "go on"}, {"role": "assistant", "content": "a b c d " * 250000}]}
        self.write("long.jsonl", json.dumps(long) + "\n")
        settings = dict(base_model="deep", val_set_size=0)
        errors = self.refused(RESOURCE, "--config", self.config(
            datasets=[{"path": "long.jsonl"}], sequence_len=1048576, excess_length_strategy="truncate_end", **settings))
        self.assertRegex(errors[0], r"memory: the run takes [\d.]+ GiB on cpu, [\d.]+ GiB are free; ")
        self.assertFalse((self.folder / "out").exists())

    def test_what_the_disk_cannot_hold_is_refused_before_weights_are_read(self):
        self.good("init-model", self.folder / "deep", "--shape", "tiny-gqa", "--layers", "200")
        errors = self.refused(RESOURCE, "--config", self.config(base_model="deep", lora_r=65536))  # over 100 GB of adapter
        self.assertRegex(errors[0], r"output_dir .*/out: [\d.]+ \w+ are free there, and the run will write [\d.]+ GiB: \d+ checkpoints of ")
        self.assertFalse((self.folder / "out").exists())

    def test_more_rows_a_pass_than_there_are_take_no_more_memory(self):
        self.train(micro_batch_size=1048576)
        few = int(self.record()["compute"]["arena_bytes"])
        self.assertLess(few, 256 << 20)

    def test_progress_as_json_is_json_to_the_end(self):
        for line in self.train("--progress", "json").splitlines():
            json.loads(line)

    def test_json_events_are_one_object_a_line(self):
        events = [json.loads(line) for line in self.train("--json").splitlines()]
        self.assertEqual(events[0]["event"], "start")
        self.assertEqual(events[-1]["event"], "result")
        self.assertEqual(sum(e["event"] == "step" for e in events), 6)

    def test_an_adapter_for_another_shape_is_refused(self):
        self.train(output_dir=str(self.folder / "first"))
        self.good("init-model", self.folder / "other", "--shape", "tiny", "--seed", 7)
        path = self.folder / "first/adapter/adapter_model.safetensors"
        path.write_bytes(path.read_bytes()[:-8])
        self.refused(CHECKPOINT, "--config", self.config(lora_model_dir="first/adapter", lora_r=None))


if __name__ == "__main__":
    unittest.main()
