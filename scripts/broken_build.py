"""Compiles single files again after a change, and links them with the rest of an existing build: for programs that break the
sources on purpose."""
import json
import pathlib
import shlex
import subprocess


def compile_commands(folder):
    """[(source, words)] of a build folder."""
    entries = json.loads((pathlib.Path(folder) / "compile_commands.json").read_text(encoding="utf-8"))
    return [(pathlib.Path(entry["file"]), shlex.split(entry["command"])) for entry in entries]


def link_command(folder, target):
    """The words that link `target`, a name that ninja knows."""
    commands = subprocess.run(["ninja", "-C", folder, "-t", "commands", target], capture_output=True, text=True, check=True)
    return [word for word in shlex.split(commands.stdout.splitlines()[-1]) if word not in (":", "&&")]


def compile_changed(folder, words, source, changed, made):
    """Compiles `changed` as `source` is compiled, to the object `made`. (the object that it stands for, what the compiler said)"""
    words = [word for word in words if not word.startswith("-Werror")]
    at = words.index("-o") + 1
    theirs = words[at]
    words = [str(changed) if word == str(source) else word for word in words]
    words[at] = str(made)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    return theirs, done.stderr if done.returncode else ""


def link_changed(folder, words, objects, made):
    """Links to `made` with `objects` (theirs -> ours) exchanged. What the linker said, if it failed."""
    for theirs, ours in objects.items():
        if theirs not in words:
            return f"{theirs} is not in the link of {pathlib.Path(made).name}"
        words = [str(ours) if word == theirs else word for word in words]
    words[words.index("-o") + 1] = str(made)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    return done.stderr or "the linker failed" if done.returncode else ""


def first_error(output):
    return next((line for line in output.splitlines() if "error" in line), output.strip()[:300])
