"""The client's address and scheme: those of the connection, or those that a trusted proxy forwards."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

MAX_HOPS = 32
"""Forwarded addresses that are read, from the right. If all of them are proxies, the last one read counts as the client."""
MAX_ADDRESS_CHARACTERS = 64
"""Length of an address with its zone and its port."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_PORT = re.compile(r":[0-9]{1,5}")


def networks(text: str) -> tuple[Network, ...]:
    """Parses TRUSTED_PROXIES: addresses or networks (CIDR) separated by commas, or `*` for every address. Raises ValueError."""
    if text.strip() == "*":
        return ip_network("0.0.0.0/0"), ip_network("::/0")
    return tuple(_network(part.strip()) for part in text.split(",") if text.strip())


def _network(text: str) -> Network:
    try:
        parsed = ip_network(text)
    except ValueError:
        raise ValueError(f"must be addresses and networks (CIDR) separated by commas, or *; not {text!r}") from None
    mapped = parsed.network_address.ipv4_mapped if isinstance(parsed, IPv6Network) else None
    return ip_network((mapped, parsed.prefixlen - 96)) if mapped and parsed.prefixlen >= 96 else parsed


@lru_cache(maxsize=4096)
def read(text: str) -> Address | None:
    """Parses `ip`, `ip:port` or `[ip]:port`, without the zone; IPv4-mapped IPv6 becomes IPv4. None if it is no address."""
    if len(text) > MAX_ADDRESS_CHARACTERS:
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
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return None if zone else address
    return address.ipv4_mapped or address


class Proxies:
    """The trusted proxies. `*` trusts every peer, but only the last address that it forwards, because the others are unverified."""

    def __init__(self, trusted: str) -> None:
        self._any = trusted.strip() == "*"
        self._networks = networks(trusted)
        self._read = lru_cache(maxsize=4096)(self._classify)

    def _classify(self, text: str) -> tuple[str, bool]:
        address = read(text)
        if address is None:
            return "", False
        return str(address), any(address in trusted for trusted in self._networks)

    def peer(self, text: str) -> tuple[str, bool]:
        """A connection's normalized address, "" if it has none, and whether it belongs to a trusted proxy."""
        return self._read(text)

    def client(self, peer: str, fields: Iterable[tuple[bytes, bytes]]) -> str:
        """The client's address according to the X-Forwarded-For fields of a request from a proxy.

        Reads from the right and returns the first address that is not a proxy's. Stops before anything that is not an address.
        """
        values = [value for name, value in fields if name == b"x-forwarded-for"]
        client = peer
        parts = b",".join(values).decode("latin-1").rsplit(",", MAX_HOPS)[-MAX_HOPS:]
        for part in reversed(parts):
            address, is_proxy = self._read(part.strip(" \t")[: MAX_ADDRESS_CHARACTERS + 1])
            if not address:
                break
            client = address
            if self._any or not is_proxy:
                break
        return client


def forwarded_tls(fields: Iterable[tuple[bytes, bytes]]) -> bool | None:
    """Whether the last X-Forwarded-Proto of a request from a proxy is https; None if it is neither https nor http."""
    values = [value for name, value in fields if name == b"x-forwarded-proto"]
    last = b",".join(values).rpartition(b",")[2].strip(b" \t").lower()
    return {b"https": True, b"http": False}.get(last)


def client_address(scope: Mapping[str, Any]) -> str:
    """The client's address that OuterMiddleware set in the ASGI scope; empty if it is unknown."""
    client = scope["client"]
    return client[0] if client else ""


@lru_cache(maxsize=10_000)
def network(address: str) -> str:
    """The unit in which addresses are counted: an IPv4 address or an IPv6 /64, because one household controls a whole /64."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address
