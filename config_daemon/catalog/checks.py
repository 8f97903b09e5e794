"""Judge texts that no type can judge: URLs, hosts, origins, patterns, placeholders.

Laws: each function returns the end of a sentence that says what is wrong, or None; none of them
repeats the text, which may be a secret; nothing is looked up.

Source: RFC 3986 §3 (URI), RFC 1123 §2.1 (host names), RFC 6454 §6.2 (origins).
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

_HOST_LABEL: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_PLACEHOLDERS: Final = re.compile(
    "changeit|default|dummy|example|fixme|insert|none|notset|password|placeholder|replace"
    "|secret|tbd|test|testing|todo|token|unset|your.*here"
)
_PLACEHOLDER_PARTS: Final = ("changeme", "replaceme", "placeholder", "yourkey", "yourapikey", "yoursecret")


def bad_url(text: str | None, *schemes: str) -> str | None:
    """Say why `text` is no URL of one of `schemes`; null is nobody's business here."""
    if text is None:
        return None
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)
    if not text.isascii() or any(character <= " " or character == "\x7f" for character in text):
        return "holds blanks or characters that must be percent-encoded in a URL"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "is no URL: its host or port cannot be read"
    if parts.scheme not in schemes or not text[len(parts.scheme) :].startswith("://"):
        return f"must be a URL that begins with {wanted}"
    if parts.scheme == "unix":
        return None if parts.path.startswith("/") else "must name a socket by its absolute path"
    if not parts.hostname or bad_host(parts.hostname):
        return "must name a host"
    if port == 0:
        return "must not name port 0"
    if parts.password is not None:
        return "must not hold a password, which everybody could read"
    return None


def bad_host(text: str) -> str | None:
    """Say why `text` is neither a host name nor an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        pass
    else:
        return None
    labels = text.removesuffix(".").split(".")
    named = len(text) <= 253 and all(_HOST_LABEL.fullmatch(label) for label in labels)
    if not named or re.fullmatch(r"[0-9]+", labels[-1]):  # the last label of a name is no number
        return "must be a host name or an IP address, without a scheme or a port"
    return None


def bad_origin(text: str) -> str | None:
    """Say why `text` is neither `*` nor an origin such as `https://*.example.com:8443`."""
    if text == "*":
        return None
    scheme, separator, rest = text.partition("://")
    wrong = bad_url(f"{scheme}{separator}{rest.removeprefix('*.')}", "http", "https")
    if wrong:
        return wrong
    if re.search(r"[/?#@]", rest):
        return "must be scheme://host:port without a path or a user"
    return None


def bad_pattern(text: str) -> str | None:
    """Say why `text` is no regular expression."""
    try:
        re.compile(text)
    except re.error as error:
        return f"is no regular expression: {error.msg} at position {error.pos}"
    except (OverflowError, RecursionError, ValueError, Warning):
        return "is no regular expression that can be compiled"
    return None


def is_placeholder(text: str) -> bool:
    """Tell whether a secret was left as the template had it, such as `CHANGEME` or `<your-key-here>`."""
    plain = "".join(character for character in text.lower() if character.isalnum())
    if len(set(text)) == 1 or _PLACEHOLDERS.fullmatch(plain):  # one character throughout is a mask
        return True
    return any(part in plain for part in _PLACEHOLDER_PARTS)
