"""Runs the code blocks of a document, in the order in which a reader meets them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.helpers import ROOT
from tests.shells import forking

INSTALLED = str(Path(sys.executable).parent)
NAMED = re.compile(r"# ([\w/]+\.(?:py|toml))\n")
BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.M | re.S)


def blocks(file: str) -> list[tuple[str, str, str]]:
    return BLOCK.findall((ROOT / file).read_text())


def run_blocks(file: str, folder: Path, **settings: str) -> int:
    """Run the blocks of a document; those that begin with a file's name become that file. How many were run."""
    with forking("actionbus", "python") as commands:
        return run_blocks_with(commands, file, folder, **settings)


def run_blocks_with(commands: str, file: str, folder: Path, **settings: str) -> int:
    """With the commands of this folder."""
    path = os.pathsep.join((commands, INSTALLED, os.environ["PATH"]))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ACTIONBUS_")}
    env = kept | {"PATH": path, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"} | settings
    ran = 0
    for language, _, code in blocks(file):
        if language == "text":
            continue
        if named := NAMED.match(code):
            put(folder, folder / named[1], code)
            continue
        if language == "python":
            command, given = ["python", "-c", code], env | {"PYTHONWARNINGS": "error"}
        else:
            command, given = ["bash", "-euo", "pipefail", "-c", code], env
        done = subprocess.run(["env", *command], cwd=folder, env=given, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        ran += 1
    return ran


def put(folder: Path, file: Path, code: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(code)
    for each in (file.parent, *file.parent.parents):
        if each == folder:
            break
        (each / "__init__.py").touch()
