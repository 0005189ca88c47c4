"""Another version of the models judges beside the one in service: rules, ensemble and fusion in one process.

They are the nodes of the cell once more, in the namespace CELL/shadow: what they say stays in there, commands
too, and nothing that they say on /diagnostics can be taken for the cell's own. `shadow_topics` names what
they hear of the cell, and what is let out: their fused verdicts, which become CELL/verdicts/shadow.

`python -m cellwatch.nodes.shadow --ros-args ...`, see `shadow_process`. It brings itself up, at low priority,
and ends with who started it.
"""

from __future__ import annotations

import os

from cellwatch.nodes.ensemble_node import EnsembleNode
from cellwatch.nodes.fusion_node import FusionNode
from cellwatch.nodes.ros.node import run
from cellwatch.nodes.rule_node import RuleNode

NICE = 10  # the windows of the cell go first


def main() -> int:
    os.nice(NICE)
    return run(FusionNode, EnsembleNode, RuleNode, up=True)  # who listens stands first


if __name__ == "__main__":
    raise SystemExit(main())
