"""export and import of adapters, and inspect on what was exported."""
import json
import unittest

import adapted
import front
import weights

CHECKPOINT = 6
RESOURCE = 4


class Export(adapted.AdaptedTest):
    def export(self, form, out, *words, adapter=None):
        return ("export", "--adapter", adapter or self.adapter, "--format", form, "--out", self.folder / out, *words)

    def test_gguf_can_be_inspected(self):
        self.good(*self.export("gguf", "a.gguf", "--dtype", "float16"))
        value = json.loads(self.good("inspect", self.folder / "a.gguf", "--json"))
        self.assertEqual((value["kind"], value["sound"]), ("GGUF adapter", True))
        self.assertEqual(value["metadata"]["adapter.lora.alpha"], 8.0)
        self.assertEqual(value["dtypes"], {"F16": 16})
        shapes = {tensor["name"]: tensor["shape"] for tensor in value["tensors"]}
        self.assertEqual(shapes["blk.1.attn_qkv.weight.lora_a"], [4, 64])
        self.assertEqual(shapes["blk.1.attn_qkv.weight.lora_b"], [128, 4])
        self.assertIn("GGUF adapter", self.good("inspect", self.folder / "a.gguf"))

    def test_split_and_fused_again_are_the_same_bytes(self):
        self.good(*self.export("peft-split", "split"))
        self.assertIn("q_proj", self.good("inspect", self.folder / "split"))
        self.good(*self.export("peft-fused", "fused", adapter=self.folder / "split"))
        fused = [weights.read_safetensors(self.folder / name / "adapter_model.safetensors") for name in ("adapter", "fused")]
        values = [{name: data[slice(*entry["data_offsets"])] for name, entry in header.items() if name != "__metadata__"}
                  for header, data in fused]
        self.assertEqual(values[0], values[1])

    def test_merged_is_a_model_folder(self):
        self.good(*self.export("merged", "whole"))
        self.assertIn("model folder", self.good("inspect", self.folder / "whole"))

    def test_the_base_is_asked_for_where_the_adapter_names_none(self):
        lost = weights.write_adapter(self.folder / "lost", self.model, base_model_name_or_path="microsoft/Phi-3")
        line = self.refused(front.USAGE, *self.export("gguf", "a.gguf", adapter=lost))[0]
        self.assertIn("--model", line)
        self.good(*self.export("gguf", "a.gguf", "--model", self.model, adapter=lost))

    def test_config_json_alone_is_enough_of_a_base(self):
        for name in ("model.safetensors", "tokenizer.json"):
            (self.model / name).unlink()
        self.good(*self.export("peft-split", "split"))

    def test_refusals_leave_nothing(self):
        self.refused(front.USAGE, *self.export("gguf", "a.gguf", "--dtype", "bfloat16"))
        self.refused(front.USAGE, *self.export("peft-split", "adapter"))
        self.refused(front.USAGE, *self.export("peft-fused", "adapter/inside"))
        named = weights.write_adapter(self.folder / "named", self.model, metadata={"format": "pt", "phi3_tune_base": "0123"})
        self.refused(CHECKPOINT, *self.export("gguf", "a.gguf", adapter=named))
        (named / "adapter_model.safetensors").write_bytes(b"short")
        self.refused(CHECKPOINT, *self.export("peft-fused", "out", adapter=named))
        self.write("file", "")
        self.assertIn("nothing can be written in", self.refused(RESOURCE, *self.export("gguf", "file/a.gguf"))[0])
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["adapter", "file", "model", "named"])
        self.assertEqual(len(list(self.adapter.iterdir())), 2)


class Import(front.FrontTest):
    """A run goes on from a split adapter, and saves a fused one that names its base."""

    def test_training_goes_on_from_a_split_adapter(self):
        model = self.folder / "model"
        self.good("init-model", model, "--shape", "tiny-gqa")
        split = weights.write_adapter(self.folder / "split", model, weights.split_linears, rank=2)
        rows = [{"messages": [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": f"answer {i}"}]}
                for i in range(4)]
        data = self.write("data.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        settings = {"base_model": str(model), "datasets": [{"path": str(data)}], "lora_model_dir": str(split),
                    "output_dir": str(self.folder / "out"), "max_steps": 1, "micro_batch_size": 2, "val_set_size": 0,
                    "save_strategy": "no", "chat_template": "phi_3", "adapter": "lora"}
        config = self.write("run.json", json.dumps(settings))
        done = front.run("--config", config)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("of rank 6", done.stderr)
        adapter = self.folder / "out/adapter"
        value = json.loads(self.good("inspect", adapter, "--json"))
        self.assertEqual(value["modules"], 8)
        base = json.loads(self.good("inspect", model, "--json"))
        self.assertEqual(value["base_fingerprint"], base["fingerprint"])
        # Over another base of the same shape it is refused.
        other = self.folder / "other"
        self.good("init-model", other, "--shape", "tiny-gqa", "--seed", "5")
        again = {**settings, "base_model": str(other), "lora_model_dir": str(adapter), "output_dir": str(self.folder / "two")}
        config = self.write("again.json", json.dumps(again))
        self.assertIn("is another base", self.refused(CHECKPOINT, "--config", config)[0])
        self.assertFalse((self.folder / "two").exists())
        # Unless that is what is wanted; the result is for the base that it was trained over last.
        done = front.run("--config", config, "--lora_any_base", "true")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("is another base", done.stderr)
        last, found = (json.loads(self.good("inspect", path, "--json")) for path in (other, self.folder / "two/adapter"))
        self.assertEqual(found["base_fingerprint"], last["fingerprint"])
        fresh = self.write("fresh.json", json.dumps({**settings, "lora_model_dir": None, "lora_any_base": True}))
        self.assertIn("lora_model_dir", self.refused(front.USAGE, "config", "check", "--config", fresh)[0])


if __name__ == "__main__":
    unittest.main()
