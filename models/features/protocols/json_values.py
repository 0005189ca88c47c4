"""Numbers and kinds of fields in a JSON payload, in one pass without building anything."""

from __future__ import annotations

from typing import Any

from cellwatch.models.features.protocols.codes import ARRAY, NUMERIC, STRING
from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.features.protocols.reading import u8
from cellwatch.models.types import U8

_DEEPEST = 62  # nested arrays and objects that are told apart


@compiled
def _number(m: U8, at: int) -> tuple[int, float]:
    """Place behind the number at `at`, and its value; the place is `at` where there is none."""
    start, sign = at, 1.0
    if u8(m, at) == 45:
        sign = -1.0
        at += 1
    value, digits, exponent = 0.0, 0, 0
    while 48 <= u8(m, at) <= 57:
        value = value * 10.0 + (u8(m, at) - 48)
        digits += 1
        at += 1
    if u8(m, at) == 46:
        at += 1
        while 48 <= u8(m, at) <= 57:
            value = value * 10.0 + (u8(m, at) - 48)
            exponent -= 1
            digits += 1
            at += 1
    if digits == 0:
        return start, 0.0
    if u8(m, at) in (69, 101):
        back, negative, power, found = at, False, 0, False
        at += 1
        if u8(m, at) in (43, 45):
            negative = u8(m, at) == 45
            at += 1
        while 48 <= u8(m, at) <= 57:
            power = min(power * 10 + u8(m, at) - 48, 10_000)
            found = True
            at += 1
        if found:
            exponent += -power if negative else power
        else:
            at = back
    if value != 0.0:
        # A negative power is divided: 1/10 has no exact double, 10 has.
        value = value * 10.0**exponent if exponent >= 0 else value / 10.0**-exponent
    return at, sign * value


@compiled
def read_values(m: U8, at: int, cut: bool, out: Any) -> None:
    """Kinds of the fields of the payload m[at:], and extremes, sum and squares of its finite numbers.

    A field is a value of an object, or the payload itself. A field that holds an array is ARRAY, and the
    numbers in it count among the numbers. What is no JSON ends the reading where it stops to be JSON. `cut`:
    more bytes follow behind m, so that what touches its end is not known.
    """
    depth, arrays = 0, 0  # `arrays`: one bit a level, 1 = array
    end = len(m)
    while at < end:
        c = u8(m, at)
        inside = depth > 0 and arrays & 1 == 1
        if c in (32, 9, 10, 13, 44, 58):  # blanks , :
            at += 1
        elif c == 34:
            at += 1
            while at < end and u8(m, at) != 34:
                at += 2 if u8(m, at) == 92 else 1
            at += 1
            while u8(m, at) in (32, 9, 10, 13) and at < end:
                at += 1
            if cut and at >= end:
                return
            if u8(m, at) != 58 and not inside:  # else it is the name of a field
                out.value_kinds |= STRING
        elif c in (91, 123):  # [ {
            if depth == _DEEPEST:
                return
            if c == 91:
                out.value_kinds |= ARRAY
            arrays = arrays << 1 | (1 if c == 91 else 0)
            depth += 1
            at += 1
        elif c in (93, 125):  # ] }
            if depth == 0:
                return
            arrays >>= 1
            depth -= 1
            at += 1
        elif c == 45 or 48 <= c <= 57:
            behind, value = _number(m, at)
            if behind == at or (cut and (behind == end or u8(m, behind) in (69, 101))):
                return
            at = behind
            if not inside:
                out.value_kinds |= NUMERIC
            if abs(value) < 1e150:  # its square is finite
                out.value_low = min(out.value_low, value) if out.value_count else value
                out.value_high = max(out.value_high, value) if out.value_count else value
                out.value_sum += value
                out.value_squares += value * value
                out.value_count += 1
        elif c in (116, 102, 110):  # true false null
            while 97 <= u8(m, at) <= 122:
                at += 1
        else:
            return
