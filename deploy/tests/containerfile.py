"""Reads deploy/container/Containerfile and .dockerignore, as far as these files use the language."""

import fnmatch
import json
import os
import re
import shlex
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTAINERFILE = ROOT / "deploy/container/Containerfile"


class Stage:
    """One stage: its base, its name, and its instructions in order."""

    def __init__(self, base, name):
        self.base, self.name, self.instructions = base, name, []

    def all(self, keyword):
        return [text for word, text in self.instructions if word == keyword]

    def one(self, keyword):
        """The text of an instruction that occurs once."""
        texts = self.all(keyword)
        assert len(texts) == 1, f"{keyword} occurs {len(texts)} times in the stage {self.name or self.base}"
        return texts[0]

    def arguments(self, overrides):
        """The build arguments and environment variables at the end of the stage."""
        values = {}
        for word, text in self.instructions:
            if word == "ARG":
                name, _, default = text.partition("=")
                values[name] = overrides.get(name, default)
            elif word == "ENV":
                for pair in shlex.split(text):
                    name, _, value = pair.partition("=")
                    values[name] = re.sub(r"\$\{(\w+)\}", lambda match: values[match[1]], value)
        return values


def stages():
    """The stages of the Containerfile."""
    text = re.sub(r"^\s*#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE)
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name))
        elif found:
            found[-1].instructions.append((word, rest.strip()))
    return found


def stage(name):
    """The stage of this name; the last one for None."""
    return stages()[-1] if name is None else next(found for found in stages() if found.name == name)


def run_command(text):
    """The shell command of a RUN instruction, without its mounts."""
    return re.sub(r"^(--mount=\S+\s+)+", "", text)


def json_list(text):
    return json.loads(text)


def context_files():
    """The files that .dockerignore leaves in the context, relative to the root of the repository."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]

    def is_kept(path):
        kept = True
        for rule in rules:
            pattern = rule.lstrip("!")
            parts = path.parts
            prefixes = [str(Path(*parts[: length + 1])) for length in range(len(parts))]
            if any(fnmatch.fnmatchcase(prefix, pattern) for prefix in prefixes):
                kept = rule.startswith("!")
        return kept

    kept = []
    for folder, folders, files in os.walk(ROOT):
        relative = Path(folder).relative_to(ROOT)
        if relative == Path("."):
            folders[:] = [name for name in folders if name not in ("target", ".git")]
        kept += [relative / name for name in files if is_kept(relative / name)]
    return kept


def copy_context(destination):
    """Copies the context to a folder, with modification times, which cargo uses to determine what is fresh."""
    for path in context_files():
        target = destination / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target)
