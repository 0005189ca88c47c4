"""Moments and spans as people write and read them. A moment without a zone is UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_UNITS = {"ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9}
_SPAN = re.compile(rf"(\d+(?:\.\d+)?)\s*({'|'.join(_UNITS)})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(at_ns: int, digits: int = 0) -> str:
    """Date and time, with so many digits of a second.

    >>> moment(1_700_000_000_500_000_000), moment(1_700_000_000_500_000_000, 3)
    ('2023-11-14 22:13:20Z', '2023-11-14 22:13:20.500Z')
    """
    whole, rest = divmod(at_ns, 10**9)
    text = datetime.fromtimestamp(whole, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{f'{rest:09d}'[:digits]}Z" if digits else f"{text}Z"


def span_ns(text: str, option: str) -> int:
    """Nanoseconds of a span, more than none. ValueError that names the option.

    >>> span_ns("1.5min", "--every")
    90000000000
    """
    found = _SPAN.fullmatch(text.strip())
    length = round(float(found[1]) * _UNITS[found[2]]) if found else 0
    if not 0 < length < 2**63:
        raise ValueError(f"{option} {text}: such as 500ms, 10s, 5min, 2h or 1d")
    return length


def moment_ns(text: str, now_ns: int, option: str) -> int:
    """Nanoseconds of a time, or of so long ago. ValueError that names the option.

    >>> moment_ns("2min", 300_000_000_000, "--since")
    180000000000
    """
    ago = _SPAN.fullmatch(text.strip())
    if ago:
        return now_ns - round(float(ago[1]) * _UNITS[ago[2]])
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"{option} {text}: such as 2026-11-23T14:05:00, or 10min") from None
    since = (found if found.tzinfo else found.replace(tzinfo=UTC)) - _EPOCH
    return since // timedelta(microseconds=1) * 1000
