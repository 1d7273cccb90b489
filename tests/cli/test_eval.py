"""phi3-tune eval on a tiny model: base and adapter side by side, and what it writes."""
import html.parser
import json
import math
import unittest

import front

CHECKPOINT = 6
RESOURCE = 4
NAMES = {"rows.jsonl", "report.md", "report.html"}
OF_TOKENS = ["loss", "perplexity", "token_accuracy"]
OF_ANSWERS = ["exact_match", "f1", "rouge_l", "bleu", "chrf"]


def chat(question, answer):
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


class Page(html.parser.HTMLParser):
    """Every tag that is opened is closed, in order; what stands in <script> or is fetched from elsewhere is none of ours."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        self.text += data


class TinyRun(front.FrontTest):
    def setUp(self):
        super().setUp()
        self.good("init-model", self.folder / "model", "--shape", "tiny-gqa", "--seed", 7)
        self.rows("data.jsonl", [chat(f"What is {i}?", f"{i} is a number.") for i in range(40)])
        self.rows("domain.jsonl", [chat(f"And {i}?", f"{i} is a number.") for i in range(12)])
        self.rows("general.jsonl", [chat("<b>&'\"|``` \x07 ünï\n" + str(i), "a\nb | c") for i in range(6)])

    def rows(self, name, rows):
        self.write(name, "".join(json.dumps(row) + "\n" for row in rows))

    def config(self, **settings):
        every = {"base_model": "model", "datasets": [{"path": "data.jsonl"}],
                 "test_datasets": [{"path": "domain.jsonl"}, {"path": "general.jsonl"}], "sequence_len": 128, "bf16": False,
                 "micro_batch_size": 8, "gradient_accumulation_steps": 1, "max_steps": 12, "learning_rate": 2e-2, "lora_r": 4,
                 "output_dir": str(self.folder / "out")}
        every.update(settings)
        return self.write("run.yaml", json.dumps({k: v for k, v in every.items() if v is not None}))

    def trained(self, **settings):
        config = self.config(**settings)
        self.good("--config", config)
        return config

    def evaluated(self, config, *words):
        return json.loads(self.good("eval", "--config", config, "--json", *words))

    def row_lines(self, out="out/eval"):
        return [json.loads(line) for line in (self.folder / out / "rows.jsonl").read_text().splitlines()]


class Eval(TinyRun):
    def test_losses_are_those_of_the_training_run_and_follow_from_the_rows(self):
        for adapter in ("lora", "qlora"):
            config = self.trained(adapter=adapter, output_dir=str(self.folder / adapter))
            lines = [json.loads(line) for line in (self.folder / adapter / "metrics.jsonl").read_text().splitlines()]
            report = self.evaluated(config, "--samples", 0)
            self.assertEqual([one["set"] for one in report["sets"]], ["domain", "general"])
            for one in report["sets"]:
                before, after = [line for line in lines if line.get("set") == one["set"]]
                found = one["metrics"]
                for side, line in (("base", before), ("adapter", after)):
                    self.assertAlmostEqual(found["loss"][side]["value"], line["eval_loss"], delta=1e-6)
                    self.assertAlmostEqual(found["perplexity"][side]["value"], math.exp(line["eval_loss"]), delta=1e-5 * math.exp(line["eval_loss"]))
                    self.assertEqual(round(found["token_accuracy"][side]["value"] * line["eval_tokens"]),
                                     round(line["eval_token_accuracy"] * line["eval_tokens"]))
                    rows = [row for row in self.row_lines(adapter + "/eval") if row["set"] == one["set"]]
                    tokens = sum(row["trained_tokens"] for row in rows)
                    self.assertEqual(tokens, line["eval_tokens"])
                    mean = sum(row[side]["loss"] * row["trained_tokens"] for row in rows) / tokens
                    self.assertAlmostEqual(found["loss"][side]["value"], mean, places=12)
                difference = found["loss"]["difference"]
                self.assertAlmostEqual(difference["value"], found["loss"]["adapter"]["value"] - found["loss"]["base"]["value"], places=12)
                self.assertLessEqual(difference["low"], difference["value"])
                self.assertLessEqual(difference["value"], difference["high"])
            domain = report["sets"][0]["metrics"]["loss"]
            self.assertLess(domain["adapter"]["value"], domain["base"]["value"])
            self.assertEqual(domain["verdict"], "better")
            self.assertNotIn("f1", report["sets"][0]["metrics"])
            self.assertIn("left out: exact_match, f1, rouge_l, bleu, chrf", " ".join(report["sets"][0]["notes"]))

    def test_answers_are_scored_and_written_side_by_side(self):
        config = self.trained()
        report = self.evaluated(config, "--samples", 5, "--max-new-tokens", 12)
        self.assertEqual({p.name for p in (self.folder / "out/eval").iterdir()}, NAMES)
        rows = self.row_lines()
        self.assertEqual(len(rows), 18)
        for one in report["sets"]:
            self.assertEqual(one["answered"], 5)
            self.assertEqual(sorted(one["metrics"]), sorted(OF_TOKENS + OF_ANSWERS))
            answered = [row for row in rows if row["set"] == one["set"] and "reference" in row]
            self.assertEqual(len(answered), 5)
            for side in ("base", "adapter"):
                for metric in ("exact_match", "f1", "rouge_l"):
                    mean = sum(row[side][metric] for row in answered) / 5
                    self.assertAlmostEqual(one["metrics"][metric][side]["value"], mean, places=12)
        first = next(row for row in rows if "reference" in row)
        self.assertRegex(first["source"], r"domain\.jsonl:\d+$")
        self.assertEqual(first["reference"], f"{first['prompt'][4:-1]} is a number.")
        again = self.evaluated(config, "--samples", 5, "--max-new-tokens", 12)
        self.assertEqual(again, report)
        self.assertEqual(self.row_lines(), rows)
        page = Page((self.folder / "out/eval/report.html").read_text())
        self.assertEqual(page.open, [])
        tags = {tag for tag, _ in page.seen}
        self.assertIn("article", tags)
        self.assertFalse(tags & {"script", "link", "img", "b", "iframe"})
        self.assertIn("<b>&'\"|``` \ufffd ünï\n", page.text)
        text = self.good("eval", "--config", config, "--samples", 2, "--max-new-tokens", 4)
        self.assertIn("| loss", text)
        self.assertIn("domain: 12 rows, 2 of them answered (greedy, at most 4 new tokens)", text)
        self.assertNotIn("\x07", text)
        for table in text.split("\n\n"):
            lines = [line for line in table.splitlines() if line.startswith("|")]
            self.assertEqual(len({len(line) for line in lines}), 1 if lines else 0)

    def test_labels_are_told_from_the_references(self):
        self.rows("labels.jsonl", [chat(f"Is {i} even?", "Yes|true." if i % 2 == 0 else "no") for i in range(16)])
        config = self.trained(test_datasets=[{"path": "labels.jsonl"}, {"path": "domain.jsonl"}])
        labels, domain = self.evaluated(config, "--metrics", "label_accuracy,loss", "--samples", 100, "--max-new-tokens", 3)["sets"]
        self.assertEqual(sorted(labels["metrics"]), ["label_accuracy", "loss"])
        self.assertEqual([one["label"] for one in labels["labels"]], ["no", "yes|true"])
        self.assertEqual([one["wanted"] for one in labels["labels"]], [8, 8])
        for side in ("base", "adapter"):
            right = sum(one[side]["right"] for one in labels["labels"])
            self.assertEqual(labels["metrics"]["label_accuracy"][side]["value"], right / 16)
            self.assertEqual(sum(one[side]["given"] for one in labels["labels"]) + labels["no_label"][side], 16)
        self.assertNotIn("label_accuracy", domain["metrics"])
        self.assertIn("left out: label_accuracy: its references are not a few labels", domain["notes"][0])
        text = self.good("eval", "--config", config, "--metrics", "label_accuracy", "--max-new-tokens", 1)
        self.assertRegex(text, r"(?m)^\| yes\\\|true +\| +8 \|")

    def test_plain_text_has_a_loss_and_says_what_is_left_out(self):
        self.rows("plain.jsonl", [{"text": f"{i} is a number"} for i in range(5)])
        config = self.trained(test_datasets=[{"path": "plain.jsonl"}])
        one, = self.evaluated(config)["sets"]
        self.assertEqual(sorted(one["metrics"]), sorted(OF_TOKENS))
        self.assertIn("plain text", one["notes"][0])
        error, *_ = self.refused(front.INPUT, "eval", "--config", config, "--metrics", "f1")
        self.assertIn("none of the metrics asked for can be taken", error)

    def test_a_report_replaces_its_own_predecessor_alone(self):
        config = self.trained()
        words = ["eval", "--config", config, "--samples", 0]
        self.good(*words)
        self.write("out/eval/notes.txt", "mine")
        error, *_ = self.refused(front.USAGE, *words)
        self.assertIn("notes.txt", error)
        self.good(*words, "--out", self.folder / "elsewhere")
        self.assertEqual({p.name for p in (self.folder / "elsewhere").iterdir()}, NAMES)
        (self.folder / "out/eval/notes.txt").unlink()
        self.good("--config", config, "--overwrite_output_dir", "true", "--seed", 1)  # the report is the run's own
        self.assertFalse((self.folder / "out/eval").exists())

    def test_what_cannot_be_evaluated_is_refused_before_anything_is_written(self):
        config = self.trained()
        error, *_ = self.refused(front.USAGE, "eval", "--config", config, "--metrics", "loss,blue")
        self.assertIn("--metrics: blue is no metric; did you mean bleu?", error)
        error, *_ = self.refused(front.USAGE, "eval", "--config", config, "--eval_metrics", "rouge_k")
        self.assertIn("eval_metrics: rouge_k is no metric; did you mean rouge_l?", error)
        error, *_ = self.refused(CHECKPOINT, "eval", "--config", config, "--adapter", self.folder / "nothing")
        self.assertIn("nothing: there is no adapter", error)
        error, *_ = self.refused(front.USAGE, "eval", "--config", config, "--adapter", "qlora")
        self.assertIn("the setting is --set adapter=qlora", error)
        self.good("init-model", self.folder / "other", "--shape", "tiny-gqa", "--seed", 8)
        error, *_ = self.refused(CHECKPOINT, "eval", "--config", config, "--base_model", self.folder / "other")
        self.assertIn("other", error)
        self.good("eval", "--config", config, "--base_model", self.folder / "other", "--any-base", "--samples", 0, "--out",
                  self.folder / "any")
        file = self.write("file", "")
        error, *_ = self.refused(RESOURCE, "eval", "--config", config, "--out", file / "eval")  # before hours of work
        self.assertIn("nothing can be written in", error)
        no_sets = self.config(test_datasets=None)
        error, *_ = self.refused(front.USAGE, "eval", "--config", no_sets)
        self.assertIn("neither test_datasets nor val_set_size", error)
        self.assertFalse((self.folder / "out/eval").exists())


class Prompts(TinyRun):
    """eval_prompts: answers at each evaluation of a run."""

    def lines(self, out="out"):
        return [json.loads(line) for line in (self.folder / out / "generations.jsonl").read_text().splitlines()]

    def test_answers_at_every_evaluation_leave_the_training_as_it_is(self):
        self.rows("prompts.jsonl", [{"prompt": "What is 3?"}, {"messages": [{"role": "user", "content": "And 4?"}]}])
        settings = {"eval_steps": 4, "save_steps": 4, "save_total_limit": 0}
        self.trained(**settings)
        plain = (self.folder / "out/adapter/adapter_model.safetensors").read_bytes()
        asked = self.trained(**settings, eval_prompts="prompts.jsonl", eval_max_new_tokens=6, output_dir=str(self.folder / "asked"))
        self.assertEqual((self.folder / "asked/adapter/adapter_model.safetensors").read_bytes(), plain)
        lines = self.lines("asked")
        self.assertEqual([line["step"] for line in lines], [0, 0, 4, 4, 8, 8, 12, 12])
        self.assertEqual(lines[0]["prompt"], "What is 3?")
        self.assertEqual(lines[1]["messages"], [{"role": "user", "content": "And 4?"}])
        # The last ones are the adapter's own.
        self.rows("domain.jsonl", [chat("What is 3?", "x"), chat("And 4?", "x")])
        self.evaluated(asked, "--metrics", "f1", "--max-new-tokens", 6, "--out", self.folder / "report")
        answers = {row["prompt"]: row["adapter"]["answer"] for row in self.row_lines("report")}
        self.assertEqual(answers["What is 3?"], lines[-2]["answer"])
        self.assertEqual(answers["And 4?"], lines[-1]["answer"])

    def test_a_resumed_run_has_the_lines_of_an_unbroken_one(self):
        self.rows("prompts.jsonl", [{"prompt": "What is 3?"}])
        settings = {"eval_steps": 4, "save_steps": 4, "lr_scheduler": "constant", "eval_prompts": "prompts.jsonl", "eval_max_new_tokens": 6}
        self.trained(**settings, output_dir=str(self.folder / "whole"))
        self.trained(**settings, max_steps=8)
        with open(self.folder / "out/generations.jsonl", "a") as file:  # what a run left that was killed behind step 8
            file.write('{"step":12,"prompt":"What is 3?","answer":"x"}\n{"step":12,"pro')
        self.trained(**settings)
        self.assertEqual([line["step"] for line in self.lines()], [0, 4, 8, 12])
        self.assertEqual(self.lines(), self.lines("whole"))

    def test_what_is_no_prompt_is_refused_with_its_line(self):
        self.rows("prompts.jsonl", [{"prompt": "What is 3?"}, {"question": "And 4?"}, {"prompt": "long " * 5000}])
        errors = self.refused(front.INPUT, "--config", self.config(eval_prompts="prompts.jsonl"))
        self.assertEqual(len(errors), 2)
        self.assertRegex(errors[0], r'prompts\.jsonl:2: wanted an object with either "prompt"')
        self.assertRegex(errors[1], r"prompts\.jsonl:3: a prompt of \d+ tokens, and the model knows")


if __name__ == "__main__":
    unittest.main()
