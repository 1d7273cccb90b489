"""device: cuda as a user asks for it. Without a GPU the plug-in is a rehearsal: the CUDA back end, its kernels executed
on the host (libphi3tune_cuda_rehearsal.so, which the build makes where it has CUDA's headers)."""
import json
import pathlib
import shutil
import unittest

import front

RESOURCE = 4
REHEARSAL = pathlib.Path(front.PROGRAM).parent / "libphi3tune_cuda_rehearsal.so"
ON_HOST = {"PHI3TUNE_CUDA_PLUGIN": str(REHEARSAL)}
NOWHERE = {"PHI3TUNE_CUDA_PLUGIN": "/nowhere/libphi3tune_cuda.so"}


class Cuda(front.FrontTest):
    def setUp(self):
        super().setUp()
        self.good("init-model", self.folder / "tiny", "--shape", "tiny-gqa", "--tokenizer", front.SOURCE / "data/tokenizer-small")
        self.write("rows.jsonl", "".join(json.dumps({"text": f"Ticket {i}: " + "some words " * (5 + i % 20)}) + "\n"
                                         for i in range(20)))
        self.config = self.write("run.yaml", "base_model: tiny\ndatasets: [rows.jsonl]\nchat_template: phi_3\nsequence_len: 128\n"
                                             "micro_batch_size: 2\ngradient_accumulation_steps: 2\nmax_steps: 3\n"
                                             "val_set_size: 0.2\nlogging_steps: 2\nbf16: false\ndevice: cuda\n")

    def train(self, name, *words, env=None):
        """What a run wrote: its losses in order, and run.json."""
        self.good("--config", self.config, "--output_dir", self.folder / name, *words, cwd=self.folder, env=env)
        lines = [json.loads(line) for line in (self.folder / name / "metrics.jsonl").read_text().splitlines()]
        losses = [line.get("loss", line.get("eval_loss")) for line in lines]
        return losses, json.loads((self.folder / name / "run.json").read_text())

    def needs_rehearsal(self):
        if not REHEARSAL.exists():
            self.skipTest("built without the headers of CUDA 13: no rehearsal plug-in")

    def test_a_run_follows_the_cpus(self):
        self.needs_rehearsal()
        for number, words in enumerate((("--adapter", "lora"), ("--adapter", "qlora", "--lora_dropout", "0.1"),
                                        ("--adapter", "qlora", "--gradient_checkpointing", "offload", "--sample_packing", "true"))):
            with self.subTest(words=words):
                device, run = self.train(f"device{number}", *words, env=ON_HOST)
                processor, _ = self.train(f"cpu{number}", "--device", "cpu", *words)
                self.assertEqual(run["compute"]["device"], "cuda:0 (rehearsal)")
                # 3 steps read every 2, two evaluations.
                self.assertEqual(run["compute"]["in steps and evaluations: waits"], "4")
                self.assertEqual(run["compute"]["in steps and evaluations: allocations"], "0")
                self.assertLessEqual(int(run["compute"]["arena_bytes used"]), int(run["compute"]["arena_bytes"]))
                self.assertEqual(len(device), len(processor))
                for ours, wanted in zip(device, processor):
                    self.assertAlmostEqual(ours / wanted, 1, delta=1e-5)

    def test_the_same_run_twice_is_the_same_to_the_bit(self):
        self.needs_rehearsal()
        adapters = []
        for name in ("first", "second"):
            self.train(name, "--bf16", "true", "--adapter", "qlora", "--lora_dropout", "0.1", env=ON_HOST)
            adapters.append((self.folder / name / "adapter/adapter_model.safetensors").read_bytes())
        self.assertEqual(adapters[0], adapters[1])

    def test_a_run_goes_on_from_a_checkpoint_to_the_same_bits(self):
        self.needs_rehearsal()
        words = ("--bf16", "true", "--adapter", "qlora", "--lora_dropout", "0.1", "--save_steps", "2", "--save_best", "false")
        self.train("run", *words, env=ON_HOST)
        out = self.folder / "run"
        whole = (out / "adapter/adapter_model.safetensors").read_bytes()
        shutil.rmtree(out / "adapter")
        shutil.rmtree(out / "checkpoints/step-000003")
        losses, run = self.train("run", *words, env=ON_HOST)
        self.assertEqual(run["compute"]["device"], "cuda:0 (rehearsal)")
        self.assertEqual(len(losses), 5)  # three steps, two evaluations
        self.assertEqual((out / "adapter/adapter_model.safetensors").read_bytes(), whole)

    def test_a_device_that_is_not_there_is_refused_before_weights_are_loaded(self):
        self.needs_rehearsal()
        error = self.refused(RESOURCE, "--config", self.config, "--output_dir", "out", "--device", "cuda:1", cwd=self.folder,
                             env=ON_HOST)[0]
        self.assertIn("no GPU 1", error)
        self.assertFalse((self.folder / "out").exists())

    def test_without_the_plug_in_it_says_why_and_auto_goes_on(self):
        error = self.refused(RESOURCE, "--config", self.config, "--output_dir", "out", cwd=self.folder, env=NOWHERE)[0]
        self.assertIn("device: cuda:0 was asked for", error)
        self.assertIn("/nowhere/libphi3tune_cuda.so", error)
        self.assertIn("device: cpu or auto", error)
        done = front.run("--config", self.config, "--output_dir", "out", "--device", "auto", "--max_steps", "1",
                         cwd=self.folder, env=NOWHERE)
        self.assertEqual(done.returncode, front.GOOD, done.stderr)
        self.assertIn("device: cpu, because", done.stderr)


if __name__ == "__main__":
    unittest.main()
