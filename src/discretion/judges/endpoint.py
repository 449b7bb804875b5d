"""Addresses of endpoints, and what they say of waiting."""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from discretion.errors import JudgeError

OPENAI = "https://api.openai.com/v1"
"""Where questions go if nothing else is said."""


def address(base_url: str) -> str:
    """Return the address to post to.

    Raises
    ------
    JudgeError
        It is none, or holds a password.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise JudgeError(
            "the address of the endpoint is none. Expected https://HOST/v1 or http://localhost:PORT/v1, without a "
            "password: the key belongs into an environment variable."
        )
    return base_url.split("?")[0].rstrip("/").removesuffix("/chat/completions") + "/chat/completions"


def refuse_plain(url: str, variable: str) -> None:
    """Refuse to send a key in plain text beyond this machine.

    Raises
    ------
    JudgeError
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost" or host.endswith(".localhost")
    if parts.scheme == "http" and not here and os.environ.get(variable):
        raise JudgeError(
            f"{parts.scheme}://{host} would be sent the key in {variable} in plain text. Use https, or unset "
            f"{variable}."
        )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an endpoint asks for, at most an hour; None where it does not say."""
    given = headers.get("Retry-After", "").strip()
    if not given:
        return None
    try:
        seconds = float(given)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), 3600.0) if math.isfinite(seconds) else None
