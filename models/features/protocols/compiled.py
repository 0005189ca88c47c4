"""How the parsers are compiled: numba, without the interpreter lock, kept on disk.

Only the two entry points (`headers.parse_block`, `streams.follow`) are kept; what they call is compiled into
them. numba looks for changes in the entry point's own file only, so each entry point is built with the
`fingerprint` of all files here: a changed protocol is a new version, never a stale one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import types
from numpy.typing import DTypeLike, NDArray

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """`function` as machine code for other compiled functions."""
    dispatcher = numba.njit(nogil=True)(function)
    template = dispatcher.get_call_template
    # f(m, 1) and f(m, 2) are one function: numba would compile one for each constant.
    setattr(  # noqa: B010
        dispatcher,
        "get_call_template",
        lambda args, kws: template(tuple(map(types.unliteral, args)), kws),
    )
    return cast("F", dispatcher)


def entry(function: F) -> F:
    """`function` as machine code kept on disk; it has to name a fingerprint of its closure."""
    try:
        return cast("F", numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return cast("F", numba.njit(nogil=True)(function))


def fingerprint() -> str:
    """Hash of all sources that are compiled together."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()


def frozen(array: NDArray[Any], kind: DTypeLike) -> NDArray[Any]:
    """A contiguous read-only view (else a copy): one type for the compiler, whatever the caller holds."""
    view = np.ascontiguousarray(array, dtype=kind).view()
    view.flags.writeable = False
    return view
