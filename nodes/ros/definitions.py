"""Texts of message types, as who opens a recording needs them (the encoding `ros2msg`)."""

from __future__ import annotations

import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

RULE = "=" * 80
_TYPE = re.compile(r"[a-z]\w*/[A-Z]\w*")  # in what a message says of its fields
_SEQUENCE = re.compile(r"sequence<(.+?)(?:, (\d+))?>")
_BOUNDED_STRING = re.compile(r"(w?string)<(\d+)>")
# IDL has other names for some types of a .msg.
_PLAIN = {"boolean": "bool", "octet": "byte", "float": "float32", "double": "float64"}


def type_name(kind: Any) -> str:
    """Name of a message class.

    >>> from std_msgs.msg import Header
    >>> type_name(Header)
    'std_msgs/msg/Header'
    """
    return f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}"


def definition(kind: Any) -> str:
    """Text of a message class and, below a rule and its name, of each type that it is made of."""
    texts: dict[str, str] = {}
    todo = [kind]
    while todo:
        one = todo.pop(0)
        name = type_name(one).replace("/msg/", "/")
        if name in texts:
            continue
        texts[name] = _text(one)
        named = _TYPE.findall(" ".join(one.get_fields_and_field_types().values()))
        todo += [
            getattr(import_module(f"{package}.msg"), short)
            for package, short in (name.split("/") for name in named)
        ]
    (_, first), *parts = texts.items()
    return first + "".join(f"{RULE}\nMSG: {name}\n{text}" for name, text in parts)


def _text(kind: Any) -> str:
    """The .msg file as installed with its package; without it, what the class tells of its fields.

    The file is worth the search: it has the constants and the comments.
    """
    package, _, name = type_name(kind).split("/")
    beside = Path("share", package, "msg", f"{name}.msg")  # of every prefix: wheels, colcon, /opt/ros
    for prefix in Path(str(sys.modules[package].__file__)).parents:
        try:
            return (prefix / beside).read_text(encoding="utf-8").rstrip() + "\n"
        except OSError:
            continue
    return "".join(f"{_msg(type_)} {field}\n" for field, type_ in kind.get_fields_and_field_types().items())


def _msg(idl: str) -> str:
    """A type as a .msg writes it.

    >>> [_msg(x) for x in ("double", "sequence<float>", "sequence<a/B, 1>", "octet[4]", "string<8>")]
    ['float64', 'float32[]', 'a/B[<=1]', 'byte[4]', 'string<=8']
    """
    if match := _SEQUENCE.fullmatch(idl):
        return f"{_msg(match[1])}[{'<=' + match[2] if match[2] else ''}]"
    plain, bracket, size = idl.partition("[")
    plain = _BOUNDED_STRING.sub(r"\1<=\2", plain)
    return _PLAIN.get(plain, plain) + bracket + size
