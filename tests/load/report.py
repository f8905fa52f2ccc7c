"""The table of `make bench`, and tests/load/RESULTS.md. The text of RESULTS.md below the marker is written by hand and kept."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import psycopg

from tests.load.baseline import CLIENTS
from tests.load.wrk import WRK, tool

if TYPE_CHECKING:
    from tests.load.bench import Bench, Row

RESULTS = Path(__file__).with_name("RESULTS.md")
KEPT = "<!-- what is below is written by hand and stays -->\n"
HEADINGS = (
    "operation", "by", "conn.", "requests/s", "p50 ms", "p99 ms", "p99/p50", "API CPU ms", "PG CPU ms", "API MiB", "baseline tx/s",
    "baseline CPU ms", "one flush tx/s", "to baseline", "RLS CPU", "RLS CPU, unsigned",
)  # fmt: skip
LEGEND = f"""Requests a second, latencies and CPU are the API's; CPU is milliseconds of a core for one request, of all processes of the API
and of all of PostgreSQL's. The baseline is pgbench with {CLIENTS} clients: the same statement with plain columns, in four round trips
(BEGIN, context, statement, COMMIT) and in one flush; its CPU is PostgreSQL's in four. `to baseline` is the API's rate at {CLIENTS}
connections to that of the four round trips, median of the rounds. `RLS CPU` is PostgreSQL's CPU for a transaction under the policies to
the same without them, whose statement names the organization and the role's condition itself, the least of the rounds each; `unsigned`
where no policy requires the context's signature."""


def cells(row: Row) -> list[list[str]]:
    """A line for each number of connections. The line with the number of pgbench's clients contains the baselines."""
    lines = []
    cases = [(connections, str(connections), served) for connections, served in sorted(row.served.items())]
    if row.doubled:
        cases.append((0, f"{CLIENTS}, 2 processes", row.doubled))
    for connections, name, served in cases:
        p50, p99, api, postgres = map(
            statistics.median,
            zip(*((one.load.p50, one.load.p99, one.api, one.postgres) for one in served), strict=True),
        )
        rate = statistics.median(one.load.rate for one in served)
        line = [row.operation, row.person, name, f"{rate:.0f}"]
        line += [f"{p50:.2f}", f"{p99:.2f}", f"{p99 / p50:.1f}", f"{api:.2f}", f"{postgres:.2f}"]
        lines.append(line + (_baselines(row) if connections == CLIENTS else [""] * 7))
    return lines


def _baselines(row: Row) -> list[str]:
    rls, flush = (statistics.median(one.rate for one in row.baselines[way]) for way in ("rls", "flush"))
    cpu = statistics.median(one.cpu for one in row.baselines["rls"])
    unsigned = f"x{row.overhead('rls unsigned', 'where unsigned'):.2f}" if "rls unsigned" in row.baselines else ""
    return [
        *[f"{row.memory:.0f}", f"{rls:.0f}", f"{cpu:.2f}", f"{flush:.0f}"],
        *[f"{row.to_baseline():.2f}", f"x{row.overhead():.2f}" if "where" in row.baselines else "", unsigned],
    ]


def summary(row: Row) -> str:
    """The measurements of a row so far, printed during the run."""
    named = (zip(HEADINGS, cell, strict=True) for cell in cells(row))
    return "\n".join("  ".join(f"{name} {value}" for name, value in pairs if value) for pairs in named)


def table(bench: Bench) -> str:
    """All rows, as a readable Markdown table."""
    lines = [list(HEADINGS), *[cell for row in bench.rows.values() for cell in cells(row)]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    formatted = ["| " + " | ".join(map(str.ljust, one, widths)) + " |" for one in lines]
    formatted.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(formatted)


def head(bench: Bench) -> str:
    """The machine, the versions and the data set."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    wrk = re.search(r"\d[^ ]*", subprocess.run([WRK, "-v"], capture_output=True, text=True).stdout) if WRK else None
    by = f"wrk {wrk[0]}" if wrk and tool(bench.length.seconds) == "wrk" else "a generator in Python, not wrk"
    packages = ", ".join(f"{name} {version(name)}" for name in ("litestar", "psycopg", "uvicorn", "uvloop", "msgspec"))
    built, claims, length = bench.here.built, bench.here.claims, bench.length
    with psycopg.connect(bench.here.url) as admin:
        (server,) = admin.execute("show server_version").fetchone() or ("",)
        settings = admin.execute(
            "select name, current_setting(name) from pg_settings where name in ('fsync', 'synchronous_commit', 'work_mem') "
            "or source in ('configuration file', 'command line') and name in ('shared_buffers', 'max_connections') order by name"
        ).fetchall()
    return "\n".join(
        [
            f"- {date.today()}. {model[1] if model else platform.machine()}: {os.cpu_count()} cores that API, PostgreSQL and load share, "
            f"{psutil.virtual_memory().total / 2**30:.0f} GiB, Linux {platform.release()}; load average before: {os.getloadavg()[0]:.1f}.",
            f"- PostgreSQL {server}, Python {platform.python_version()}, {packages}; load by {by}, {length.seconds:g} s a cell, "
            f"{length.rounds} rounds.",
            f"- {claims:,} claims of 100 organizations over two years, the largest with {claims // 5:,}; {built['size'] / 2**30:.1f} GiB, "
            f"built in {sum(built['seconds'].values()):.0f} s ({_listed(built['seconds'].items(), ' ')}).",
            f"- API: {os.environ.get('PROCESSES', '1')} process(es), {os.environ.get('POOL_SIZE', '16')} connections each, no rate limits, "
            f"{bench.memory_before:.0f} MiB before. PostgreSQL: {_listed(settings, ' = ')}; all else as it comes, "
            "scheduled as app/dev/postgres.py has it (SCHED_BATCH).",
        ]
    )


def _listed(pairs: Any, between: str) -> str:
    return ", ".join(f"{name}{between}{value}" for name, value in pairs)


def write(head: str, bench: Bench, path: Path = RESULTS) -> None:
    """Writes the file anew down to the text by hand, which is kept."""
    by_hand = (path.read_text() if path.exists() else "").partition(KEPT)[2] or "\n## What was tried\n"
    path.write_text(f"# What `make bench` measured\n\n{head}\n\n{table(bench)}\n\n{LEGEND}\n\n{KEPT}{by_hand}")
