"""`make bench` in short: all of it runs, every response is right, and the output has its parts. No time is asserted."""

import dataclasses
import re
from uuid import UUID

import pytest

from tests.load import report
from tests.load.bench import Length, bench, measure
from tests.load.dataset import dataset, tidy
from tests.load.memory import mixed
from tests.load.operations import OPERATIONS
from tests.load.wrk import WRK, load

SMALL = [
    "list:admin", "total:processor, spread", "deep", "get:processor, recent", "stats:provider, spread", "create:provider, recent",
    "move:admin",
]  # fmt: skip


def test_the_bench_measures_api_and_baseline(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("BENCH_DIR", raising=False)
    with dataset(3000) as here, bench(here, Length()) as one:
        measure(one, SMALL)
        assert not one.faults
        tidy(one.world.admin)
        assert one.world.admin.execute("select count(*) from app.claims").fetchone() == (3000,)
        assert {name for name, _ in one.rows} == {operation.name for operation in OPERATIONS}
        for row in one.rows.values():
            assert row.doubled[0].load.rate > 0
            assert row.to_baseline() > 0
            if row.operation != "stats":
                assert row.overhead() > 0
                assert row.overhead("rls unsigned", "where unsigned") > 0
        # Control: a refused request is reported.
        admin = one.world.people[0]
        get = next(operation for operation in OPERATIONS if operation.name == "get")
        hidden = dataclasses.replace(get, requests=lambda world, person: [("GET", f"/api/claims/{UUID(int=0)}", "")])
        one.serve(hidden, admin, 2)
        assert len(one.faults) == 1
        with pytest.raises(AssertionError, match="404"):
            one.fill(hidden, admin)

        assert len({path for _, path, _ in mixed(one)}) > 50
        if WRK:
            answered = load(one.world.address, get.requests(one.world, admin), admin.headers(), 4, 1)
            assert answered.requests > 0
            assert (answered.refused, answered.broken) == (0, 0)
            assert load(one.world.address, [("GET", "/nowhere", "")], {}, 4, 1).refused

        results = tmp_path / "RESULTS.md"
        report.write(report.head(one), one, results)
        results.write_text(results.read_text() + "\nKept.\n")
        report.write(report.head(one), one, results)
        said = results.read_text()
        assert said.count("## What was tried") == said.count("Kept.") == 1
        assert len(re.findall(r"^\| \w+ +\| (?:admin|processor|provider)", said, re.MULTILINE)) == 2 * len(one.rows)
    assert "requests/s" in capsys.readouterr().out
