"""Attacks on the simulated cell, one file a category; `ATTACKS` lists them all."""

from cellwatch.plc_sim.attacks.attack import Attack, Effects, Running
from cellwatch.plc_sim.attacks.catalog import ATTACKS

__all__ = ["ATTACKS", "Attack", "Effects", "Running"]
