"""`make clients`, which generates clients of the API. The generators themselves are no part of the tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.__main__ import DOCUMENT, missing, patterns_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("installed", [(), ("npm", "node"), ("java",)])
def test_clients_are_skipped_with_the_reason_without_npm_or_java(tmp_path, installed):
    for name in installed:
        (tmp_path / name).touch(mode=0o755)
    command = [sys.executable, "-m", "tests.clients"]
    environ = os.environ | {"PATH": str(tmp_path), "CLIENTS_DIR": str(tmp_path / "tools")}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60)
    absent = [name for name in ("npm", "node", "java") if name not in installed]
    assert (done.returncode, done.stdout) == (0, f"clients: skipped, {' and '.join(absent)} not found\n")
    assert not (tmp_path / "tools").exists()


def test_nothing_is_missing_if_all_are_installed(tmp_path, monkeypatch):
    for name in ("npm", "node", "java"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert missing() == ""


def test_every_pin_is_one_version():
    pins = (DOCUMENT.parent / "tests" / "clients" / "requirements.txt").read_text().split()
    assert len(pins) > 3
    assert [pin for pin in pins if "==" not in pin] == []


def test_patterns_are_found_at_any_depth():
    assert patterns_of({"a": [{"pattern": "x"}, {"properties": {"pattern": {"pattern": "y"}}}]}) == {"x", "y"}
