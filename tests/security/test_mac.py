"""Our HMAC is HMAC: the vectors of RFC 4231, and whatever Python's own says."""

import hmac

import pytest

from app.security.mac import mac

VECTORS = [
    (b"\x0b" * 20, b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
    (b"Jefe", b"what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
]


@pytest.mark.parametrize(("key", "message", "expected"), VECTORS)
def test_the_vectors_of_the_rfc(key, message, expected):
    assert mac(key, message).hex() == expected


@pytest.mark.parametrize("length", [0, 1, 55, 56, 63, 64])
def test_it_says_what_pythons_says(length):
    key, other = bytes(range(length)), bytes(range(1, length + 1))
    for size in (0, 1, 63, 64, 65, 1000):
        message = bytes(n % 251 for n in range(size))
        assert mac(key, message) == hmac.digest(key, message, "sha256")
        assert length == 0 or mac(other, message) != mac(key, message)  # control
