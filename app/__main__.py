"""`python -m app`: serves the API until SIGTERM, then finishes the requests under way."""

import uvicorn

from app.config import read_settings
from app.cork import Corked


def main() -> None:
    """Serves with the settings of the environment."""
    settings = read_settings(need=("api_database_url", "token_keys"))
    uvicorn.run(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=Corked,
        access_log=False,
        server_header=False,
        # Who sends X-Forwarded-For is believed only where an operator says so: the address is what is throttled and audited.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies or None,
        log_level="warning",
        timeout_graceful_shutdown=20,
    )


if __name__ == "__main__":
    main()
