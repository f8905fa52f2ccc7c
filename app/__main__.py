"""`python -m app`: serves the API until SIGTERM, then finishes the requests under way.

With PROCESSES=2 or more this process only listens, and keeps so many others running that take connections from its socket:
`python -m app SOCKET TURN`. The socket stays while one of them is started again, so nobody is refused meanwhile.
"""

import os
import socket
import sys
from contextlib import suppress
from functools import partial
from tempfile import TemporaryFile

from app.config import Settings, read_settings
from app.server.supervisor import EXIT_STARTUP_FAILED, Child, supervise


def main(arguments: list[str]) -> None:
    """Serves with the settings of the environment; SOCKET, TURN: open files that this process was given."""
    settings = read_settings(need=("api_database_url", "token_keys"))
    if arguments:
        from app.security.passwords import use_interprocess_lock

        use_interprocess_lock(int(arguments[1]))
        _serve(settings, socket.socket(fileno=int(arguments[0])))
    elif settings.processes == 1:
        _serve(settings)
    else:
        _supervise(settings)


def _supervise(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        print(f"the API can't listen on {settings.host}:{settings.port} ({error.strerror})", file=sys.stderr)
        raise SystemExit(EXIT_STARTUP_FAILED) from None
    lock_file = TemporaryFile()  # noqa: SIM115  (locked by whoever hashes a password: two at a time are two cores)
    given, child_environment = [listener.fileno(), lock_file.fileno()], dict(os.environ)
    names = (f"API process {n + 1}" for n in range(settings.processes))

    def shut() -> None:
        """Who waits in the queue is still let in; whoever comes now is refused as soon as the last process has shut its door."""
        listener.listen(0)
        listener.close()

    supervise(
        [Child(name, ["app", *map(str, given)], child_environment, inherits=given) for name in names], before_end=shut
    )


def _serve(settings: Settings, *listeners: socket.socket) -> None:
    import uvicorn  # not for the process that only listens: it is most of its memory

    from app.security.client_address import Proxies
    from app.server.graceful import GracefulServer
    from app.server.limits import ConnectionMonitor, LimitedHttpProtocol

    config = uvicorn.Config(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=partial(LimitedHttpProtocol, monitor=ConnectionMonitor(Proxies(settings.trusted_proxies))),  # type: ignore[arg-type]
        ws="none",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # app/http/middleware.py reads them: uvicorn would believe what a client wrote
        log_level="warning",
        timeout_graceful_shutdown=20,
    )
    with suppress(KeyboardInterrupt):  # Ctrl-C, when all is done
        # Not by fd=: then it would go on listening while it drains, to nobody's use.
        GracefulServer(config).run(list(listeners) or None)


if __name__ == "__main__":
    main(sys.argv[1:])
