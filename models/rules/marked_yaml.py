"""YAML whose errors name file, line and field."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Any

import yaml

MAX_NODES = 100_000  # an alias that is used over and over must not fill the memory

Path = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """Scalars of the core schema of YAML 1.2: `0x4`, `010`, `1:30` and `yes` are texts, not numbers."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A node; tags such as !!bool are refused, for what stands there is what is meant."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise yaml.composer.ComposerError(
                None, None, f"the tag '{tag}' is not accepted", event.start_mark
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        return node


_Loader.yaml_implicit_resolvers = {}
for tag, pattern, first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?(?:0|[1-9]\d*)", list("-+0123456789")),
    ("float", r"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), first)


class MarkedError(ValueError):
    """A file that cannot be used: `FILE:LINE: FIELD: why`."""


class Marked:
    """A value of a YAML file together with where it stands."""

    def __init__(self, file: str, value: Any, path: Path, lines: dict[Path, int]) -> None:
        self.file = file
        self.value = value
        self.path = path
        self._lines = lines

    @classmethod
    def parse(cls, text: str, file: str) -> Marked:
        """Read one document. MarkedError if it is not YAML, or has a key twice."""
        lines: dict[Path, int] = {}
        loader = None
        try:
            loader = _Loader(text)
            node = loader.get_single_node()
            value = None if node is None else _build(loader, node, (), lines, file)
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise MarkedError(f"{file}:{line}: not YAML: {error.reason}: U+{error.character:04X}") from None
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
            raise MarkedError(f"{file}:{line}: not YAML: {error.problem}") from None
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            if isinstance(error, MarkedError):
                raise
            raise MarkedError(f"{file}:1: not YAML: {error}") from None
        finally:
            if loader is not None:
                loader.dispose()
        return cls(file, value, (), lines)

    @property
    def line(self) -> int:
        """Line of the file, from 1."""
        return self._lines.get(self.path) or self._lines.get(self.path[:-1], 1)

    @property
    def field(self) -> str:
        """Where it stands, as in rules[2].when."""
        text = ""
        for part in self.path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return text

    def error(self, why: object) -> MarkedError:
        """An error about this value."""
        where = f"{self.file}:{self.line}: "
        return MarkedError(where + (f"{self.field}: " if self.path else "") + str(why))

    # ------------------------------------------------------------------ structure
    def table(self, *allowed: str, required: tuple[str, ...] = ()) -> Marked:
        """Check that it is keys and values, of these keys only."""
        if not isinstance(self.value, dict):
            raise self.error(f"expected keys and values, found {_kind(self.value)}")
        for key in self.value:
            if key not in allowed:
                near = difflib.get_close_matches(str(key), allowed, 1)
                cure = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(allowed)}"
                raise self[key].error(f"unknown key; {cure}")
        for key in required:
            if key not in self.value:
                raise self.error(f"key '{key}' is missing")
        return self

    def __getitem__(self, key: str | int) -> Marked:
        value = self.value[key] if key in self else None
        return Marked(self.file, value, (*self.path, key), self._lines)

    def __contains__(self, key: str | int) -> bool:
        if isinstance(self.value, list):
            return isinstance(key, int) and 0 <= key < len(self.value)
        return isinstance(self.value, dict) and key in self.value

    def items(self) -> Iterator[Marked]:
        """The parts of a list; nothing if there is no value."""
        if self.value is None:
            return
        if not isinstance(self.value, list):
            raise self.error(f"expected a list, found {_kind(self.value)}")
        for i in range(len(self.value)):
            yield self[i]

    # ------------------------------------------------------------------ scalars
    def text(self, allowed: tuple[str, ...] = ()) -> str:
        """A text, "" if there is no value; one of `allowed` if any are given."""
        if self.value is None:
            return ""
        if not isinstance(self.value, str):
            raise self.error(f"expected a text, found {_kind(self.value)}")
        if allowed and self.value not in allowed:
            raise self.error(f"'{self.value}' is none of: {', '.join(allowed)}")
        return self.value

    def number(self, default: float) -> float:
        """A finite number, or `default` if there is no value."""
        if self.value is None:
            return default
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.error(f"expected a number, found {_kind(self.value)}")
        if not abs(self.value) < 1e300:
            raise self.error(f"expected a finite number, found {self.value}")
        return float(self.value)

    def names(self) -> tuple[str, ...]:
        """A name or a list of names, () if there is no value."""
        parts = (
            list(self.items()) if isinstance(self.value, list) else [self] if self.value is not None else []
        )
        for part in parts:
            if not part.text():
                raise part.error("expected a name")
        return tuple(part.text() for part in parts)


def _kind(value: object) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {value!r}"[:60]


def _build(loader: Any, node: yaml.Node, path: Path, lines: dict[Path, int], file: str) -> Any:
    lines[path] = node.start_mark.line + 1
    if len(lines) > MAX_NODES:
        raise MarkedError(f"{file}:1: more than {MAX_NODES} values")
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, part, (*path, i), lines, file) for i, part in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise MarkedError(f"{file}:{line}: a key must be a text")
            key = str(key_node.value)
            if key in found:
                raise MarkedError(f"{file}:{line}: {'.'.join(map(str, (*path, key)))}: key stands here twice")
            found[key] = _build(loader, value_node, (*path, key), lines, file)
            lines[(*path, key)] = line
        return found
    try:
        return loader.construct_object(node)
    except ValueError as error:  # a number with thousands of digits
        raise Marked(file, None, path, lines).error(error) from None
