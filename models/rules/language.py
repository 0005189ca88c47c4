"""The language of declared rules: a condition over tags and features, compiled to numpy.

    LIT101 > 90 and rate(LIT101, 10s) > 0.2
    XS101_MODE in (2, 3) and age(FIT101) > 5s
    'network_tcp-flags-syn_count' > 200

The text is parsed by `ast`; what is not in the tables below is refused, and nothing is ever evaluated as
Python. Values are series of windows, shape (rows, devices) or (rows, 1), newest row last. Logic has three
values (Kleene 1938): what compares with a missing number is unknown, and an unknown condition does not hold.
"""

from __future__ import annotations

import ast
import difflib
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cellwatch.models.features.schema import default_schema
from cellwatch.models.rules.functions import FUNCTIONS, Name, Part, Run, Source, apply
from cellwatch.models.types import F64

MAX_TEXT = 1000  # characters of a condition
MAX_SPAN_S = 3600.0
FEATURES = frozenset(default_schema().names)
FEATURE_PREFIXES = ("network_", "log_", "industrial_", "sensor_")
SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}

_QUOTED_OR_DURATION = re.compile(r"'[^']*'|\"[^\"]*\"|(?<![\w.])(\d+(?:\.\d+)?)(ms|s|min|h)\b")
_ARITHMETIC: dict[type[ast.operator], Callable[[F64, F64], F64]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARISONS: dict[type[ast.cmpop], tuple[str, Callable[[F64, F64], F64]]] = {
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
}
_SWAPPED = {">": "<", ">=": "<=", "<": ">", "<=": ">=", "==": "==", "!=": "!="}
_NEGATED = {">": "<=", ">=": "<", "<": ">=", "<=": ">", "==": "!=", "!=": "=="}


class ExpressionError(ValueError):
    """A condition that cannot be used; the text says which piece and why."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison as it stands in the text: what is observed, and the bound it must not cross."""

    text: str
    observed: Run
    sign: str  # the condition holds when observed `sign` bound
    bound: Run


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition."""

    text: str
    names: tuple[Name, ...]  # in the order of the text
    comparisons: tuple[Comparison, ...]
    before: Callable[[float], int]  # windows it looks back, from the window length in s
    _run: Run

    def holds(self, source: Source) -> F64:
        """Whether it holds in the newest window, shape (devices,) or (1,): 1, 0, NaN = unknown."""
        held: F64 = self._run(source, 1)[-1]
        return held

    def cause(self, source: Source, row: int) -> tuple[str, float, float, float]:
        """What to tell of a condition that holds for device `row`: text, observed, normal low and high.

        It is the last comparison that holds: guards, such as a mode, are written first.
        """
        told = [c for c in self.comparisons if _true(c, source, row)] or list(self.comparisons)
        if not told:
            return self.text, math.nan, math.nan, math.nan
        c = told[-1]
        observed, bound = _at(c.observed, source, row), _at(c.bound, source, row)
        low = bound if c.sign in {"<", "<=", "!="} else -math.inf
        high = bound if c.sign in {">", ">=", "!="} else math.inf
        return c.text, observed, low, high


def _at(run: Run, source: Source, row: int) -> float:
    values = run(source, 1)[-1]
    return float(values[row if len(values) > 1 else 0])


def _true(c: Comparison, source: Source, row: int) -> bool:
    compare = next(f for sign, f in _COMPARISONS.values() if sign == c.sign)
    return bool(compare(np.array(_at(c.observed, source, row)), np.array(_at(c.bound, source, row))))


def compile_condition(text: str) -> Condition:
    """Compile a condition. ExpressionError if it is not one.

    >>> compile_condition("LIT101 > 90 and rate(LIT101, 10s) > 0.2").names
    (Name(text='LIT101', feature='', device=''),)
    >>> compile_condition("LIT101.real > 1")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    ExpressionError: 'LIT101.real' cannot be used in a rule
    """
    if len(text) > MAX_TEXT:
        raise ExpressionError(f"longer than {MAX_TEXT} characters")
    try:
        tree = ast.parse(_QUOTED_OR_DURATION.sub(_in_seconds, text.strip()), mode="eval")
        compiler = _Compiler()
        part = compiler.condition(tree.body)
    except SyntaxError as error:
        raise ExpressionError(f"not an expression: {error.msg}") from None
    except (RecursionError, MemoryError, OverflowError, ValueError) as error:
        if isinstance(error, ExpressionError):
            raise
        raise ExpressionError(f"not an expression: {error}") from None
    if not compiler.names:
        raise ExpressionError("names no tag and no feature")
    names = tuple(compiler.names.values())
    return Condition(text.strip(), names, tuple(compiler.comparisons), part.before, part.run)


def seconds(text: str) -> float:
    """A span such as 500ms, 3s, 1.5min or 1h, in s. ValueError for anything else.

    >>> seconds("1.5min")
    90.0
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h)\s*", text)
    if match is None:
        raise ValueError(f"'{text}' is not a span of time such as 3s, 500ms or 5min")
    return float(match[1]) * SECONDS[match[2]]


def _in_seconds(match: re.Match[str]) -> str:
    return repr(float(match[1]) * SECONDS[match[2]]) if match[1] else match[0]


class _Compiler:
    """One walk over the tree; collects names and the comparisons that may explain a verdict."""

    def __init__(self) -> None:
        self.names: dict[str, Name] = {}
        self.comparisons: list[Comparison] = []
        self._negated = False
        self._inside = 0  # depth of function calls

    # ------------------------------------------------------------------ kinds
    def condition(self, node: ast.expr) -> Part:
        part = self._part(node)
        if not part.condition:
            raise ExpressionError(f"'{_text(node)}' is a number: compare it, as in {_text(node)} > 0")
        return part

    def number(self, node: ast.expr) -> Part:
        part = self._part(node)
        if part.condition:
            raise ExpressionError(f"'{_text(node)}' is a condition where a number is needed")
        return part

    def _part(self, node: ast.expr) -> Part:
        match node:
            case ast.BoolOp():
                return self._logic(node)
            case ast.UnaryOp(op=ast.Not()):
                self._negated = not self._negated
                inner = self.condition(node.operand)
                self._negated = not self._negated
                return Part(lambda s, n: 1.0 - inner.run(s, n), inner.before, condition=True)
            case ast.UnaryOp(op=ast.USub()):
                inner = self.number(node.operand)
                return Part(lambda s, n: -inner.run(s, n), inner.before, constant=inner.constant)
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                return self._arithmetic(node)
            case ast.Compare():
                return self._compare(node)
            case ast.Call(func=ast.Name()):
                return self._call(node)
            case ast.Name() | ast.Constant(value=str()):
                return self._name(node.id if isinstance(node, ast.Name) else str(node.value))
            case ast.Constant() if (number := _constant(node)) is not None:
                value = np.full((1, 1), number)
                return Part(lambda _s, n: np.repeat(value, n, axis=0), lambda _w: 0, constant=True)
        raise ExpressionError(f"'{_text(node)}' cannot be used in a rule")

    # ------------------------------------------------------------------ logic
    def _logic(self, node: ast.BoolOp) -> Part:
        parts = [self.condition(value) for value in node.values]
        decisive = 0.0 if isinstance(node.op, ast.And) else 1.0  # one of these settles it, known or not

        def run(source: Source, rows: int) -> F64:
            values = np.broadcast_arrays(*(p.run(source, rows) for p in parts))
            settled = np.any([v == decisive for v in values], axis=0)
            unknown = np.any([np.isnan(v) for v in values], axis=0)
            return np.where(settled, decisive, np.where(unknown, np.nan, 1.0 - decisive))

        return Part(run, _most(parts), condition=True)

    def _compare(self, node: ast.Compare) -> Part:
        if isinstance(node.ops[0], ast.In | ast.NotIn):
            return self._among(node)
        place = len(self.comparisons)
        parts = [self.number(v) for v in (node.left, *node.comparators)]
        compares = []
        found = []
        nodes = (node.left, *node.comparators)
        for i, op in enumerate(node.ops):
            if type(op) not in _COMPARISONS:
                raise ExpressionError(
                    f"'{_text(node)}' cannot be used in a rule: compare with < <= > >= == !="
                )
            sign, compare = _COMPARISONS[type(op)]
            left, right, what = parts[i], parts[i + 1], nodes[i]
            compares.append(compare)
            if left.constant:
                left, right, what, sign = right, left, nodes[i + 1], _SWAPPED[sign]
            sign = _NEGATED[sign] if self._negated else sign
            found.append(Comparison(_text(what), left.run, sign, right.run))
        if not self._inside:
            self.comparisons[place:place] = found

        def run(source: Source, rows: int) -> F64:
            values = [p.run(source, rows) for p in parts]
            held = [
                np.where(np.isnan(a) | np.isnan(b), np.nan, f(a, b))
                for f, a, b in zip(compares, values, values[1:], strict=False)
            ]
            out = held[0]
            for more in held[1:]:
                out = np.where((out == 0) | (more == 0), 0.0, out * more)
            return out

        return Part(run, _most(parts), condition=True)

    def _among(self, node: ast.Compare) -> Part:
        """`X in (1, 2)` and `X not in (1, 2)`, of plain numbers."""
        values = node.comparators[0]
        elements = values.elts if isinstance(values, ast.Tuple | ast.List) else []
        numbers = [number for e in elements if (number := _constant(e)) is not None]
        if len(node.ops) > 1 or not numbers or len(numbers) != len(elements):
            raise ExpressionError(f"'{_text(node)}': after 'in' stands a list of numbers, as in (1, 2)")
        part = self.number(node.left)
        wanted = not isinstance(node.ops[0], ast.NotIn)

        def run(source: Source, rows: int) -> F64:
            x = part.run(source, rows)
            return np.where(np.isnan(x), np.nan, np.isin(x, numbers) == wanted)

        return Part(run, part.before, condition=True)

    # ------------------------------------------------------------------ numbers
    def _arithmetic(self, node: ast.BinOp) -> Part:
        left, right, f = self.number(node.left), self.number(node.right), _ARITHMETIC[type(node.op)]

        def run(source: Source, rows: int) -> F64:
            with np.errstate(divide="ignore", invalid="ignore"):
                out = f(left.run(source, rows), right.run(source, rows))
            return np.where(np.isfinite(out), out, np.nan)  # x / 0 is unknown

        return Part(run, _most([left, right]), constant=left.constant and right.constant)

    def _name(self, text: str) -> Part:
        device, _, feature = text.rpartition("/")
        if feature in FEATURES:
            name = Name(text, feature, device)
        elif feature.startswith(FEATURE_PREFIXES):
            cut = sorted(f for f in FEATURES if f.startswith(f"{feature}-"))
            near = difflib.get_close_matches(feature, FEATURES, 1)
            cure = f"names with a hyphen stand in quotes, as '{cut[0]}'" if cut else ""
            cure = cure or (f"did you mean '{near[0]}'?" if near else "see docs/features.md")
            raise ExpressionError(f"no feature is called '{feature}'; {cure}")
        else:
            name = Name(text)
        self.names.setdefault(text, name)
        return Part(lambda s, n: s.series(name, "avg", n), lambda _w: 0, name=name)

    def _call(self, node: ast.Call) -> Part:
        assert isinstance(node.func, ast.Name)
        function, text = node.func.id, _text(node)
        if function not in FUNCTIONS:
            raise ExpressionError(f"no function is called '{function}'; there are: {', '.join(FUNCTIONS)}")
        if node.keywords or not 1 <= len(node.args) <= 2:
            raise ExpressionError(f"'{text}': write {function}(NAME) or {function}(NAME, 10s)")
        span_s = None
        if len(node.args) == 2:
            span_s = _constant(node.args[1])
            if span_s is None:
                raise ExpressionError(f"'{text}': the span must be a time, as in {function}(NAME, 10s)")
            if not 0 < span_s <= MAX_SPAN_S or function in {"age", "missing", "abs"}:
                why = f"0 to {MAX_SPAN_S:g} s" if function not in {"age", "missing", "abs"} else "no span"
                raise ExpressionError(f"'{text}': {function}() takes {why}")
        self._inside += 1
        inner = self._part(node.args[0])
        self._inside -= 1
        # Every row of the outer time looks at a whole inner time: together they must stay small.
        if (span_s or 1.0) * inner.before(1.0) > MAX_SPAN_S:
            raise ExpressionError(
                f"'{text}': a time in a time: their product must be at most {MAX_SPAN_S:g} s2"
            )
        if inner.condition != (function == "count" and inner.condition):
            raise ExpressionError(f"'{text}': {function}() takes a number, not a condition")
        tag = inner.name is not None and not inner.name.feature
        if function in {"age", "good"} and not tag:
            raise ExpressionError(f"'{text}': {function}() takes a tag")
        if function == "count" and not tag and not inner.condition:
            raise ExpressionError(f"'{text}': count() takes a tag (its samples) or a condition (windows)")
        if function == "std" and not tag and span_s is None:
            raise ExpressionError(f"'{text}': of a feature std() needs a span, as in std(NAME, 30s)")
        return apply(function, inner, span_s, inner.name if tag else None)


def _constant(node: ast.expr) -> float | None:
    """A plain number, None for anything else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _constant(node.operand)
        return None if number is None else -number
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and node.value is not True:
        return None if node.value is False else float(node.value)
    return None


def _text(node: ast.AST) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)


def _most(parts: list[Part]) -> Callable[[float], int]:
    return lambda window_s: max(p.before(window_s) for p in parts)
