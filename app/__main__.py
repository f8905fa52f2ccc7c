"""`python -m app`: serves the API until SIGTERM, then finishes the requests in progress.

With PROCESSES=2 or more, this process only listens. It keeps that many child processes running (`python -m app SOCKET LOCK`), which
accept connections from its socket. The socket stays open while a child restarts, so no connection is refused.
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
    """Serves with the settings of the environment. SOCKET, LOCK: inherited file descriptors of the listener and the password lock."""
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
    # A process locks this file while it hashes a password, because two hashes at a time would use two cores.
    lock_file = TemporaryFile()  # noqa: SIM115
    inherited, child_environment = [listener.fileno(), lock_file.fileno()], dict(os.environ)
    arguments = ["app", *map(str, inherited)]
    names = (f"API process {n + 1}" for n in range(settings.processes))

    def stop_listening() -> None:
        """Stops accepting. Connections in the backlog are still served.

        New ones are refused once the last process has closed its copy of the socket.
        """
        listener.listen(0)
        listener.close()

    children = [Child(name, arguments, child_environment, inherits=inherited) for name in names]
    supervise(children, before_end=stop_listening)


def _serve(settings: Settings, *listeners: socket.socket) -> None:
    import uvicorn  # imported here, because it would be most of the memory of the process that only listens

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
        proxy_headers=False,  # app/http/middleware.py reads them, because uvicorn would trust headers that a client sent
        log_level="warning",
        timeout_graceful_shutdown=20,
    )
    with suppress(KeyboardInterrupt):  # uvicorn raises it again after a shutdown by Ctrl-C
        # Not passed as fd=, because uvicorn would then keep listening while it drains.
        GracefulServer(config).run(list(listeners) or None)


if __name__ == "__main__":
    main(sys.argv[1:])
