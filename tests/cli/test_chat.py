"""A conversation through a terminal, as a person has it, and through a pipe."""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

import front

INTERRUPTED = 75


class Terminal:
    """The program behind a terminal of its own."""

    def __init__(self, words, cwd):
        self.process, self.master = None, None
        pid, master = pty.fork()
        if pid == 0:
            os.chdir(cwd)
            os.environ.update(TERM="xterm", LC_ALL="C.UTF-8", OMP_WAIT_POLICY="passive")
            os.execv(words[0], words)
        self.pid, self.master, self.seen = pid, master, ""

    def read(self, seconds):
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            return False
        self.seen += data.decode("utf-8", "replace")
        return bool(data)

    def until(self, text, seconds=60):
        """What came up to `text`, which is taken away."""
        end = time.monotonic() + seconds
        while text not in self.seen:
            if time.monotonic() > end or not (self.read(1) or time.monotonic() < end):
                raise AssertionError(f"{text!r} did not come; seen: {self.seen!r}")
        before, self.seen = self.seen.split(text, 1)
        return before

    def type(self, text):
        """As a person does: not before the program waits for it."""
        while text != "\x03" and self.read(0.3):
            pass
        self.send(text)

    def send(self, text):
        os.write(self.master, text.encode())

    def code(self, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done, status = os.waitpid(self.pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            self.read(0.1)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"it does not end; seen: {self.seen!r}")


class Chat(front.FrontTest):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"
        self.good("init-model", self.model, "--shape", "tiny-gqa", "--seed", 7)

    def words(self, *more):
        return [front.PROGRAM, "chat", "--model", str(self.model), *map(str, more)]

    def terminal(self, *more):
        terminal = Terminal(self.words(*more), self.folder)
        self.addCleanup(os.close, terminal.master)
        terminal.until("> ")
        return terminal

    def records(self, name):
        return [json.loads(line)["messages"] for line in (self.folder / name).read_text(encoding="utf-8").splitlines()]

    def test_a_conversation_is_kept_saved_and_begun_again(self):
        terminal = self.terminal("--max-new-tokens", 5, "--system", "Be brief.")
        for line in ("hello", "w\u00f6rter \u4f60\u597d \U0001f600", "one \\"):
            terminal.type(line + "\n")
            terminal.until("> " if not line.endswith("\\") else ". ")
        terminal.type("two\n")
        terminal.until("> ")
        terminal.type('"""first\n')
        terminal.until(". ")
        terminal.type('\n')
        terminal.until(". ")
        terminal.type('third"""\n')
        terminal.until("> ")
        terminal.type("/save talk.jsonl\n")
        terminal.until("added to talk.jsonl")
        terminal.until("> ")
        terminal.type("/reset\n")
        terminal.until("begins again")
        terminal.until("> ")
        terminal.type("/save talk.jsonl\n")
        terminal.until("nothing was said")
        terminal.until("> ")
        terminal.type("/system Be long.\n")
        terminal.until("begins again")
        terminal.until("> ")
        terminal.type("hi\n")
        terminal.until("> ")
        terminal.type("/save talk.jsonl\n")
        terminal.until("added to")
        terminal.until("> ")
        terminal.type("/what\n")
        terminal.until("no such command")
        terminal.until("> ")
        terminal.type("/quit\n")
        self.assertEqual(terminal.code(), 0)
        first, second = self.records("talk.jsonl")
        self.assertEqual([m["role"] for m in first], ["system"] + ["user", "assistant"] * 4)
        self.assertEqual([m["content"] for m in first if m["role"] == "user"],
                         ["hello", "w\u00f6rter \u4f60\u597d \U0001f600", "one \ntwo", "first\n\nthird"])
        self.assertEqual([m["content"] for m in second][:2], ["Be long.", "hi"])

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        terminal = self.terminal("--max-new-tokens", 3500)
        terminal.type("hello\n")
        terminal.until("hello\r\n")
        terminal.until(" ")  # the answer has begun
        terminal.type("\x03")
        terminal.until("stopped")
        terminal.until("> ")
        terminal.type("half a line\x03")
        terminal.until("/quit")
        terminal.until("> ")
        terminal.type("/save talk.jsonl\n")
        terminal.until("added")
        terminal.until("> ")
        for _ in range(2):
            terminal.type("\x03")
            terminal.until("/quit")
            terminal.until("> ")
        terminal.type("\x04")
        self.assertEqual(terminal.code(), 0)
        (user, assistant), = self.records("talk.jsonl")
        self.assertEqual(user["content"], "hello")
        self.assertGreater(len(assistant["content"]), 0)

    def test_what_is_typed_beside_an_answer_waits_for_its_end(self):
        terminal = self.terminal("--max-new-tokens", 60)
        terminal.type("hello\n")
        terminal.until("hello\r\n")
        terminal.until(" ")  # the answer has begun
        terminal.send("/save talk.jsonl\n")
        self.assertNotIn("/save", terminal.until("\n"))
        terminal.until("added")
        terminal.until("> ")
        terminal.type("and then?\n")
        terminal.until("then?\r\n")
        terminal.until(" ")
        terminal.send("\x04")  # no end of input before the answer's end, and one behind it
        self.assertEqual(terminal.code(), 0)
        self.assertEqual(len(self.records("talk.jsonl")), 1)

    def test_the_line_is_there_again_after_a_halt(self):
        terminal = self.terminal("--max-new-tokens", 3)
        terminal.type("hel")
        terminal.until("hel")
        before = termios.tcgetattr(terminal.master)  # the line is being edited by now
        os.kill(terminal.pid, signal.SIGSTOP)
        os.waitpid(terminal.pid, os.WUNTRACED)
        cooked = termios.tcgetattr(terminal.master)
        cooked[3] |= termios.ICANON | termios.ECHO  # as a shell leaves it
        termios.tcsetattr(terminal.master, termios.TCSANOW, cooked)
        os.kill(terminal.pid, signal.SIGCONT)
        terminal.until("> hel")
        self.assertEqual(termios.tcgetattr(terminal.master)[3], before[3])
        terminal.type("lo\n")
        terminal.until("> ")
        terminal.type("/save talk.jsonl\n")
        terminal.until("added")
        terminal.type("\x04")
        self.assertEqual(terminal.code(), 0)
        self.assertEqual(self.records("talk.jsonl")[0][0]["content"], "hello")

    def test_a_window_of_another_width_shows_the_line_again(self):
        terminal = self.terminal("--max-new-tokens", 3)
        terminal.type("hel")
        terminal.until("hel")
        fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 41, 0, 0))
        terminal.until("> hel")
        terminal.send("\x03")
        terminal.until("/quit")
        terminal.type("\x04")
        self.assertEqual(terminal.code(), 0)

    def test_a_pasted_text_is_one_message(self):
        terminal = self.terminal("--max-new-tokens", 3)
        terminal.type("first line\nsecond line\nthird line\n")
        terminal.until("third line")
        time.sleep(0.5)
        terminal.until("> ")
        terminal.type("/save talk.jsonl\n")
        terminal.until("added")
        terminal.type("/quit\n")
        self.assertEqual(terminal.code(), 0)
        self.assertEqual(self.records("talk.jsonl")[0][0]["content"], "first line\nsecond line\nthird line")

    def test_a_full_context_is_said_and_reset_helps(self):
        settings = json.loads((self.model / "config.json").read_text())
        settings.update(max_position_embeddings=64, original_max_position_embeddings=64)
        (self.model / "config.json").write_text(json.dumps(settings))
        terminal = self.terminal("--max-new-tokens", 4)
        for _ in range(20):
            terminal.type("some more words to fill it\n")
            if "/reset" in terminal.until("> "):
                break
        else:
            self.fail("it never was full")
        terminal.type("/reset\n")
        terminal.until("> ")
        terminal.type("hi\n")
        self.assertNotIn("/reset", terminal.until("> "))
        terminal.type("\x04")
        self.assertEqual(terminal.code(), 0)

    def test_a_signal_that_means_the_program_ends_it(self):
        terminal = self.terminal("--max-new-tokens", 3500)
        terminal.type("hello\n")
        terminal.until("hello\r\n")
        terminal.until(" ")
        os.kill(terminal.pid, signal.SIGTERM)
        self.assertEqual(terminal.code(), INTERRUPTED)

    def piped(self, text, *more):
        return subprocess.run(self.words(*more), input=text, capture_output=True, text=True, cwd=self.folder, timeout=60)

    def test_a_pipe_gives_lines_and_gets_answers_alone(self):
        done = self.piped("hello\n\nand then?\n/save talk.jsonl\n", "--max-new-tokens", 4)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("> ", done.stdout)
        messages, = self.records("talk.jsonl")
        self.assertEqual(done.stdout, "".join(m["content"] + "\n" for m in messages if m["role"] == "assistant"))
        self.assertEqual([m["content"] for m in messages if m["role"] == "user"], ["hello", "and then?"])
        events = [json.loads(line) for line in self.piped("hello\nand then?\n", "--max-new-tokens", 4, "--json").stdout.splitlines()]
        self.assertEqual([e["answer"] for e in events[:-1]], [m["content"] for m in messages if m["role"] == "assistant"])
        # Of the second prompt only what is new was read.
        self.assertLess(events[-1]["prompt_tokens"], events[0]["prompt_tokens"] + events[1]["prompt_tokens"])

    def test_the_same_conversation_is_answered_as_generate_answers_it(self):
        self.piped("hello\nand then?\n/save talk.jsonl\n", "--max-new-tokens", 4)
        messages, = self.records("talk.jsonl")
        file = self.write("prompts.jsonl", json.dumps({"messages": messages[:3]}) + "\n")
        lines = self.good("generate", "--model", self.model, "--prompts", file, "--max-new-tokens", 4, "--json").splitlines()
        self.assertEqual(json.loads(lines[0])["answer"], messages[3]["content"])

    def test_what_cannot_be_is_refused(self):
        self.assertEqual(self.piped("/save\n").returncode, front.USAGE)
        self.write("a.txt", "no records\n")
        done = self.piped("hi\n/save a.txt\n", "--max-new-tokens", 2)
        self.assertEqual(done.returncode, front.INPUT)
        self.assertIn("a.txt", done.stderr)
        self.assertEqual((self.folder / "a.txt").read_text(), "no records\n")
        self.assertEqual(self.piped("hi\n", "--chat-template", "none").returncode, front.USAGE)


if __name__ == "__main__":
    unittest.main()
