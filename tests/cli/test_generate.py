"""Answers from the command line: text and --json, one prompt and many, and what is refused."""
import json
import os
import signal
import subprocess
import time
import unittest

import front
import weights

CHECKPOINT = 6
INTERRUPTED = 75


class Generate(front.FrontTest):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"
        self.good("init-model", self.model, "--shape", "tiny-gqa", "--seed", 7)

    def words(self, *more, new=6):
        return ("generate", "--model", self.model, "--max-new-tokens", new, *more)

    def prompts(self, *records):
        return self.write("prompts.jsonl", "".join(json.dumps(record) + "\n" for record in records))

    def events(self, *more, new=6):
        return [json.loads(line) for line in self.good(*self.words("--json", *more, new=new)).splitlines()]

    def test_one_prompt_is_answered_on_standard_output_and_its_timing_is_logged(self):
        done = front.run(*self.words("What is a stent?"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(done.stdout.endswith("\n"))
        self.assertRegex(done.stderr, r"prompt tokens, .* a second; 6 new tokens, .* a second|new tokens")
        answer, result = self.events("What is a stent?")
        self.assertEqual(answer["answer"] + "\n", done.stdout)
        self.assertEqual(answer["prompt"], "What is a stent?")
        self.assertEqual(result["event"], "result")
        self.assertEqual(result["new_tokens"], answer["new_tokens"])
        self.assertEqual(result["prompt_tokens"], answer["prompt_tokens"])
        self.assertGreater(result["prompt_tokens_per_second"], 0)
        self.assertEqual(answer["finish"], "length")
        self.assertIn("1 of 1 answers cut at --max-new-tokens 6", done.stderr)

    def test_a_prompt_from_standard_input_is_the_same_prompt(self):
        done = subprocess.run([front.PROGRAM, *map(str, self.words("-"))], input="What is a stent?\n", capture_output=True,
                              text=True, check=True)
        self.assertEqual(done.stdout, self.good(*self.words("What is a stent?")))

    def test_many_prompts_come_in_their_order_whatever_the_batch(self):
        records = [{"prompt": "w" * (1 + 5 * (i % 4))} for i in range(9)]
        records[4] = {"messages": [{"role": "user", "content": "w"}], "id": 4}
        file = self.prompts(*records)
        one = self.events("--prompts", file, "--batch-size", 1)
        three = self.events("--prompts", file, "--batch-size", 3)
        self.assertEqual([e.get("index") for e in one], [*range(9), None])
        self.assertEqual([e["tokens"] for e in one[:-1]], [e["tokens"] for e in three[:-1]])
        self.assertEqual(one[0]["tokens"], one[4]["tokens"], "a prompt is the user's message")
        self.assertEqual(one[4]["messages"], records[4]["messages"])
        self.assertTrue(one[3]["place"].endswith("prompts.jsonl:4"))
        text = self.good(*self.words("--prompts", file, "--batch-size", 3))
        self.assertEqual(text, "\n".join(f"--- {e['place']}\n{e['answer']}\n" for e in one[:-1]))

    def test_log_probabilities_are_of_the_tokens_and_the_stop_id(self):
        answer = self.events("--log-probabilities", "hello")[0]
        self.assertEqual(len(answer["log_probabilities"]), answer["new_tokens"])
        self.assertTrue(all(p <= 0 for p in answer["log_probabilities"]))

    def test_sampling_repeats_with_its_seed_and_not_with_another(self):
        sampled = [self.events("--temperature", 1.5, "--seed", seed, "hello", new=16)[0]["tokens"] for seed in (1, 1, 2)]
        self.assertEqual(sampled[0], sampled[1])
        self.assertNotEqual(sampled[0], sampled[2])

    def test_a_system_message_and_raw_text_change_the_prompt(self):
        plain, system, raw = (self.events(*more, "hello")[0]["prompt_tokens"] for more in ((), ("--system", "Be brief."), ("--raw",)))
        self.assertGreater(system, plain)
        self.assertLess(raw, plain)

    def test_an_adapter_of_a_run_changes_the_answer(self):
        self.write("data.jsonl", "".join(json.dumps({"messages": [{"role": "user", "content": f"What is {i}?"}, {"role": "assistant", "content": "a number"}]}) + "\n"
                                         for i in range(8)))
        settings = self.write("run.yaml", json.dumps({"base_model": "model", "datasets": [{"path": "data.jsonl"}], "sequence_len": 128, "max_steps": 4,
                                                      "learning_rate": 5e-2, "lora_r": 4, "output_dir": "out"}))
        self.good("--config", settings, cwd=self.folder)
        for adapter in ("out/adapter", "out/checkpoints/step-000004"):
            self.assertNotEqual(self.events("hello")[0]["tokens"], self.events("--adapter", self.folder / adapter, "hello")[0]["tokens"])
        other = self.folder / "other"
        self.good("init-model", other, "--shape", "tiny", "--seed", 7)
        error, = self.refused(CHECKPOINT, "generate", "--model", other, "--adapter", self.folder / "out/adapter", "hello")[:1]
        self.assertIn("out/adapter", error)

    def test_bad_prompts_are_all_named_before_weights_are_read(self):
        file = self.write("prompts.jsonl", '{"prompt": "good"}\n{"prompt": 3}\n{"text": "no"}\n{"prompt": "a", "prompt": "b"}\n{"prompt": \n'
                          '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n{"messages": [{"role": "robot", "content": "q"}]}\n'
                          + json.dumps({"prompt": "long " * 6000}) + "\n")
        errors = self.refused(front.INPUT, *self.words("--prompts", file))
        self.assertEqual([int(error.split("prompts.jsonl:")[1].split(":")[0]) for error in errors], [2, 3, 4, 5, 6, 7, 8])
        self.assertIn("positions", errors[-1])

    def test_what_cannot_be_is_refused_with_one_line(self):
        for code, words, says in ((front.USAGE, ("--raw", "--system", "x", "hi"), "--system and --raw"),
                                  (front.INPUT, ("--prompts", self.folder / "none.jsonl"), "none.jsonl"),
                                  (front.INPUT, ("--prompts", self.write("empty.jsonl", "\n")), "empty.jsonl"),
                                  (front.USAGE, ("--chat-template", "phi9", "hi"), "phi9"),
                                  (front.USAGE, ("hi", "there"), "stands in quotes"),
                                  (CHECKPOINT, ("--adapter", self.folder, "hi"), "adapter_config.json")):
            with self.subTest(words=words):
                error, = self.refused(code, *self.words(*words))
                self.assertIn(says, error)

    def test_a_folder_that_is_another_says_what_it_is(self):
        bare = front.SOURCE / "tests/references"
        for code, words, says in ((front.INPUT, ("--model", "microsoft/Phi-3-mini-4k-instruct", "hi"), "names of models on a hub are not fetched"),
                                  (front.INPUT, ("--model", self.folder / "none", "hi"), "none is no folder"),
                                  (CHECKPOINT, ("--model", self.model, "--adapter", self.folder / "none", "hi"), "none is no folder"),
                                  (CHECKPOINT, ("--model", self.model, "--adapter", bare, "hi"), "references holds no adapter_config.json")):
            with self.subTest(words=words):
                error, = self.refused(code, "generate", *words)
                self.assertIn(says, error)
        adapter = self.folder / "run/adapter"
        adapter.mkdir(parents=True)
        (adapter / "adapter_config.json").write_text("{}")
        error, = self.refused(CHECKPOINT, "generate", "--model", self.model, "--adapter", self.folder / "run", "hi")
        self.assertIn(f"whose adapter is {adapter}", error)
        error, = self.refused(front.INPUT, "generate", "--model", adapter, "hi")
        self.assertIn("is the folder of an adapter", error)

    def test_a_folder_without_a_template_says_what_to_do(self):
        settings = json.loads((self.model / "tokenizer_config.json").read_text())
        settings.pop("chat_template", None)
        (self.model / "tokenizer_config.json").write_text(json.dumps(settings))
        (self.model / "chat_template.jinja").unlink(missing_ok=True)
        error, = self.refused(front.INPUT, *self.words("hello"))
        self.assertIn("--chat-template", error)
        self.assertIn("--raw", error)
        self.good(*self.words("--raw", "hello"))
        self.good(*self.words("--chat-template", "phi_3", "hello"))

    def test_a_vocabulary_that_the_weights_do_not_have_is_refused(self):
        small = self.folder / "small"
        self.good("init-model", small, "--shape", "tiny", "--tokenizer", front.SOURCE / "tests/references/tokenizers/spm_like")
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (small / name).write_bytes((self.model / name).read_bytes())
        (small / "tokenizer.model").unlink(missing_ok=True)
        words = ("generate", "--model", small, "hello")
        one, two = (json.loads((folder / "config.json").read_text())["vocab_size"] for folder in (small, self.model))
        self.assertLess(one, two, "another tokenizer is wanted for this test")
        error, = self.refused(front.INPUT, *words)
        self.assertIn("vocab_size", error)

    def test_an_adapter_with_another_vocabulary_is_taken_with_a_warning(self):
        adapter = weights.write_adapter(self.folder / "adapter", self.model)
        words = self.words("--adapter", adapter, "--raw", "hello")
        self.assertNotIn("warning", front.run(*words).stderr)
        for path in (front.SOURCE / "tests/references/tokenizers/spm_like").glob("tokenizer*"):
            (adapter / path.name).write_bytes(path.read_bytes())
        done = front.run(*words)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, r"warning: tokenizer: the adapter's is used, whose ids go up to \d+; those of .*model go up to")

    def test_a_signal_prints_the_answer_so_far(self):
        process = subprocess.Popen([front.PROGRAM, *map(str, self.words("hello", new=4000))], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, env=dict(os.environ, OMP_WAIT_POLICY="passive"))
        first = process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, INTERRUPTED, errors)
        self.assertTrue((first + rest).endswith("\n"))
        self.assertGreater(len(first + rest), 1)


if __name__ == "__main__":
    unittest.main()
