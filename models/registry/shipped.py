"""sha256 of the manifests that come with this release: what is listed here needs no signature.

`cellwatch registry ship FOLDER` prints the line of a new one.
"""

from __future__ import annotations

SHIPPED: frozenset[str] = frozenset(
    {
        "bac68ff85b06e48cbcf7b21f2e5328b8c142bb0cb79d95b344f8fae7f6c5ec8f",  # bench
        "0ccc3ec950794606aecaf2ad790afcb7c80c54dd66f39ee7e0740c508d710547",  # factory
        "cd3dc0abbfbcbd1fef4eab9089fa36760311c5a4ddece83e6b67cd6d3bab488f",  # EWAD of bench
        "ed9cbab310e21e445f384e7c8ff62af74a09c45b708d9f9acdcea7adfa8a8d06",  # EWAD of factory
    }
)
