"""LoRA+, noise on the embeddings, chosen layers and modules trained whole: runs that repeat, resume and say what they wrote."""
import json
import shutil
import struct
import unittest

import front

VOCAB_KEYS = ("base_model.model.lm_head.weight", "base_model.model.model.embed_tokens.weight")
METHODS = {"loraplus_lr_ratio": 16, "neftune_noise_alpha": 5, "lora_layers": [1], "lora_modules_to_save": ["embed_tokens", "lm_head"]}


class AdapterMethods(front.FrontTest):
    def setUp(self):
        super().setUp()
        self.good("init-model", self.folder / "model", "--shape", "tiny-gqa", "--seed", 7)
        rows = [{"messages": [{"role": "user", "content": f"What is {i}?"}, {"role": "assistant", "content": f"{i} is a number"}]}
                for i in range(16)]
        self.write("data.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def config(self, out="out", **settings):
        every = {"base_model": "model", "datasets": [{"path": "data.jsonl"}], "val_set_size": 0.2, "sequence_len": 128, "device": "cpu",
                 "micro_batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 4, "learning_rate": 1e-3, "lora_r": 4,
                 "save_steps": 2, "save_best": False, "save_total_limit": 0, "logging_steps": 1,
                 "output_dir": str(self.folder / out), **settings}
        return self.write(out + ".yaml", json.dumps({k: v for k, v in every.items() if v is not None}, indent=1))

    def header(self, out):
        data = (self.folder / out / "adapter/adapter_model.safetensors").read_bytes()
        (size,) = struct.unpack("<Q", data[:8])
        return json.loads(data[8:8 + size])

    def bytes_of(self, out):
        return (self.folder / out / "adapter/adapter_model.safetensors").read_bytes()

    def test_all_of_them_together_resume_to_the_same_bytes_and_take_what_was_planned(self):
        for adapter in ("lora", "qlora"):
            with self.subTest(adapter=adapter):
                whole, cut = f"{adapter}-whole", f"{adapter}-cut"
                for out in (whole, cut):
                    self.good("--config", self.config(out, adapter=adapter, **METHODS))
                self.assertEqual(self.bytes_of(whole), self.bytes_of(cut))
                shutil.rmtree(self.folder / cut / "checkpoints/step-000004")
                shutil.rmtree(self.folder / cut / "adapter")
                record = json.loads((self.folder / cut / "run.json").read_text())
                (self.folder / cut / "run.json").write_text(json.dumps({**record, "status": "failed"}))
                done = front.run("--config", self.config(cut, adapter=adapter, **METHODS))
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("step-000002", done.stderr)
                self.assertEqual(self.bytes_of(whole), self.bytes_of(cut))

                compute = record["compute"]
                self.assertEqual(compute["arena_bytes used"], compute["arena_bytes"])
                names = self.header(whole)
                for key in VOCAB_KEYS:
                    self.assertIn(key, names)
                self.assertFalse([name for name in names if ".layers.0." in name])
                saved = json.loads((self.folder / whole / "adapter/adapter_config.json").read_text())
                self.assertEqual(saved["modules_to_save"], ["embed_tokens", "lm_head"])
                shown = json.loads(self.good("inspect", self.folder / whole / "adapter", "--json"))
                self.assertEqual(shown["modules_to_save"], ["embed_tokens", "lm_head"])

    def test_each_of_them_changes_the_result(self):
        self.good("--config", self.config("plain"))
        plain = self.bytes_of("plain")
        for name, value in METHODS.items():
            with self.subTest(name):
                self.good("--config", self.config(name, **{name: value}))
                self.assertNotEqual(self.bytes_of(name), plain)

    def test_a_run_goes_on_from_an_adapter_with_modules_trained_whole(self):
        self.good("--config", self.config("first", **METHODS))
        self.good("--config", self.config("second", lora_model_dir="first/adapter", lora_r=None))
        metrics = {out: [json.loads(line) for line in (self.folder / out / "metrics.jsonl").read_text().splitlines()]
                   for out in ("first", "second")}
        end = [m for m in metrics["first"] if "eval_loss" in m][-1]["eval_loss"]
        start = [m for m in metrics["second"] if "eval_loss" in m][0]["eval_loss"]
        self.assertEqual(start, end)
        self.assertIn(VOCAB_KEYS[0], self.header("second"))

    def test_layers_that_are_not_there_are_named(self):
        errors = self.refused(front.USAGE, "--config", self.config(lora_layers=[0, 9]))
        self.assertIn("lora_layers: there is no layer 9; this model has the layers 0 to 1", errors[0])
        self.assertFalse((self.folder / "out/adapter").exists())


if __name__ == "__main__":
    unittest.main()
