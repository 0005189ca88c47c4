"""Which status signal of NAMUR NE 107 a trouble stands for."""

from __future__ import annotations

from cellwatch.models.types import Ne107

# By words in the name of a fault: what grows slowly, so that the repair can be planned ...
_WEAR = ("wear", "fouling", "bearing", "stiction", "clogging", "leak")
# ... and a reading that goes on with more error than its specification allows.
_UNCERTAIN = ("drift", "bias", "noise")
# Attacks after which what the device says, or is told, is not to be trusted.
_FALSIFIED = frozenset({"mitm", "ics", "malware"})


def status_signal(
    category: str, attack_type: str = "", *, active: bool, in_maintenance: bool = False
) -> Ne107:
    """NE 107 signal of a device with a trouble of `category`; `attack_type` as "fault/pump_wear".

    NE 107 knows no attacks. One that falsifies the device's signals counts as its failure, any other as
    operation out of specification.

    >>> status_signal("fault", "fault/pump_wear", active=True).name
    'MAINTENANCE_REQUIRED'
    """
    if in_maintenance:
        return Ne107.FUNCTION_CHECK
    if not active:
        return Ne107.NORMAL
    if category == "fault":
        if any(word in attack_type for word in _WEAR):
            return Ne107.MAINTENANCE_REQUIRED
        return Ne107.OUT_OF_SPECIFICATION if any(w in attack_type for w in _UNCERTAIN) else Ne107.FAILURE
    return Ne107.FAILURE if category in _FALSIFIED else Ne107.OUT_OF_SPECIFICATION
