"""merge: what it writes, what it refuses, how much memory it takes."""
import json
import os
import shutil
import signal
import subprocess
import time
import unittest

import adapted
import front
import weights

CHECKPOINT = 6
DIVERGED = 5


class Merge(adapted.AdaptedTest):
    def setUp(self):
        super().setUp()
        self.out = self.folder / "merged"

    def merge(self, *words, model=None, adapter=None, out=None):
        return ("merge", "--model", model or self.model, "--adapter", adapter or self.adapter, "--out", out or self.out,
                *words)

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())

    def test_the_result_is_a_model_folder_that_computes_the_same(self):
        value = json.loads(self.good(*self.merge("--verify", "--json")).splitlines()[-1])
        self.assertEqual((value["dtype"], value["shards"], value["merged_modules"]), ("float32", 1, 8))
        self.assertLess(value["max_logit_difference"], 1e-4 * value["max_logit"])
        self.assertGreater(value["max_logit"], 0)
        self.assertIn("model folder", self.good("inspect", self.out))
        self.assertEqual(sorted(p.name for p in self.out.iterdir()), value["files"])
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            self.assertEqual((self.out / name).read_bytes(), (self.model / name).read_bytes())

    def test_shards_of_the_asked_size(self):
        value = json.loads(self.good(*self.merge("--shard-size", "200KB", "--dtype", "bfloat16", "--json")).splitlines()[-1])
        index = json.loads((self.out / "model.safetensors.index.json").read_text())
        self.assertEqual(len(set(index["weight_map"].values())), value["shards"])
        self.assertGreater(value["shards"], 2)
        self.assertEqual(index["metadata"]["total_size"], value["bytes"])

    def test_a_folder_that_is_read_or_there_is_not_written_over(self):
        before = {p.name: p.read_bytes() for p in self.model.iterdir()}
        for out in (self.model, self.adapter, self.model / "merged"):
            self.refused(front.USAGE, *self.merge(out=out))
        self.assertEqual({p.name: p.read_bytes() for p in self.model.iterdir()}, before)
        self.assertEqual(self.names(), ["adapter", "model"])

    def test_another_base_is_refused_by_shape_and_by_fingerprint(self):
        other = self.folder / "other"
        self.good("init-model", other, "--shape", "tiny", "--dtype", "float32")
        self.assertIn("is it the base that the adapter is for?", self.refused(CHECKPOINT, *self.merge(model=other))[0])
        named = weights.write_adapter(self.folder / "named", self.model, metadata={"format": "pt", "phi3_tune_base": "0123"})
        line = self.refused(CHECKPOINT, *self.merge(adapter=named))[0]
        self.assertIn("fingerprint 0123", line)
        self.assertIn(str(self.model), line)
        self.assertEqual(self.names(), ["adapter", "model", "named", "other"])
        self.good(*self.merge("--any-base", adapter=named))

    def test_what_is_wrong_in_every_layer_is_a_few_lines(self):
        deep = self.folder / "deep"
        self.good("init-model", deep, "--shape", "tiny-gqa", "--layers", 6)
        lines = self.refused(CHECKPOINT, *self.merge(adapter=weights.write_adapter(self.folder / "of-deep", deep)))
        self.assertEqual(len(lines), 9)  # 4 layers of 4 modules are too many
        self.assertIn("and 8 more faults", lines[-1])

    def test_a_missing_tensor_is_named(self):
        path = self.adapter / "adapter_model.safetensors"
        header, data = weights.read_safetensors(path)
        names = [name for name in header if name != "__metadata__"]
        gone = names[-1]
        end = header[gone]["data_offsets"][0]
        weights.write_safetensors(path, {name: (header[name]["dtype"], header[name]["shape"],
                                                data[slice(*header[name]["data_offsets"])]) for name in names[:-1]})
        self.assertEqual(path.stat().st_size % 8, 0)
        self.assertGreater(end, 0)
        self.assertIn("lora_A is there, lora_B is missing", self.refused(CHECKPOINT, *self.merge())[0])
        self.assertEqual(self.names(), ["adapter", "model"])

    def test_values_too_large_for_float16_are_refused(self):
        large = weights.write_adapter(self.folder / "large", self.model, scale=1e3)
        line = self.refused(DIVERGED, *self.merge("--dtype", "float16", adapter=large))[0]
        self.assertIn("not finite as F16", line)
        self.assertEqual(self.names(), ["adapter", "large", "model"])

    def test_what_is_merged_from_nf4_is_compared_unless_that_is_switched_off(self):
        for words, compared in (((), False), (("--quantized-base",), True), (("--quantized-base", "--no-verify"), False),
                                (("--verify",), True)):
            with self.subTest(words=words):
                value = json.loads(self.good(*self.merge(*words, "--json")).splitlines()[-1])
                self.assertEqual("max_logit_difference" in value, compared)
                shutil.rmtree(self.folder / "merged")

    def test_a_split_adapter_merges_too(self):
        split = weights.write_adapter(self.folder / "split", self.model, weights.split_linears)
        done = front.run(*self.merge("--verify", "--json", adapter=split))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("of rank 12", done.stderr)
        value = json.loads(done.stdout.splitlines()[-1])
        self.assertLess(value["max_logit_difference"], 1e-4 * value["max_logit"])


class Large(front.FrontTest):
    """424 MiB in shards of 100 MB; a layer is 32 MiB."""

    def setUp(self):
        super().setUp()
        self.model = weights.write_zero_model(self.folder / "model", 1024, 4096, 13, 2000)
        self.adapter = weights.write_adapter(self.folder / "adapter", self.model, rank=1)

    def peak(self, model, adapter, out):
        """Largest resident memory of a merge, in bytes."""
        words = ("merge", "--model", model, "--adapter", adapter, "--out", out, "--shard-size", "100MB")
        child = subprocess.Popen([front.PROGRAM, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(child.returncode, 0)
        return usage.ru_maxrss * 1024

    def test_memory_is_less_than_a_shard_and_a_layer(self):
        small = weights.write_zero_model(self.folder / "small", 64, 64, 1, 100)
        fixed = self.peak(small, weights.write_adapter(self.folder / "of-small", small, rank=1), self.folder / "small-out")
        out = self.folder / "out"
        taken = self.peak(self.model, self.adapter, out) - fixed
        shards = [path for path in out.iterdir() if path.suffix == ".safetensors"]
        self.assertEqual(len(shards), 5)
        self.assertGreater(sum(path.stat().st_size for path in shards), 400e6)
        self.assertLess(taken, 100e6 + 32 * 2**20)

    def test_a_signal_leaves_nothing(self):
        words = ("merge", "--model", self.model, "--adapter", self.adapter, "--out", self.folder / "out", "--shard-size", "100MB")
        child = subprocess.Popen([front.PROGRAM, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        staged = self.folder / ".out.partial"
        limit = time.monotonic() + 60
        while not (staged.is_dir() and any(staged.iterdir())) and child.poll() is None and time.monotonic() < limit:
            time.sleep(0.005)
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 75, said)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["adapter", "model"])


if __name__ == "__main__":
    unittest.main()
