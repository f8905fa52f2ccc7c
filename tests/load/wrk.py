"""Load over HTTP: wrk where it is installed and the seconds are whole, else a small generator of our own on raw sockets.

Both use this number of connections with a list of requests, repeatedly and in order, and count latency for each.
"""

import asyncio
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

Request = tuple[str, str, str]
"""Method, path with its query string, body."""
WRK = shutil.which("wrk")
SCRIPT = """
local requests, at = {}, nil
local headers = {%s}
function init(args)
  for line in io.lines(%s) do
    local method, path, body = line:match("^([^\\t]*)\\t([^\\t]*)\\t(.*)$")
    requests[#requests + 1] = wrk.format(method, path, headers, body ~= "" and body or nil)
  end
end
function request()
  at = at and at %% #requests + 1 or 0  -- the first one is only looked at by wrk, and never sent
  return requests[math.max(at, 1)]
end
function done(summary, latency, all)
  local e = summary.errors
  io.write(string.format('\\n{"requests":%%d,"seconds":%%.6f,"p50":%%.4f,"p99":%%.4f,"refused":%%d,"broken":%%d}\\n', summary.requests,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, e.status,
    e.connect + e.read + e.write + e.timeout))
end
"""


@dataclass(frozen=True)
class Load:
    """The result; p50 and p99 in milliseconds. refused: error responses; broken: requests without a response."""

    requests: int
    seconds: float
    p50: float
    p99: float
    refused: int = 0
    broken: int = 0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def tool(seconds: float) -> str:
    """The generator that `load` uses."""
    return "wrk" if WRK and seconds == int(seconds) else "Python"


def load(
    address: str, requests: Sequence[Request], headers: Mapping[str, str], connections: int, seconds: float
) -> Load:
    """Load over this number of connections for this time."""
    run = _by_wrk if tool(seconds) == "wrk" else _by_python
    return run(address, requests, headers, connections, seconds)


def _by_wrk(
    address: str, requests: Sequence[Request], headers: Mapping[str, str], connections: int, seconds: float
) -> Load:
    with tempfile.TemporaryDirectory(prefix="claims-wrk-") as folder:
        listed, script = Path(folder) / "requests.tsv", Path(folder) / "load.lua"
        listed.write_text("".join("\t".join(one) + "\n" for one in requests))
        # A JSON string is a string of Lua if it is plain ASCII.
        named = ",".join(f"[{json.dumps(name)}]={json.dumps(value)}" for name, value in headers.items())
        script.write_text(SCRIPT % (named, json.dumps(str(listed))))
        options = ["-t1", f"-c{connections}", f"-d{int(seconds)}s", "--timeout", "30s", "-s", str(script)]
        command = [str(WRK), *options, address]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Load(**json.loads(said.strip().splitlines()[-1]))


def _by_python(
    address: str, requests: Sequence[Request], headers: Mapping[str, str], connections: int, seconds: float
) -> Load:
    where = urlsplit(address)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + f"Host: {where.netloc}\r\n"
    raw = [
        f"{method} {path} HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        for method, path, body in requests
    ]
    took: list[float] = []
    refused = at = 0

    async def client(until: float) -> None:
        nonlocal refused, at
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        while (started := time.perf_counter()) < until:
            writer.write(raw[at % len(raw)])
            at += 1
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            refused += not answer.startswith(b"HTTP/1.1 2")
            took.append(time.perf_counter() - started)
        writer.close()

    async def all_of_them() -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(client(until) for _ in range(connections)))

    started = time.perf_counter()
    asyncio.run(all_of_them())
    cuts = statistics.quantiles(took, n=100) if len(took) > 1 else took * 99
    return Load(len(took), time.perf_counter() - started, cuts[49] * 1000, cuts[98] * 1000, refused)
