"""The base URL of the API that `make demo` and `make token` call, and the file by which they find a running `make run`."""

import os
from pathlib import Path

DEFAULT_PORT = 8000


def port_file(folder: Path) -> Path:
    """The file in DATA_DIR with the port of a running `make run`."""
    return folder / "port"


def base_url() -> str:
    """BASE_URL, or the local address with PORT, with the port of a running `make run` in this directory, or with port 8000."""
    if url := os.environ.get("BASE_URL"):
        return url
    return f"http://127.0.0.1:{os.environ.get('PORT') or _running_port() or DEFAULT_PORT}"


def no_server(url: str) -> str:
    """The message if no server responds at the URL."""
    return f"no server responds at {url}: start one with make run, or set PORT or BASE_URL"


def _running_port() -> str | None:
    try:
        return port_file(Path(os.environ.get("DATA_DIR") or ".data")).read_text().strip()
    except OSError:
        return None
