"""The README's story of a claim works as it is printed, over a running `make run`."""

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.operations.test_run import environ, folder, run  # noqa: F401  (fixtures)

ROOT = Path(__file__).parents[2]
MAKE = 'make() { shift 2; env "$@" "$PYTHON" -m app.dev.token; }\n'
"""`make -s token`, without the check whether packages are installed."""


def story() -> list[str]:
    """The blocks of commands of the section, without those of responses."""
    section = (ROOT / "README.md").read_text().partition("## Follow one claim\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [text for language, text in blocks if not language]


def test_the_commands_of_the_readme_tell_the_story_of_a_claim(run, folder):  # noqa: F811
    _, address = run
    script = "".join(story()).replace("http://127.0.0.1:8000", address)
    assert script.count(address) == 1
    told = environ(DATA_DIR=str(folder / "data"), PYTHON=sys.executable)
    done = subprocess.run(["sh", "-ec", MAKE + script], cwd=ROOT, env=told, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    created = json.loads(done.stderr)["data"]
    lines = done.stdout.splitlines()
    submitted, unassigned, event, moved, assigned, approved, decided, registered, own, foreign = map(
        json.loads, lines[:10]
    )
    assert [one["data"]["status"] for one in (submitted, moved, assigned, approved, decided)] == [
        "submitted", "under_review", "under_review", "approved", "approved",
    ]  # fmt: skip
    assert {one["data"]["id"] for one in (submitted, moved, assigned, approved, decided)} == {created["id"]}
    assert created["status"] == "draft"
    assert [one["error"]["code"] for one in (unassigned, foreign)] == ["NOT_FOUND"] * 2
    assert event["data"]["jobStatus"] == "pending"
    assert decided["data"]["statusHistory"][-1]["reason"] == "The plan covers 80 percent"
    assert registered["data"]["user"]["organization"]["slug"] == "my-insurance"
    assert own["data"] == []
    assert json.loads(lines[10])["data"]
    assert lines[11].startswith("id,")
