"""config check, show, schema, explain; settings from files, environment and command line."""
import json
import os
import re
import shutil
import subprocess
import unittest

import front

REQUIRED = "base_model: base\ndatasets: [train.jsonl]\noutput_dir: out\n"
BAD = front.SOURCE / "tests/unit/config/bad"
BAD_FILES = 82


class Config(front.FrontTest):
    def test_show_prints_values_and_where_they_come_from(self):
        path = self.write("run.yaml", REQUIRED + "lora_rank: 8\nseed: 1\n")
        text = self.good("config", "show", "--config", path, "--learning_rate", "1e-4", "--set", "max_steps=5",
                         env={"PHI3_TUNE__SEED": "2"})
        self.assertRegex(text, rf"(?m)^lora_r: 8 +# {re.escape(str(path))}:4:1$")
        self.assertRegex(text, r"(?m)^learning_rate: 0.0001 +# command line$")
        self.assertRegex(text, r"(?m)^max_steps: 5 +# command line$")
        self.assertRegex(text, r"(?m)^seed: 2 +# environment PHI3_TUNE__SEED$")
        self.assertRegex(text, r"(?m)^lora_alpha: 32.0$")

    def test_show_reads_back(self):
        path = self.write("run.yaml", REQUIRED + "adapter: qlora\n")
        again = self.write("again.yaml", self.good("config", "show", "-c", path))
        self.assertEqual(json.loads(self.good("config", "show", "-c", again, "--json")),
                         json.loads(self.good("--json", "config", "show", "-c", path)))

    def test_settings_are_options_in_every_spelling(self):
        path = self.write("run.yaml", REQUIRED)
        for words in (["--lora_r", "4"], ["--lora-r", "4"], ["--lora_r=4"], ["--lora_rank=4"], ["--set", "lora_r=4"]):
            self.assertEqual(json.loads(self.good("config", "show", "--json", "-c", path, *words))["lora_r"], 4, words)
        shown = json.loads(self.good("config", "show", "--json", "--overwrite_output_dir", "-c", path, "--max_steps", "-1",
                                     "--run_name", "env"))
        self.assertIs(shown["overwrite_output_dir"], True)
        self.assertIsNone(shown["max_steps"])
        self.assertEqual(shown["run_name"], "env")

    def test_later_files_win(self):
        first = self.write("a.yaml", REQUIRED + "lora_r: 1\n")
        second = self.write("b.yaml", "lora_r: 2\n")
        self.assertEqual(json.loads(self.good("config", "show", "--json", "-c", first, "-c", second))["lora_r"], 2)
        self.assertEqual(json.loads(self.good("config", "show", "--json", "-c", second, "-c", first))["lora_r"], 1)

    def test_bad_settings_exit_2_before_anything_else(self):
        files = sorted(BAD.glob("*.yaml"))
        self.assertEqual(len(files), BAD_FILES)
        for path in files:
            with self.subTest(file=path.name):
                expected = path.read_text().count("# expect ")
                for command in (["config", "check", "--config"], ["--config"]):
                    lines = self.refused(front.USAGE, *command, path)
                    self.assertEqual(len(lines), expected, lines)
                    self.assertTrue(all(line.startswith(f"error: {path}") for line in lines), lines)

    def test_faults_of_files_and_command_line_come_together(self):
        path = self.write("run.yaml", REQUIRED + "lora_rnak: 4\n")
        lines = self.refused(front.USAGE, "--config", path, "--sequence_length", "4", "--seed", "x")
        self.assertEqual(lines, [
            f"error: {path}:4:1: lora_rnak is not a setting; did you mean lora_r?",
            "error: command line: sequence_length is not a setting; did you mean sequence_len?",
            'error: command line: seed: found "x"; wanted an integer >= 0 and <= 9223372036854775807'])

    def test_check_looks_at_the_inputs(self):
        path = self.write("run.yaml", REQUIRED)
        self.assertIn("base_model: ", self.refused(front.INPUT, "config", "check", "-c", path)[0])
        line = self.refused(front.INPUT, "config", "check", "-c", path, "--base_model", "microsoft/phi")[0]
        self.assertIn("download the folder first", line)
        self.good("init-model", self.folder / "base", "--shape", "tiny", "--tokenizer",
                  front.SOURCE / "data/tokenizer-small")
        self.assertIn("train.jsonl", self.refused(front.INPUT, "config", "check", "-c", path)[0])
        self.write("train.jsonl", '{"text": "x"}\n')
        self.assertIn("good: ", self.good("config", "check", "-c", path))
        self.assertIs(json.loads(self.good("config", "check", "-c", path, "--json"))["good"], True)
        line = self.refused(6, "config", "check", "-c", path, "--lora_model_dir", "nowhere")[0]
        self.assertIn("lora_model_dir: nowhere is no folder", line)

    def test_check_says_its_faults_in_json_too(self):
        path = self.write("run.yaml", REQUIRED + "lora_rnak: 4\n")
        for words, code, faults in (([], front.USAGE, [f"{path}:4:1: lora_rnak is not", "command line: seed: "]),
                                    (["--allow-unknown", "lora_rnak", "--seed", "1"], front.INPUT, ["base_model: "])):
            done = front.run("--json", "config", "check", "-c", path, "--seed", "x", *words)
            self.assertEqual(done.returncode, code)
            said = json.loads(done.stdout)
            self.assertIs(said["good"], False)
            self.assertEqual(len(said["faults"]), len(faults), said)
            for fault, begin in zip(said["faults"], faults):
                self.assertTrue(fault.startswith(begin), fault)
                self.assertIn("error: " + fault, done.stderr.splitlines())

    def test_notes_go_to_standard_error(self):
        path = self.write("run.yaml", REQUIRED + "lora_rank: 8\n")
        done = front.run("config", "show", "-c", path)
        self.assertIn("lora_rank is read as lora_r", done.stderr)
        self.assertNotIn("is read as", done.stdout)

    def test_allow_unknown(self):
        path = self.write("run.yaml", REQUIRED + "wandb_project: x\n")
        self.refused(front.USAGE, "config", "show", "-c", path)
        self.good("config", "show", "-c", path, "--allow-unknown", "wandb_project")

    def test_schema_is_json_and_fits_the_configs(self):
        schema = json.loads(self.good("config", "schema"))
        self.assertEqual(schema["additionalProperties"], False)
        self.assertIn("lora_r", schema["properties"])
        self.assertNotIn("save_only_model", schema["properties"])

    def test_explain(self):
        self.assertRegex(self.good("config", "explain", "lora_rank"), r"(?s)lora_r: .*default +16\n")
        self.assertEqual(json.loads(self.good("config", "explain", "lora_r", "--json"))["default"], 16)
        self.assertIn("does not work yet", self.refused(front.USAGE, "config", "explain", "save_only_model")[0])
        self.assertIn("did you mean", self.refused(front.USAGE, "config", "explain", "lora_rk")[0])


class Configs(front.FrontTest):
    """The files of configs/ are sound."""

    COUNT = 4

    def test_each_names_what_it_is_for_and_its_command(self):
        files = sorted((front.SOURCE / "configs").glob("*.yaml"))
        self.assertEqual(len(files), self.COUNT)
        for path in files:
            text = path.read_text()
            self.assertTrue(text.startswith("# "), path)
            self.assertIn(f"build/bin/phi3-tune --config configs/{path.name}", text)

    def test_each_is_good_with_a_random_model(self):
        base = self.folder / "model"
        self.good("init-model", base, "--shape", "tiny", "--tokenizer", front.SOURCE / "data/tokenizer-small")
        for path in sorted((front.SOURCE / "configs").glob("*.yaml")):
            with self.subTest(file=path.name):
                self.good("config", "check", "--config", path, "--base_model", base)
                for adapter in ("lora", "qlora"):
                    self.good("config", "show", "--config", path, "--base_model", base, "--adapter", adapter)
                text = self.good("data", "preview", "--config", path, "--base_model", base, "-n", "1")
                self.assertIn("trained", text)


class ReadmeList(front.FrontTest):
    def test_the_readmes_list_is_the_tables(self):
        done = subprocess.run([front.SOURCE / "scripts/settings_list", "--check"], capture_output=True, text=True,
                              env={**os.environ, "PHI3TUNE_PROGRAM": front.PROGRAM}, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)


class Completion(front.FrontTest):
    def complete(self, *words):
        """What bash offers for the last word."""
        script = self.write("complete.bash", self.good("completion", "bash") + "\n"
                            + "COMP_WORDS=(phi3-tune " + " ".join(f"'{word}'" for word in words) + ")\n"
                            + f"COMP_CWORD={len(words)}\n_phi3_tune\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n")
        return subprocess.run(["bash", script], capture_output=True, text=True, check=True).stdout.split()

    def test_bash_offers_commands_settings_and_values(self):
        self.assertEqual(self.complete("ins"), ["inspect"])
        self.assertEqual(sorted(self.complete("config", "s")), ["schema", "show"])
        self.assertIn("--lora_r", self.complete("train", "--lora"))
        self.assertIn("--lora_r", self.complete("--config", "x.yaml", "--lora"))
        self.assertEqual(self.complete("train", "--adapter", ""), ["lora", "qlora"])
        self.assertEqual(self.complete("completion", "z"), ["zsh"])
        self.assertIn("h200", self.complete("plan", "--gpu", ""))
        self.assertIn("learning_rate", self.complete("config", "explain", "learn"))
        self.assertEqual(self.complete("train", "--config", ""), [])  # bash goes on with files

    def test_scripts_parse(self):
        for shell in ("bash", "zsh", "fish"):
            script = self.write(f"script.{shell}", self.good("completion", shell))
            self.assertIn("qlora", script.read_text())
            if shutil.which(shell):
                subprocess.run([shell, "-n", script], check=True)


if __name__ == "__main__":
    unittest.main()
