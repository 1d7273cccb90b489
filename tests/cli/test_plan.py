"""plan: memory, arithmetic and what fits, from the settings and config.json alone."""
import json
import pathlib
import unittest

import front

RESOURCE = 4
GIB = 1 << 30

# What microsoft/Phi-3-mini-4k-instruct and microsoft/Phi-3-medium-4k-instruct publish, as far as shapes go.
MINI = {
    "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "hidden_act": "silu", "hidden_size": 3072,
    "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
    "vocab_size": 32064, "max_position_embeddings": 4096, "original_max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "rope_scaling": None, "sliding_window": 2047,
    "tie_word_embeddings": False, "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 32000,
    "pad_token_id": 32000, "torch_dtype": "bfloat16",
}
MEDIUM = {**MINI, "hidden_size": 5120, "intermediate_size": 17920, "num_hidden_layers": 40, "num_attention_heads": 40,
          "num_key_value_heads": 10}

LIBRARIES = ("attention_library", "cublaslt_workspace", "cuda_context")


class Plan(front.FrontTest):
    def setUp(self):
        super().setUp()
        self.write("mini/config.json", json.dumps(MINI))
        self.write("medium/config.json", json.dumps(MEDIUM))
        self.config = self.write("run.yaml", "base_model: mini\ndatasets: [none.jsonl]\noutput_dir: out\nadapter: qlora\n"
                                             "sample_packing: true\nmicro_batch_size: 1\n")

    def plan(self, *words):
        return json.loads(self.good("plan", "--config", self.config, "--json", *words))

    def test_memory_is_that_of_the_arithmetic(self):
        # GiB of base, adapter, its state and activations at rank 16, worked out by hand and rounded to a tenth, without
        # what libraries take.
        for model, adapter, saved, tokens, wanted in (
                ("mini", "qlora", "block", 512, 3.0), ("mini", "qlora", "block", 2048, 3.5),
                ("mini", "qlora", "block", 4096, 4.1), ("mini", "qlora", "gate_up", 4096, 7.9),
                ("mini", "qlora", "gate_up", 16384, 23.1), ("mini", "qlora", "none", 8192, 21.0),
                ("mini", "lora", "none", 16384, 43.9), ("medium", "qlora", "block", 4096, 11.3),
                ("medium", "qlora", "block", 8192, 13.8), ("medium", "lora", "gate_up", 16384, 59.0)):
            with self.subTest(model=model, adapter=adapter, saved=saved, tokens=tokens):
                length = min(tokens, 2048)
                plan = self.plan("--base_model", self.folder / model, "--adapter", adapter, "--gradient_checkpointing", saved,
                                 "--sequence_len", length, "--micro_batch_size", tokens // length)
                memory = plan["memory"]
                own = memory["total"] - sum(memory[name] for name in LIBRARIES)
                self.assertAlmostEqual(own / GIB, wanted, delta=0.03 * wanted + 0.05)
                self.assertEqual(plan["tokens_per_micro_batch"], tokens)
                self.assertEqual(plan["gradient_checkpointing"], saved)
                parts = [value for name, value in memory.items() if name not in ("total", "host", "mapped")]
                self.assertEqual(sum(parts), memory["total"])

    def test_arithmetic_is_that_of_the_formulas(self):
        cases = json.loads((front.SOURCE / "tests/references/plan/arithmetic.json").read_text())["cases"]
        done = 0
        for case in cases:
            if case["window"] is not None and case["model"] == "mini" and case["length"] != 4096:
                continue
            if case["window"] is None and (case["model"], case["length"]) != ("mini", 2048):
                continue
            self.write("mini/config.json", json.dumps({**MINI, "sliding_window": case["window"]}))
            plan = self.plan("--sequence_len", case["length"], "--gradient_checkpointing", "block")
            flops = plan["flops_per_token"]
            # A row's last token predicts nothing: of the head, one row in 2048 or 4096 less than the formulas count.
            for name in ("forward", "backward"):
                self.assertAlmostEqual(flops[name]["total"] / sum(case[name].values()), 1, delta=2e-5)
            self.assertAlmostEqual(flops["recompute"]["total"] / case["recompute"]["block"], 1, delta=1e-9)
            self.assertAlmostEqual(plan["flops_per_step"] / (flops["total"] * 8 * case["length"]), 1, delta=1e-9)
            done += 1
        self.assertEqual(done, 2)

    def test_a_run_that_fits_ends_well(self):
        plan = self.plan("--device-memory", "8GiB")
        self.assertIs(plan["fits"], True)
        self.assertEqual(plan["limit"], 8 * GIB)
        self.assertLessEqual(plan["memory"]["total"], 8 * GIB)
        self.assertEqual(plan["would_fit"], [])
        self.assertIn("fits into 8.0 GiB (--device-memory)", self.good("plan", "-c", self.config, "--device-memory", "8 GiB"))
        self.assertIsNone(self.plan()["fits"])

    def test_auto_takes_what_the_memory_allows(self):
        self.assertEqual(self.plan("--device-memory", "40GiB")["gradient_checkpointing"], "none")
        mixed = self.plan("--device-memory", "6GiB")
        self.assertRegex(mixed["gradient_checkpointing"], r"^\w+ in layers? 0.*, \w+ in layers? .*31$")
        self.assertLessEqual(mixed["memory"]["total"], 6 * GIB)
        self.assertGreater(mixed["memory"]["total"], 5.8 * GIB)

    def test_a_run_that_does_not_fit_says_what_would(self):
        words = ("plan", "--config", self.config, "--device-memory", "5GiB", "--micro_batch_size", "4",
                 "--gradient_checkpointing", "none")
        done = front.run(*words)
        self.assertEqual(done.returncode, RESOURCE, done.stderr)
        self.assertIn("does not fit into 5.0 GiB", done.stdout)
        error = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        self.assertEqual(len(error), 1)
        self.assertRegex(error[0], r"the run needs 2\d\.\d GiB and --device-memory gives 5\.0 GiB; it fits with ")
        done = front.run(*words, "--json")
        self.assertEqual(done.returncode, RESOURCE)
        plan = json.loads(done.stdout)
        self.assertIs(plan["fits"], False)
        self.assertTrue(plan["would_fit"][-1]["fits"])
        # What it says is true: the run with these changes fits.
        changes = plan["would_fit"] if plan["would_fit_together"] else plan["would_fit"][:1]
        settings = [word for change in changes for setting in change["change"].split(" and ")
                    for word in ("--" + setting.split(": ")[0], setting.split(": ")[1])]
        changed = self.plan("--device-memory", "5GiB", "--micro_batch_size", "4", "--gradient_checkpointing", "none", *settings)
        self.assertIs(changed["fits"], True)
        self.assertEqual(changed["memory"]["total"], changes[-1]["memory"])

    def test_nothing_fits_into_too_little(self):
        done = front.run("plan", "-c", self.config, "--device-memory", "1GiB")
        self.assertEqual(done.returncode, RESOURCE)
        self.assertIn("no setting makes it fit", done.stderr)

    def test_the_limit_of_the_settings_counts_too(self):
        plan = self.plan("--gpu_memory_limit", "6GiB", "--device-memory", "8GiB")
        self.assertEqual(plan["limit"], 6 * GIB)
        done = front.run("plan", "-c", self.config, "--gpu_memory_limit", "2GiB", "--device-memory", "8GiB")
        self.assertEqual(done.returncode, RESOURCE)
        self.assertIn("gpu_memory_limit gives 2.0 GiB", done.stderr)

    def test_policies_go_from_fast_to_small(self):
        plan = self.plan("--gpu", "h100", "--micro_batch_size", "4")
        rows = plan["policies"]
        self.assertEqual([row["name"] for row in rows], ["none", "gate_up", "attention", "block", "offload"])
        for before, after in zip(rows, rows[1:]):
            self.assertGreater(before["memory"], after["memory"])
            self.assertGreaterEqual(before["tokens_per_second"], after["tokens_per_second"])
            self.assertLess(before["largest_micro_batch"], after["largest_micro_batch"])
            self.assertLessEqual(before["recompute_flops_per_token"], after["recompute_flops_per_token"])
        self.assertGreater(rows[-1]["host"], 0)
        largest = rows[0]["largest_micro_batch"]
        words = ("--gpu", "h100", "--gradient_checkpointing", "none", "--micro_batch_size")
        self.assertIs(self.plan(*words, largest)["fits"], True)
        self.assertEqual(front.run("plan", "-c", self.config, *words, largest + 1).returncode, RESOURCE)

    def test_micro_batches_of_the_plans_choice_keep_the_step(self):
        plan = self.plan("--gpu", "4090", "--micro_batch_size", "auto", "--global_batch_size", "16")
        self.assertEqual(plan["micro_batch_size"] * plan["micro_batches"], 16)
        self.assertGreater(plan["micro_batch_size"], 1)
        self.assertIs(plan["fits"], True)

    def test_time_is_computed_and_says_so(self):
        text = self.good("plan", "-c", self.config, "--gpu", "h200", "--micro_batch_size", "8")
        self.assertIn("NVIDIA H200 SXM (computed, never measured)", text)
        self.assertIn("720 of 989 TFLOP/s", text)
        rates = {}
        for gpu in ("h200", "h100", "a100", "l40s", "4090"):
            # By 4096 tokens a pass, which fit everywhere.
            time = self.plan("--gpu", gpu, "--micro_batch_size", "2")["time"]
            self.assertIs(time["computed"], True)
            self.assertAlmostEqual(sum(time["parts"].values()), time["seconds_per_step"], delta=1e-12)
            self.assertAlmostEqual(time["tokens_per_second"] * time["seconds_per_step"], 8 * 4096, delta=1e-6)
            rates[gpu] = time["tokens_per_second"]
        # More of everything on the data sheet is faster; the A100 has more bandwidth, the L40S more arithmetic.
        for slower, faster in (("h100", "h200"), ("a100", "h100"), ("l40s", "h100"), ("4090", "a100"), ("4090", "l40s")):
            self.assertLess(rates[slower], rates[faster])
        self.assertIsNone(self.plan("--device-memory", "80GiB")["time"])
        self.assertIsNone(self.plan("--gpu", "h200", "--bf16", "false")["time"])

    def test_the_processor_has_a_plan_too(self):
        plan = self.plan("--device", "cpu", "--bf16", "true", "--device-memory", "16GiB")
        self.assertEqual(plan["device"], "cpu")
        memory = plan["memory"]
        self.assertAlmostEqual(memory["weights"] / GIB, 1.741, delta=0.001)
        # Embedding and head in bf16 and 65 norms are used where the file is mapped.
        self.assertEqual(memory["mapped"], 2 * (2 * 32064 * 3072 + 65 * 3072))
        self.assertNotIn("cuda_context", memory)
        self.assertNotIn("offload", [row["name"] for row in plan["policies"]])
        self.assertGreater(self.plan("--device", "cpu", "--bf16", "false")["memory"]["weights"], memory["weights"])

    def test_wrong_words_are_refused(self):
        self.assertIn("v100", self.refused(front.USAGE, "plan", "-c", self.config, "--gpu", "v100")[0])
        self.assertIn('--device-memory: found "8 bananas"',
                      self.refused(front.USAGE, "plan", "-c", self.config, "--device-memory", "8 bananas")[0])
        self.assertIn("device: cpu", self.refused(front.USAGE, "plan", "-c", self.config, "--gpu", "h200", "--device", "cpu")[0])
        self.assertIn("base_model is missing", self.refused(front.USAGE, "plan", "--device-memory", "8GiB")[0])
        self.assertIn("nowhere is no folder",
                      self.refused(front.INPUT, "plan", "-c", self.config, "--base_model", "nowhere")[0])
        self.assertIn("did you mean --device-memory?",
                      self.refused(front.USAGE, "plan", "-c", self.config, "--device-memry", "8GiB")[0])

    def test_neither_weights_nor_data_are_needed(self):
        self.assertEqual(sorted(path.name for path in (self.folder / "mini").iterdir()), ["config.json"])
        self.assertIn("data are not read", self.good("plan", "-c", self.config))

    def test_a_run_takes_what_is_planned(self):
        if not (pathlib.Path(front.PROGRAM).parent / "libphi3tune_engine.so").exists():
            self.skipTest("built without the engine")
        self.good("init-model", self.folder / "tiny", "--shape", "tiny-gqa", "--tokenizer", front.SOURCE / "data/tokenizer-small")
        self.write("none.jsonl", "".join(json.dumps({"text": f"Ticket {i}: " + "word " * (i % 60)}) + "\n" for i in range(300)))
        words = ("--base_model", self.folder / "tiny", "--chat_template", "phi_3", "--sequence_len", "256",
                 "--micro_batch_size", "2", "--gradient_accumulation_steps", "2", "--max_steps", "1", "--device", "cpu", "--bf16", "false",
                 "--gradient_checkpointing", "attention")
        self.good("--config", self.config, *words, cwd=self.folder)
        planned = self.plan(*words)["memory"]
        taken = json.loads((self.folder / "out/run.json").read_text())["compute"]
        for part in ("dequantisation scratch", "adapter and gradients", "optimizer moments"):
            self.assertEqual(int(taken["arena_bytes: " + part]), planned[part.replace(" ", "_")], part)
        # Rows of real data are not quite full.
        self.assertAlmostEqual(planned["activations"] / int(taken["arena_bytes: activations"]), 1, delta=0.02)

    def test_a_run_takes_the_micro_batch_of_the_plan(self):
        if not (pathlib.Path(front.PROGRAM).parent / "libphi3tune_engine.so").exists():
            self.skipTest("built without the engine")
        self.good("init-model", self.folder / "tiny", "--shape", "tiny-gqa", "--tokenizer", front.SOURCE / "data/tokenizer-small")
        self.write("none.jsonl", "".join(json.dumps({"text": f"Ticket {i}: " + "word " * 30}) + "\n" for i in range(40)))
        self.good("-c", self.config, "--base_model", self.folder / "tiny", "--chat_template", "phi_3", "--sequence_len", "128",
                  "--sample_packing", "false", "--micro_batch_size", "auto", "--gradient_accumulation_steps", "8", "--max_steps", "2",
                  "--device", "cpu", cwd=self.folder)
        settings = json.loads((self.folder / "out/run.json").read_text())["settings"]
        self.assertIsInstance(settings["micro_batch_size"], int)
        self.assertEqual(settings["micro_batch_size"] * settings["gradient_accumulation_steps"], 8)

    def test_at_full_width_a_run_takes_what_is_planned_to_the_byte(self):
        if not (pathlib.Path(front.PROGRAM).parent / "libphi3tune_engine.so").exists():
            self.skipTest("built without the engine")
        length = 64
        self.write("rows.jsonl", "".join(json.dumps({"text": f"Row {i}: " + "some words again " * length}) + "\n" for i in range(2)))
        runs = 0
        for shape in ("phi-3-mini-4k", "phi-3-medium-4k"):
            base = self.folder / shape
            self.good("init-model", base, "--shape", shape, "--layers", "2", "--tokenizer",
                      front.SOURCE / "data/tokenizer-small", timeout=300)
            for adapter in ("lora", "qlora"):
                for saved in ("none", "attention", "offload"):
                    with self.subTest(shape=shape, adapter=adapter, saved=saved):
                        out = self.folder / f"out-{shape}-{adapter}-{saved}"
                        words = ("--config", self.config, "--base_model", base, "--datasets", "[rows.jsonl]", "--chat_template",
                                 "phi_3", "--adapter", adapter, "--sequence_len", length, "--excess_length_strategy",
                                 "truncate_end", "--gradient_accumulation_steps", "1", "--max_steps", "1", "--device", "cpu",
                                 "--bf16", "true", "--gradient_checkpointing", saved, "--output_dir", out)
                        self.good(*words, cwd=self.folder, timeout=300)
                        taken = json.loads((out / "run.json").read_text())["compute"]
                        self.assertEqual(taken["arena_bytes used"], taken["arena_bytes"])
                        planned = self.plan(*words[2:])["memory"]
                        names = [name for name in taken if name.startswith("arena_bytes: ")]
                        self.assertEqual(len(names), 6)
                        for name in names:
                            part = name.removeprefix("arena_bytes: ").replace(" ", "_")
                            if part != "weights":  # the CPU's are not in the arena
                                self.assertEqual(int(taken[name]), planned.get(part, 0), part)
                        runs += 1
        self.assertEqual(runs, 12)

    def test_adapters_make_it_larger(self):
        small, large = self.plan("--lora_r", "16"), self.plan("--lora_r", "64", "--lora_target_modules", "qkv_proj")
        self.assertEqual(small["adapter_parameters"], 25165824)
        self.assertEqual(large["adapter_parameters"], 32 * 64 * (3072 + 9216))


if __name__ == "__main__":
    unittest.main()
