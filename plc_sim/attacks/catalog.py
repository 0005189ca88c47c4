"""All attacks by name: the 49 types of DataSense and the category `ics`."""

from __future__ import annotations

from cellwatch.plc_sim.attacks import bruteforce, dos, ics, malware, mitm, recon, web
from cellwatch.plc_sim.attacks.attack import Attack

ATTACKS: dict[str, Attack] = {
    attack.name: attack
    for part in (dos, recon, web, mitm, malware, bruteforce, ics)
    for attack in part.ATTACKS
}
