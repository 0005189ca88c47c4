"""SYN scan of one device, as nmap -sS does it."""

from __future__ import annotations

import numpy as np

from cellwatch.plc_sim.attacks.attack import Running, Scene
from cellwatch.plc_sim.attacks.packets import initial, masked, syn_answers, tcp_block
from cellwatch.plc_sim.attacks.victims import flood_effects, open_ports
from cellwatch.plc_sim.frames import I64, MSS_OPTION, SYN


class PortScan(Running):
    """SYN scan of the ports 1-8191 in a shuffled order (nmap -sS)."""

    def __init__(
        self, scene: Scene, per_s: tuple[float, float], bench_per_s: tuple[float, float] | None = None
    ) -> None:
        """`per_s`: ports per second at sizes 0 and 1."""
        super().__init__(scene)
        self.per_s = scene.between(*(bench_per_s if bench_per_s and scene.site.name == "bench" else per_s))
        self.sport = int(self.rng.integers(33000, 65000))
        self.open_ports = np.array(open_ports(self.target.name), np.int64)

    def act(self, begin_ns: int, end_ns: int) -> None:
        """Probe the next ports."""
        at = self.moments(self.per_s, begin_ns, end_ns)
        dport = 1 + (self.sent + np.arange(len(at))) * 2654435761 % 8191
        self.sent += len(at)
        self.scan(at, dport)
        flood_effects(self.effects, self.target.name, 0.2 * self.per_s)

    def scan(self, at: I64, dport: I64) -> None:
        """SYN to each port and what comes back."""
        src = masked(self.attacker, window=1024)
        asked = tcp_block(
            src, self.target, at, self.sport, dport, SYN, initial(self.rng, len(at)), options=MSS_OPTION
        )
        self.blocks.append(asked)
        is_open = np.isin(dport, self.open_ports)
        self.blocks += syn_answers(self.rng, asked, is_open, self.target, self.attacker)
