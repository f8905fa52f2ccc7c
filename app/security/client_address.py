"""The client's address and scheme: the connection's, or those that a trusted proxy names."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

MAX_HOPS = 32
"""Proxies in a row that are looked through; the last of them then counts as the client."""
LONGEST = 64
"""Characters of an address with its zone and its port."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_PORT = re.compile(r":[0-9]{1,5}")


def networks(text: str) -> tuple[Network, ...]:
    """The networks of TRUSTED_PROXIES, addresses or CIDR by comma; `*` is every address. ValueError names the first wrong one."""
    if text.strip() == "*":
        return ip_network("0.0.0.0/0"), ip_network("::/0")
    return tuple(_network(one.strip()) for one in text.split(",") if text.strip())


def _network(text: str) -> Network:
    try:
        found = ip_network(text)
    except ValueError:
        raise ValueError(f"must hold addresses and networks (CIDR) by comma, or *; not {text!r}") from None
    mapped = found.network_address.ipv4_mapped if isinstance(found, IPv6Network) else None
    return ip_network((mapped, found.prefixlen - 96)) if mapped and found.prefixlen >= 96 else found


@lru_cache(maxsize=4096)
def read(text: str) -> Address | None:
    """The address of `ip`, `ip:port` or `[ip]:port`, without its zone; IPv4-mapped IPv6 as IPv4. None where it is no address."""
    if len(text) > LONGEST:
        return None
    host, rest = text, ""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or "." in host.partition(":")[0]:
            return None
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
        rest = f":{port}"
    if rest and not _PORT.fullmatch(rest):
        return None
    host, zone, _ = host.partition("%")
    try:
        found = ip_address(host)
    except ValueError:
        return None
    if isinstance(found, IPv4Address):
        return None if zone else found
    return found.ipv4_mapped or found


class Proxies:
    """The proxies that are believed. `*` believes every peer, and then only the last address it names: who the others are is unknown."""

    def __init__(self, trusted: str) -> None:
        self._any = trusted.strip() == "*"
        self._networks = networks(trusted)
        self._read = lru_cache(maxsize=4096)(self._judged)

    def _judged(self, text: str) -> tuple[str, bool]:
        found = read(text)
        return ("", False) if found is None else (str(found), any(found in one for one in self._networks))

    def peer(self, text: str) -> tuple[str, bool]:
        """A connection's address as it is kept, "" where it has none, and whether that is a proxy's."""
        return self._read(text)

    def client(self, peer: str, fields: Iterable[tuple[bytes, bytes]]) -> str:
        """The client's address by the X-Forwarded-For fields of a request from a proxy.

        From the right: the first address that is no proxy's; the last one before anything that is no address.
        """
        values = [value for name, value in fields if name == b"x-forwarded-for"]
        found = peer
        parts = b",".join(values).decode("latin-1").rsplit(",", MAX_HOPS)[-MAX_HOPS:]
        for part in reversed(parts):
            address, is_proxy = self._read(part.strip(" \t")[: LONGEST + 1])
            if not address:
                break
            found = address
            if self._any or not is_proxy:
                break
        return found


def forwarded_tls(fields: Iterable[tuple[bytes, bytes]]) -> bool | None:
    """Whether the last X-Forwarded-Proto of a request from a proxy is https; None where it is neither that nor http."""
    values = [value for name, value in fields if name == b"x-forwarded-proto"]
    last = b",".join(values).rpartition(b",")[2].strip(b" \t").lower()
    return {b"https": True, b"http": False}.get(last)


def client_address(scope: Mapping[str, Any]) -> str:
    """The client's address in an ASGI scope, as OuterMiddleware set it; empty if it is unknown."""
    client = scope["client"]
    return client[0] if client else ""


@lru_cache(maxsize=10_000)
def network(address: str) -> str:
    """What is counted as one address: of IPv6 the /64, since a household has as many addresses as it likes."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((found, 64), strict=False)) if found.version == 6 else address
