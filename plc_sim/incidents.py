"""Labels: what went wrong in the plant, when, and whom it touched."""

from __future__ import annotations

from dataclasses import asdict, dataclass

OPEN_END_NS = 2**63 - 1  # "to the end of the run", whose time is not known yet


@dataclass(frozen=True, slots=True)
class Incident:
    """One labelled stretch of time, half open: [onset_ns, end_ns)."""

    name: str
    kind: str  # "fault" | "attack"
    category: str  # "fault" or a DataSense category: "dos", "recon", ...
    type: str
    device: str  # target
    onset_ns: int
    end_ns: int
    devices: tuple[str, ...] = ()  # all that it touches; an attacker by name and by MAC
    attack_id: str | None = None  # ATT&CK for ICS technique

    def to_json(self) -> dict[str, object]:
        """Return a JSON object with the field names above."""
        return asdict(self)
