"""scripts/batch with stand-ins: a Slurm made of three small programs, and a supervisor that does what a unit's keys say."""
import json
import os
import re
import shutil
import signal
import subprocess
import time
import unittest

import front

BATCH = front.SOURCE / "scripts/batch"
STOPPED = 75


def until(happens, seconds=60):
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            raise AssertionError("it does not happen")
        time.sleep(0.01)


class Run(front.FrontTest):
    """A run long enough to be stopped in its middle."""

    def setUp(self):
        super().setUp()
        self.good("init-model", self.folder / "model", "--shape", "tiny", "--seed", 7)
        self.write("data.jsonl", "".join(json.dumps({"messages": [
            {"role": "user", "content": f"What is {i}?"}, {"role": "assistant", "content": f"{i} is a number."}]}) + "\n" for i in range(12)))
        every = {"base_model": "model", "datasets": [{"path": "data.jsonl"}], "sequence_len": 64, "micro_batch_size": 2,
                 "gradient_accumulation_steps": 2, "max_steps": 400, "learning_rate": 1e-3, "lora_r": 2, "logging_steps": 1, "bf16": False,
                 "threads": 1, "save_steps": 50, "progress": "none"}
        self.config = self.write("run.yaml", json.dumps(every))
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(("PHI3_TUNE__", "SLURM_"))}

    def steps(self, out):
        metrics = self.folder / out / "metrics.jsonl"
        return len(metrics.read_text().splitlines()) if metrics.exists() else 0

    def in_its_middle(self, out):
        until(lambda: self.steps(out) > 10)

    def status(self, out):
        return json.loads((self.folder / out / "run.json").read_text())["status"]

    def adapter(self, out):
        return (self.folder / out / "adapter/adapter_model.safetensors").read_bytes()

    def undisturbed(self):
        self.good("--config", self.config, "--output_dir", self.folder / "undisturbed", cwd=self.folder)
        return self.adapter("undisturbed")


class Slurm(Run):
    def setUp(self):
        super().setUp()
        self.asked = self.folder / "asked"
        self.tools = self.folder / "tools"
        for name, text in (("srun", 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"'),
                           ("squeue", 'cat "$JOB_STATE"'), ("scontrol", 'echo "$@" >> "$ASKED"')):
            self.write(f"tools/{name}", f"#!/bin/sh\n{text}\n").chmod(0o755)
        self.state = self.write("state", "RUNNING\n")

    def start(self, out, restart=None, **environment):
        env = {**self.environment, "PATH": f"{self.tools}:{os.environ['PATH']}", "SLURM_JOB_ID": "42", "JOB_STATE": str(self.state),
               "ASKED": str(self.asked), "PHI3TUNE_PROGRAM": front.PROGRAM, **environment}
        if restart is not None:
            env["SLURM_RESTART_COUNT"] = str(restart)
        job = subprocess.Popen([BATCH / "phi3-tune.sbatch", "--config", self.config, "--output_dir", self.folder / out], cwd=self.folder, env=env,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(job.kill)
        return job

    def requeued(self):
        return self.asked.read_text().splitlines() if self.asked.exists() else []

    def end(self, job):
        out, errors = job.communicate(timeout=120)
        return job.returncode, out + errors

    def test_the_job_comes_back_until_the_run_is_finished(self):
        expected = self.undisturbed()
        for restart in range(2):
            job = self.start("out", restart)
            before = self.steps("out")
            until(lambda: self.steps("out") > before + 10)
            job.send_signal(signal.SIGTERM)  # as --signal=B:TERM@180 does
            code, said = self.end(job)
            self.assertEqual(code, STOPPED, said)
            self.assertEqual(self.requeued(), ["requeue 42"] * (restart + 1))
            self.assertEqual(self.status("out"), "stopped")
        code, said = self.end(self.start("out", 2))
        self.assertEqual(code, front.GOOD, said)
        self.assertEqual(len(self.requeued()), 2)
        self.assertEqual(self.adapter("out"), expected)

    def test_a_cancelled_job_saves_and_does_not_come_back(self):
        job = self.start("out")
        self.in_its_middle("out")
        self.state.write_text("CANCELLED\n")
        job.send_signal(signal.SIGTERM)
        code, said = self.end(job)
        self.assertEqual(code, STOPPED, said)
        self.assertIn("CANCELLED: not requeued", said)
        self.assertEqual(self.requeued(), [])

    def test_a_job_comes_back_only_so_often(self):
        job = self.start("out", 3, PHI3TUNE_RESTARTS="3")
        self.in_its_middle("out")
        job.send_signal(signal.SIGTERM)
        code, said = self.end(job)
        self.assertEqual(code, STOPPED, said)
        self.assertIn("came back 3 times: not requeued", said)
        self.assertEqual(self.requeued(), [])

    def test_settings_that_are_wrong_end_the_job(self):
        self.config.write_text("nonsense: 1\n")
        code, said = self.end(self.start("out"))
        self.assertEqual(code, front.USAGE, said)
        self.assertEqual(self.requeued(), [])

    def test_a_checkpoint_can_be_asked_for(self):
        job = self.start("out")
        self.in_its_middle("out")
        job.send_signal(signal.SIGUSR1)
        before_50 = lambda: [p for p in (self.folder / "out/checkpoints").glob("step-*") if int(p.name[5:]) % 50 != 0]
        until(before_50)
        code, said = self.end(job)
        self.assertEqual(code, front.GOOD, said)
        self.assertIn("a checkpoint is saved at the end of this step", said)

    def test_its_comments_ask_slurm_for_what_its_text_promises(self):
        asked = re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", (BATCH / "phi3-tune.sbatch").read_text(), re.M)
        self.assertEqual(dict(asked)["signal"], "B:TERM@180")
        self.assertIn(("requeue", ""), asked)
        self.assertEqual(dict(asked)["ntasks"], "1")
        self.assertEqual(dict(asked)["open-mode"], "append")


class Unit:
    """The keys of a unit, and what systemd.service(5) says it does with them."""

    def __init__(self, path):
        self.keys = {}
        for line in path.read_text().splitlines():
            if "=" in line and not line.startswith("#"):
                name, value = line.split("=", 1)
                self.keys[name] = value

    def codes(self, name):
        return {int(word) for word in self.keys.get(name, "").split()}

    def clean(self, code):
        """Neither failed nor killed; the four signals count as clean, and so do the codes listed."""
        return code == 0 or -code in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE) or code in self.codes("SuccessExitStatus")

    def starts_again(self, code):
        """After an end that `systemctl stop` did not ask for."""
        if code in self.codes("RestartPreventExitStatus"):
            return False
        if code in self.codes("RestartForceExitStatus"):
            return True
        return self.keys["Restart"] == "on-failure" and not self.clean(code)

    def command(self, key, **values):
        words = self.keys[key].split()
        return [re.sub(r"%\w|\$MAINPID", lambda found: str(values[found[0].strip("%$")]), word) for word in words]


class Systemd(Run):
    UNITS = ("phi3-tune.service", "phi3-tune@.service")

    def start(self, unit, out, *words):
        command = unit.command("ExecStart", i="run", h=self.folder)
        self.assertEqual(command[1], "--config")
        self.assertTrue(command[2].endswith("/run.yaml"), command)
        process = subprocess.Popen([front.PROGRAM, "--config", self.config, "--output_dir", self.folder / out, *words], cwd=self.folder,
                                   env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.kill)
        return process

    def test_the_run_is_started_again_until_it_is_finished(self):
        expected = self.undisturbed()
        for name in self.UNITS:
            with self.subTest(name):
                unit, out, starts = Unit(BATCH / name), name.replace("@", "-"), 0
                while True:
                    words = ("--max_time", "1s") if starts == 1 else ()
                    process = self.start(unit, out, *words)
                    if starts == 0:
                        self.in_its_middle(out)
                        process.send_signal(signal.SIGKILL)
                    starts += 1
                    _, errors = process.communicate(timeout=120)
                    if not unit.starts_again(process.returncode):
                        break
                    self.assertLess(starts, 10, errors)
                self.assertEqual(process.returncode, 0, errors)
                self.assertGreaterEqual(starts, 2)
                self.assertEqual(self.adapter(out), expected)
                # At the next boot.
                again = self.start(unit, out)
                _, errors = again.communicate(timeout=120)
                self.assertEqual(again.returncode, 0, errors)
                self.assertEqual(self.adapter(out), expected)

    def test_a_stop_saves_in_time_and_is_no_failure(self):
        for name in self.UNITS:
            with self.subTest(name):
                unit, out = Unit(BATCH / name), name.replace("@", "-")
                process = self.start(unit, out)
                self.in_its_middle(out)
                process.send_signal(getattr(signal, unit.keys["KillSignal"]))
                _, errors = process.communicate(timeout=int(unit.keys["TimeoutStopSec"]))
                self.assertEqual(process.returncode, STOPPED, errors)
                self.assertTrue(unit.clean(process.returncode))
                self.assertTrue(list((self.folder / out / "checkpoints").glob("step-*")))

    def test_a_reload_saves_and_goes_on(self):
        for name in self.UNITS:
            with self.subTest(name):
                unit, out = Unit(BATCH / name), name.replace("@", "-")
                process = self.start(unit, out)
                self.in_its_middle(out)
                subprocess.run(unit.command("ExecReload", MAINPID=process.pid), check=True)
                _, errors = process.communicate(timeout=120)
                self.assertEqual(process.returncode, 0, errors)
                self.assertIn("a checkpoint is saved at the end of this step", errors)

    def test_what_would_fail_again_is_left_alone(self):
        for name in self.UNITS:
            unit = Unit(BATCH / name)
            self.assertEqual([code for code in (0, 2, 3, 4, 5, 6, 70, 75, -9, -11, -15) if unit.starts_again(code)], [4, 75, -9, -11], name)

    def test_systemd_takes_the_units(self):
        if shutil.which("systemd-analyze") is None:
            for name in self.UNITS:
                keys = Unit(BATCH / name).keys
                for key in ("Type", "ExecStart", "ExecReload", "KillSignal", "KillMode", "TimeoutStopSec", "SuccessExitStatus", "Restart",
                            "RestartForceExitStatus", "RestartPreventExitStatus", "StartLimitIntervalSec", "StartLimitBurst", "WantedBy"):
                    self.assertIn(key, keys, name)
            return
        for name, words in (("phi3-tune.service", ["--user"]), ("phi3-tune@.service", [])):
            # The program and the user of the example are not on this machine.
            text = (BATCH / name).read_text().replace("/usr/local/bin/phi3-tune", "/bin/true").replace("User=phi3-tune", "User=root")
            unit = self.write(name, text)
            done = subprocess.run(["systemd-analyze", *words, "verify", unit], capture_output=True, text=True, check=False,
                                  env={**self.environment, "XDG_RUNTIME_DIR": str(self.folder)})
            self.assertEqual((done.returncode, done.stderr), (0, ""), name)
            unit.write_text(text.replace("Restart=on-failure", "Restrat=on-failure"))
            done = subprocess.run(["systemd-analyze", *words, "verify", unit], capture_output=True, text=True, check=False,
                                  env={**self.environment, "XDG_RUNTIME_DIR": str(self.folder)})
            self.assertIn("Restrat", done.stderr)


if __name__ == "__main__":
    unittest.main()
