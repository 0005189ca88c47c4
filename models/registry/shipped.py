"""sha256 of the manifests that come with this release: what is listed here needs no signature.

`cellwatch registry ship FOLDER` prints the line of a new one.
"""

from __future__ import annotations

SHIPPED: frozenset[str] = frozenset(
    {
        "bac68ff85b06e48cbcf7b21f2e5328b8c142bb0cb79d95b344f8fae7f6c5ec8f",  # bench
        "0ccc3ec950794606aecaf2ad790afcb7c80c54dd66f39ee7e0740c508d710547",  # factory
        "f5ae33c967fa8b2ce969f9b0bb540297fb6a27b9b4bf7e3f5affab84d397edc5",  # EWAD of bench
        "acd09eb84e45becff4b06bed88f19fadb3bf43f906e4793ccb0f49c70430ed7f",  # EWAD of factory
    }
)
