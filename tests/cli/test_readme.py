"""Every command of the README is run, in a folder laid out as its text says."""
import json
import re
import shlex
import unittest

import front

README = (front.SOURCE / "README.md").read_text(encoding="utf-8")


def commands():
    """Lines of sh blocks, and code spans that start with the program's name."""
    found = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.splitlines()]
    found += re.findall(r"`(phi3-tune [^`]*)`", README)
    return list(dict.fromkeys(found))


class Readme(front.FrontTest):
    # Run by what runs this test, or by their own tests (test_quickstart.py).
    ELSEWHERE = {"scripts/quickstart", "scripts/test", "scripts/test --parity"}

    def test_every_command_of_the_readme_runs(self):
        self.write("data/tickets/a.jsonl", "".join(
            json.dumps({"messages": [{"role": "user", "content": f"Ticket {i}?"}, {"role": "assistant", "content": f"Answer {i}."}]}) + "\n"
            for i in range(400)))
        config = re.search(r"```yaml\n(.*?)```", README, re.S)[1]
        self.write("run.yaml", config)
        self.good("init-model", self.folder / "models/Phi-3-mini-4k-instruct", "--shape", "tiny")
        words = {"NAME": "lora_r", "DIR": "made", "PATH": "models/Phi-3-mini-4k-instruct"}
        run = 0
        for command in commands():
            if command in self.ELSEWHERE:
                continue
            with self.subTest(command):
                arguments = [words.get(word, word) for word in shlex.split(command)]
                self.assertEqual(arguments[0], "phi3-tune")
                self.good(*arguments[1:], cwd=self.folder)
                run += 1
        self.assertGreaterEqual(run, 10)
        self.assertTrue((self.folder / "runs/tickets/adapter/adapter_model.safetensors").exists())

    def test_paths_it_names_are_there(self):
        for path in ("scripts/quickstart", "scripts/test", "scripts/setup", "configs/lora.yaml", "configs/qlora.yaml", "src/README.md",
                     "data/medicine", "LICENSE"):
            self.assertTrue((front.SOURCE / path).exists(), path)


if __name__ == "__main__":
    unittest.main()
