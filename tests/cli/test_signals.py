"""Signals and max_time, wherever a run is: it ends with 75, and the same command line goes on to the same adapter."""
import json
import os
import re
import signal
import subprocess
import threading
import time
import unittest

import front

STOPPED = 75
TWICE = 0.4  # seconds between two signals that are two requests


class Running:
    """A run whose lines can be waited for."""

    def __init__(self, words, cwd, ignored=()):
        env = {name: value for name, value in os.environ.items() if not name.startswith("PHI3_TUNE__")}

        def as_nohup():
            for one in ignored:
                signal.signal(one, signal.SIG_IGN)

        self.process = subprocess.Popen([front.PROGRAM, *map(str, words)], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, preexec_fn=as_nohup)
        self.lines = []
        self.news = threading.Condition()
        self.readers = [threading.Thread(target=self.read, args=(stream,)) for stream in (self.process.stdout, self.process.stderr)]
        for reader in self.readers:
            reader.start()

    def read(self, stream):
        for line in stream:
            with self.news:
                self.lines.append(line)
                self.news.notify_all()
        stream.close()

    def until(self, pattern, seconds=60):
        with self.news:
            seen = lambda: any(re.search(pattern, line) for line in self.lines)
            if not self.news.wait_for(seen, seconds):
                self.process.kill()
                raise AssertionError(f"no line like {pattern}: {self.said()}")
        return self

    def send(self, what):
        self.process.send_signal(what)
        return self

    def end(self, seconds=60):
        self.process.wait(seconds)
        for reader in self.readers:
            reader.join()
        return self

    @property
    def code(self):
        return self.process.returncode

    def said(self):
        return "".join(self.lines)


class Signals(front.FrontTest):
    @staticmethod
    def records(first, count, length=2):
        return "".join(json.dumps({"messages": [{"role": "user", "content": f"What is {i}?"},
                                                {"role": "assistant", "content": f"{i} is a number. " * length}]}) + "\n"
                       for i in range(first, first + count))

    def setUp(self):
        super().setUp()
        self.good("init-model", self.folder / "model", "--shape", "tiny", "--seed", 7)
        self.write("data.jsonl", self.records(0, 24))
        self.write("validation.jsonl", self.records(1000, 8))
        self.runs = []

    def config(self, **settings):
        every = {"base_model": "model", "datasets": [{"path": "data.jsonl"}], "test_datasets": [{"path": "validation.jsonl"}], "sequence_len": 256,
                 "micro_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 60, "learning_rate": 1e-2, "lora_r": 2,
                 "lora_dropout": 0.1, "logging_steps": 1, "bf16": False, "threads": 1, "save_steps": 20, "eval_steps": 30, "progress": "json",
                 "eval_on_start": False, **settings}
        name = f"run-{len(list(self.folder.glob('run-*')))}.yaml"
        return self.write(name, json.dumps(every))

    def start(self, config, out="out", ignored=()):
        run = Running(["--config", config, "--output_dir", self.folder / out], self.folder, ignored)
        self.addCleanup(run.process.kill)
        return run

    def adapter(self, out):
        return (self.folder / out / "adapter/adapter_model.safetensors").read_bytes()

    def checkpoints(self, out="out"):
        return sorted(int(path.name[5:]) for path in (self.folder / out / "checkpoints").glob("step-*"))

    def stopped(self, run):
        run.end()
        self.assertEqual(run.code, STOPPED, run.said())
        self.assertFalse((self.folder / "out/adapter").exists())
        return run

    def goes_on(self, config):
        """The same command line again, and it comes to what an undisturbed run comes to."""
        again = self.start(config).end()
        self.assertEqual(again.code, front.GOOD, again.said())
        whole = self.start(config, "whole").end()
        self.assertEqual(whole.code, front.GOOD, whole.said())
        self.assertEqual(self.adapter("out"), self.adapter("whole"))
        return again

    def test_while_data_is_read(self):
        self.write("data.jsonl", self.records(0, 60000))
        config = self.config(max_steps=3)
        run = self.stopped(self.start(config).until("chat template").send(signal.SIGTERM))
        self.assertIn("while reading data", run.said())
        self.write("data.jsonl", self.records(0, 24))
        self.goes_on(config)

    def test_while_weights_are_loaded(self):
        self.good("init-model", self.folder / "deep", "--shape", "tiny-gqa", "--layers", "600", "--seed", 7)
        config = self.config(base_model="deep", adapter="qlora", max_steps=2, lora_target_modules=["o_proj"],
                             eval_steps=None, test_datasets=None, gradient_checkpointing="none")
        run = self.stopped(self.start(config).until("^adapter: ").send(signal.SIGTERM))
        self.assertIn("while loading", run.said())
        self.goes_on(config)

    def test_in_training(self):
        config = self.config()
        run = self.stopped(self.start(config).until('"event": ?"step".*"step": ?7\\b').send(signal.SIGTERM))
        self.assertIn("stopping; a second signal ends at once", run.said())
        self.assertGreaterEqual(self.checkpoints()[-1], 7)
        again = self.goes_on(config)
        self.assertNotRegex(again.said(), '"event": ?"step".*"step": ?[1-7],')

    def test_in_evaluation(self):
        self.write("validation.jsonl", self.records(1000, 400, 8))
        config = self.config(eval_steps=5, max_steps=8)
        run = self.stopped(self.start(config).until('"event": ?"step".*"step": ?5\\b').send(signal.SIGTERM))
        self.assertNotIn('"event": "evaluation"', run.said())
        self.goes_on(config)

    def test_in_saving(self):
        # A run that does little but save, stopped ever later.
        config = self.config(save_steps=1, max_steps=30, save_total_limit=2)
        for step in range(2, 26, 4):
            run = self.start(config).until(f'"event": ?"step".*"step": ?{step}\\b')
            time.sleep(step / 5000)
            self.stopped(run.send(signal.SIGTERM))
        self.goes_on(config)

    def test_interrupted_twice(self):
        self.write("data.jsonl", self.records(0, 24, 40))
        config = self.config(micro_batch_size=12, gradient_accumulation_steps=2, sequence_len=2048, save_steps=1, max_steps=4, eval_steps=None,
                             test_datasets=None)
        run = self.start(config).until('"event": ?"step".*"step": ?1\\b').send(signal.SIGINT)
        time.sleep(TWICE)
        sent = time.monotonic()
        self.stopped(run.send(signal.SIGINT))
        self.assertLess(time.monotonic() - sent, 0.3)
        self.goes_on(config)

    def test_a_checkpoint_is_asked_for(self):
        config = self.config()
        run = self.start(config).until('"event": ?"step".*"step": ?5\\b').send(signal.SIGUSR1).end()
        self.assertEqual(run.code, front.GOOD, run.said())
        self.assertIn("a checkpoint is saved at the end of this step", run.said())
        whole = self.start(config, "whole").end()
        self.assertEqual(len(self.checkpoints()), len(self.checkpoints("whole")) + (0 if len(self.checkpoints("whole")) == 3 else 1))
        self.assertEqual(self.adapter("out"), self.adapter("whole"))

    def test_a_lost_terminal_stops_a_run_unless_nohup_says_otherwise(self):
        config = self.config()
        run = self.start(config, "under-nohup", ignored=[signal.SIGHUP]).until('"event": ?"step".*"step": ?5\\b').send(signal.SIGHUP).end()
        self.assertEqual(run.code, front.GOOD, run.said())
        self.stopped(self.start(config).until('"event": ?"step".*"step": ?5\\b').send(signal.SIGHUP))
        self.goes_on(config)
        self.assertEqual(self.adapter("under-nohup"), self.adapter("out"))

    def test_time_that_is_up(self):
        config = self.config(max_steps=4000, eval_steps=None, save_steps=None, max_time="1s", test_datasets=None)
        last = 0
        for _ in range(2):
            self.stopped(self.start(config))
            self.assertGreater(self.checkpoints()[-1], last)
            last = self.checkpoints()[-1]

    def test_nothing_is_saved_where_that_is_not_wanted(self):
        config = self.config(save_on_signal=False)
        self.stopped(self.start(config).until('"event": ?"step".*"step": ?25\\b').send(signal.SIGTERM))
        self.assertEqual([step % 20 for step in self.checkpoints()], [0] * len(self.checkpoints()))
        self.goes_on(config)


if __name__ == "__main__":
    unittest.main()
