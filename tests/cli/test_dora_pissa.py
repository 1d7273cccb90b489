"""DoRA and PiSSA as a user runs them: what is written, that a run goes on to the same bytes, and what is refused."""
import json
import struct
import unittest

import front
import test_resume


class Methods(test_resume.Resume):
    def config(self, name="run.yaml", **settings):
        return super().config(name, **{"bf16": False, "val_set_size": 0.1, **settings})

    def header(self, out):
        data = self.tensors(out)
        (size,) = struct.unpack("<Q", data[:8])
        return json.loads(data[8:8 + size])

    def adapter_config(self, out):
        return json.loads((self.folder / out / "adapter/adapter_config.json").read_text())

    def goes_on_exactly(self, **settings):
        self.train(output_dir=str(self.folder / "whole"), save_steps=2, save_best=False, save_total_limit=0, **settings)
        self.half(**settings)
        done = self.again(**settings)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("step-000004", done.stderr)
        self.assertEqual(self.files("out"), self.files("whole"))
        self.assertEqual(self.losses("out"), self.losses("whole"))
        steps = [m["loss"] for m in self.metrics("whole") if "loss" in m]
        self.assertLess(steps[-1], steps[0])
        taken = self.record("whole")["compute"]
        self.assertEqual(taken["arena_bytes used"], taken["arena_bytes"])

    def test_dora_goes_on_to_the_same_bytes(self):
        self.goes_on_exactly(use_dora=True)
        self.assertTrue(self.adapter_config("whole")["use_dora"])
        names = [name for name in self.header("whole") if name.endswith(".lora_magnitude_vector")]
        self.assertEqual(len(names), len([n for n in self.header("whole") if n.endswith(".lora_A.weight")]))
        self.assertIn("DoRA", (self.folder / "whole/adapter/README.md").read_text())
        # The result is the start of another run, without its shape being said again.
        report = self.train(output_dir=str(self.folder / "more"), lora_r=None, lora_model_dir=str(self.folder / "whole/adapter"),
                            eval_on_start=True)
        self.assertTrue(self.adapter_config("more")["use_dora"])
        first = [m["eval_loss"] for m in self.metrics("more") if "eval_loss" in m][0]
        last = [m["eval_loss"] for m in self.metrics("whole") if "eval_loss" in m][-1]
        self.assertAlmostEqual(first, last, places=5, msg=report)
        # So it is with q, k, v, gate and up apart, as other engines hold them.
        self.good("export", "--adapter", self.folder / "whole/adapter", "--format", "peft-split", "--out", self.folder / "split")
        self.train(output_dir=str(self.folder / "apart"), lora_r=None, lora_model_dir=str(self.folder / "split"), eval_on_start=True)
        self.assertTrue(self.adapter_config("apart")["use_dora"])
        self.assertEqual([m["eval_loss"] for m in self.metrics("apart") if "eval_loss" in m][0], first)
        self.assertEqual((self.folder / "apart/adapter/adapter_model.safetensors").read_bytes(),
                         (self.folder / "more/adapter/adapter_model.safetensors").read_bytes())

    def test_dora_over_four_bits_repeats(self):
        self.goes_on_exactly(use_dora=True, adapter="qlora", lora_target_modules=["qkv_proj", "down_proj"],
                             gradient_checkpointing="block")

    def test_dora_on_a_gpu_is_refused_before_anything_is_loaded(self):
        errors = self.refused(front.USAGE, "plan", "-c", self.config(use_dora=True), "--gpu", "h100")
        self.assertTrue(any("use_dora: DoRA adapters train on the CPU yet" in e for e in errors), errors)

    def test_pissa_goes_on_to_the_same_bytes_and_is_a_lora_of_the_base_as_it_was(self):
        self.goes_on_exactly(lora_init="pissa_niter_4", lora_r=2, lora_alpha=4, lora_dropout=0)
        config = self.adapter_config("whole")
        self.assertEqual((config["r"], config["lora_alpha"], config["init_lora_weights"]), (4, 8, True))
        self.assertTrue(all(info["shape"][0] == 4 for n, info in self.header("whole").items() if n.endswith("lora_A.weight")))
        # A plain adapter on the base as it was: its first evaluation is the last one of the run that made it.
        self.train(output_dir=str(self.folder / "more"), lora_r=None, lora_model_dir=str(self.folder / "whole/adapter"),
                   eval_on_start=True)
        first = [m["eval_loss"] for m in self.metrics("more") if "eval_loss" in m][0]
        last = [m["eval_loss"] for m in self.metrics("whole") if "eval_loss" in m][-1]
        self.assertAlmostEqual(first, last, places=5)

    def test_pissa_under_four_bits_and_dora_goes_on_exactly(self):
        self.goes_on_exactly(lora_init="pissa", use_dora=True, adapter="qlora", lora_rank_pattern={"o_proj": 2}, use_rslora=True)

    def test_a_rank_above_what_a_linear_has_is_refused(self):
        errors = self.refused(front.USAGE, "--config", self.config(lora_init="pissa", lora_r=4096))
        self.assertTrue(any("singular values, found a rank of 4096" in e for e in errors), errors)


def load_tests(loader, tests, pattern):
    """Only the tests of this file, not the parent's again."""
    own = [name for name in vars(Methods) if name.startswith("test_")]
    return unittest.TestSuite(Methods(name) for name in own)


if __name__ == "__main__":
    unittest.main()
