"""`make token EMAIL=...`: logs in and prints an access token of a running API, for curl.

EMAIL names the account, ORG the slug of its organization, PASSWORD its password. Without PASSWORD the password of the demo accounts
is sent, but only to an address of this machine.
"""

import ipaddress
import os
import sys
from typing import Any

import httpx

from app.dev.address import base_url, no_server
from app.dev.seed import PASSWORD


class Refused(Exception):
    """There is no token; the text is the reason."""


def is_loopback(url: str) -> bool:
    """Whether the host of the URL is this machine: a loopback address or `localhost`."""
    host = httpx.URL(url).host
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def log_in(url: str, email: str, password: str | None, organization: str | None) -> str:
    """The access token of a login. Raises Refused if a value is missing, no server responds, or the login is refused."""
    if not email:
        raise Refused("EMAIL is missing: make token EMAIL=provider1@healthfirst.com")
    try:
        local = is_loopback(url)
        if not password and not local:
            raise Refused(f"PASSWORD is missing: the demo password is not sent to {url}, only to a loopback address")
        body = {"email": email, "password": password or PASSWORD}
        body |= {"organizationSlug": organization} if organization else {}
        # A proxy of the environment is for other machines.
        with httpx.Client(base_url=url, timeout=10, trust_env=not local) as client:
            return _token(client.post("/api/auth/login", json=body), email, password, organization)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise Refused(no_server(url)) from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{url} did not respond as the API does ({type(error).__name__})") from None


def _token(response: httpx.Response, email: str, password: str | None, organization: str | None) -> str:
    content = response.json()
    if response.status_code == 200:
        return str(content["data"]["accessToken"])
    if response.status_code == 401:
        causes = [f"no active account {email}" + (f" in the organization {organization}" if organization else "")]
        causes += ["a wrong PASSWORD"] if password else ["another password than the demo's (set PASSWORD)"]
        causes += [] if organization else ["an email of several organizations (set ORG to the slug of one)"]
        raise Refused(f"the login was refused (401): {', '.join(causes[:-1])} or {causes[-1]}")
    raise Refused(f"the login was refused ({response.status_code}): {_reason(response, content['error'])}")


def _reason(response: httpx.Response, error: dict[str, Any]) -> str:
    """The message of an error response, with its invalid fields and the seconds until a retry is useful."""
    fields = (error.get("details") or {}).get("fields") or {}
    text = " ".join([error["message"], *(f"{name}: {problems[0]}." for name, problems in fields.items())])
    seconds = response.headers.get("Retry-After")
    return f"{text} Retry after {seconds} s." if seconds else text


def main() -> int:
    """Prints the token; returns the exit status: 0, or 2 if there is none."""
    environ = os.environ
    try:
        print(log_in(base_url(), environ.get("EMAIL", ""), environ.get("PASSWORD"), environ.get("ORG")))
    except Refused as refused:
        print(f"token: {refused}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
