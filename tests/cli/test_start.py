"""Help, version, unknown commands: fast, and without libtorch in the process."""
import json
import os
import re
import shlex
import statistics
import subprocess
import unittest

import front

COMMANDS = [[], ["train"], ["plan"], ["data"], ["data", "preview"], ["init-model"], ["inspect"], ["env"], ["config"],
            ["config", "check"], ["config", "show"], ["config", "schema"], ["config", "explain"], ["completion"], ["eval"],
            ["generate"], ["chat"], ["merge"], ["export"]]
LATER = [["data", "check"], ["config", "convert"]]
HELP_SECONDS = 0.020  # what a person does not notice


def processor_seconds(words):
    """User and system time of one run, loading included: what it takes on a machine with nothing else to do."""
    with open(os.devnull, "wb") as nowhere:
        child = os.posix_spawn(words[0], words, os.environ,
                               file_actions=[(os.POSIX_SPAWN_DUP2, nowhere.fileno(), 1)])
    _, status, used = os.wait4(child, 0)
    if status != 0:
        raise AssertionError(f"{words} ended with status {status}")
    return used.ru_utime + used.ru_stime


class Start(front.FrontTest):
    def test_every_command_has_help_with_an_example(self):
        for command in COMMANDS:
            with self.subTest(command=command):
                text = self.good(*command, "--help")
                self.assertIn("Usage: " + " ".join(["phi3-tune", *command]), text)
                self.assertIn("Example: phi3-tune ", text)

    def test_help_names_every_command_and_no_later_one(self):
        text = self.good("--help")
        for command in COMMANDS[1:]:
            self.assertRegex(text, rf"(?m)^  {command[0]} ")
        for command in LATER:
            listed = self.good(*command[:-1], "--help")
            self.assertNotRegex(listed, rf"(?m)^  {command[-1]} ")

    def test_examples_of_the_help_are_understood(self):
        for command in COMMANDS:
            example = re.search(r"Example: phi3-tune (.*)", self.good(*command, "--help"))[1]
            words = shlex.split(example.split(" > ")[0])
            done = front.run(*words, "--help", cwd=self.folder)
            self.assertEqual(done.returncode, front.GOOD, f"{example}: {done.stderr}")

    def test_help_is_fast(self):
        for command in ([], ["train"], ["generate"]):
            times = sorted(processor_seconds([front.PROGRAM, *command, "--help"]) for _ in range(15))
            self.assertLess(statistics.median(times), HELP_SECONDS, times)

    def test_no_libtorch_is_linked(self):
        linked = subprocess.run(["ldd", front.PROGRAM], capture_output=True, text=True, check=True).stdout
        self.assertIn("libphi3tune_base", linked)
        self.assertNotRegex(linked, r"torch|libc10|mkl")

    def test_no_libtorch_is_loaded_by_help(self):
        loaded = front.run("--help", env={"LD_DEBUG": "files"}).stderr
        self.assertIn("libphi3tune_base", loaded)
        self.assertNotRegex(loaded, r"torch|libc10")

    def test_version(self):
        version = re.search(r"project\(\S+ VERSION ([0-9.]+)", (front.SOURCE / "CMakeLists.txt").read_text())[1]
        self.assertEqual(self.good("--version"), f"phi3-tune {version}\n")
        self.assertEqual(json.loads(self.good("--version", "--json")), {"version": version})

    def test_later_commands_say_so(self):
        for command in LATER:
            with self.subTest(command=command):
                self.assertEqual(self.refused(front.USAGE, *command),
                                 [f"error: `phi3-tune {' '.join(command)}` does not work yet"])

    def test_slips_are_refused_with_the_right_word(self):
        self.assertIn("did you mean train?", self.refused(front.USAGE, "trian")[0])
        self.assertIn("did you mean --config run.yaml?", self.refused(front.USAGE, "run.yaml")[0])
        self.assertIn("did you mean --config?", self.refused(front.USAGE, "train", "--confg", "x.yaml")[0])
        self.assertIn("did you mean explain?", self.refused(front.USAGE, "config", "explan")[0])
        self.assertIn("no command", self.refused(front.USAGE)[0])

    def test_an_unknown_option_is_named_before_a_missing_one(self):
        for words, says in ((["generate", "--modle", "x", "hi"], "--modle is no option of phi3-tune generate; did you mean --model?"),
                            (["generate", "--model", "x", "--temprature=1", "hi"], "--temprature is no option of phi3-tune generate; did you mean --temperature?"),
                            (["merge", "--model", "a", "--adapter", "b", "--frobnicate", "c"], "--frobnicate is no option of phi3-tune merge; see phi3-tune merge --help"),
                            (["generate", "-model", "x", "hi"], "-model is no option of phi3-tune generate; did you mean --model?"),
                            (["inspect", "x", "--nonsense"], "--nonsense is no option of phi3-tune inspect; see")):
            with self.subTest(words=words):
                self.assertIn(says, self.refused(front.USAGE, *words)[0])
        self.assertIn("--model is required", self.refused(front.USAGE, "generate", "--", "--modle")[0])
        for words in (["--system", "--odd", "hi"], ["--system=--odd", "hi"], ["--system=", "--odd", "hi"], ["--", "--odd"], ["--- a = b"], ["-- a\nb"],
                      ["-"], ["--temperature", "-0", "hi"], ["--temperature=.5", "-5"]):
            with self.subTest(words=words):
                self.assertIn("x is no folder", self.refused(front.INPUT, "generate", "--model", "x", *words)[0])
        for words in (["--help", "--config", "run.yaml"], ["generate", "--odd", "--help"], ["-h", "--max_steps", "4"]):
            with self.subTest(words=words):
                self.assertIn("Usage: phi3-tune", self.good(*words))

    def test_wrong_options_are_usage_errors(self):
        for words in (["inspect"], ["init-model"], ["init-model", "x", "--shape", "huge"], ["init-model", self.folder / "x", "--seed", "-1"],
                      ["init-model", self.folder / "x", "--seed=-7"], ["completion", "tcsh"],
                      ["env", "--nonsense"], ["data", "preview", "-n", "many"], ["config"], ["data"],
                      ["train", "--set", "lora_r"], ["train", "--lora_r"], ["generate", "--model", "x"],
                      ["generate", "--model", "x", "--seed", "-1", "hello"], ["generate", "--model", "x", "--log-probabilities", "hello"],
                      ["generate", "--model", "x", "--prompts", "y", "hello"], ["chat"], ["merge", "--model", "x", "--out", "y"],
                      ["merge", "--model", "x", "--adapter", "y", "--out", "z", "--shard-size", "big"],
                      ["export", "--adapter", "x", "--out", "y"], ["export", "--adapter", "x", "--out", "y", "--format", "onnx"]):
            with self.subTest(words=words):
                self.refused(front.USAGE, *words)

    def test_wrong_values_say_what_was_found_and_wanted(self):
        whole, model = "a whole number from", ["generate", "--model", "x", "hello"]
        for words, says in (([*model, "--top-k", "abc"], f"--top-k: found abc; wanted {whole} 0 to 16777216"),
                            ([*model, "--max-new-tokens", "0"], f"--max-new-tokens: found 0; wanted {whole} 1 to 16777216"),
                            ([*model, "--threads", "010"], f"--threads: found 010; wanted {whole} 0 to 4096"),
                            ([*model, "--seed", "08"], f"--seed: found 08; wanted {whole} 0 to"),
                            ([*model, "--batch-size", "1.5"], f"--batch-size: found 1.5; wanted {whole} 1 to 4096"),
                            ([*model, "--threads", "4097"], f"--threads: found 4097; wanted {whole} 0 to 4096"),
                            ([*model, "--seed", "-1"], f"--seed: found -1; wanted {whole} 0 to 18446744073709551615"),
                            ([*model, "--seed", "18446744073709551616"], f"--seed: found 18446744073709551616; wanted {whole} 0 to"),
                            ([*model, "--temperature", "nan"], "--temperature: found nan; wanted 0, or a number from 0.001 to 100"),
                            ([*model, "--top-p", "0"], "--top-p: found 0; wanted a number from 1e-06 to 1"),
                            ([*model, "--dtype", "int8"], "--dtype: found int8; wanted one of auto, float32, bfloat16"),
                            (["completion", "tcsh"], "found tcsh; wanted one of bash, zsh, fish")):
            with self.subTest(words=words):
                self.assertIn(says, self.refused(front.USAGE, *words)[0])

    def test_output_that_cannot_be_written_is_an_error(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            done = subprocess.run([front.PROGRAM, "config", "schema"], stdout=full, stderr=subprocess.PIPE, text=True,
                                  check=False)
        self.assertEqual(done.returncode, 4)
        self.assertIn("standard output", done.stderr)


if __name__ == "__main__":
    unittest.main()
