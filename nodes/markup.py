"""Pieces of an HTML page. Whatever they are given as text is made safe here and nowhere else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

NONE = "–"  # stands where nothing was measured


def safe(value: object) -> str:
    """Any text, safe in HTML; control characters (a terminal's colours, say) are shown as unknown.

    >>> safe("a < b"), safe(None)
    ('a &lt; b', '–')
    """
    if value is None:
        return NONE
    return escape("".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in str(value)))


def number(value: object) -> str:
    """Three significant digits, whole thousands; anything else as it is.

    >>> number(0.98765), number(12345.6), number(3)
    ('0.988', '12,346', '3')
    """
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return safe(value)


def percent(share: float) -> str:
    """A share in whole percent; only nothing reads 0, only all of it 100.

    >>> percent(0.5), percent(0.001), percent(0.999)
    ('50', '<1', '>99')
    """
    if 0 < share < 0.005:
        return "<1"
    return ">99" if 0.995 <= share < 1 else f"{100 * share:.0f}"


def cell(value: object, kind: str = "") -> str:
    """A cell of a table, of a class of the page's style (`best`, `bad`, `words`) if one is named."""
    return f'<td class="{kind}">{number(value)}</td>' if kind else f"<td>{number(value)}</td>"


def heat(share: float | None) -> str:
    """A cell with a share (0..1) in percent, the darker, the more."""
    if share is None:
        return cell(None)
    return f'<td class="heat" style="--s:{min(max(share, 0.0), 1.0):.2f}">{escape(percent(share))}</td>'


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    groups: Sequence[tuple[str, int]] = (),
    words: Collection[str] = (),
    failed: Sequence[tuple[str, str]] = (),
    sortable: bool = True,
) -> str:
    """A table of finished cells, "" without rows.

    `groups` are headings over columns, from the second on: name, how many; `words` names the headings of
    columns of text. `failed` (name, why) come last.
    """
    if not rows and not failed:
        return ""
    above = "".join(f'<th class="group" colspan="{n}">{safe(name)}</th>' for name, n in groups)
    top = f"<tr><th></th>{above}</tr>" if groups else ""
    head = "".join(f"<th{' class=words' if name in words else ''}>{safe(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    span = max(1, len(heads) - 1)
    body += "".join(
        f'<tr class="failed">{cell(name)}<td class="words" colspan="{span}">{safe(why)}</td></tr>'
        for name, why in failed
    )
    kind = ' class="sortable"' if sortable else ""
    whole = f"<thead>{top}<tr>{head}</tr></thead><tbody>{body}</tbody>"
    return f'<div class="wide"><table{kind}>{whole}</table></div>'


def figure(caption: str, drawn: str, note: str = "") -> str:
    """A drawn picture under its caption, "" without a picture."""
    if not drawn:
        return ""
    small = f"<small>{safe(note)}</small>" if note else ""
    return f'<figure><figcaption>{safe(caption)}{small}</figcaption><div class="wide">{drawn}</div></figure>'


def many(figures: Iterable[str]) -> str:
    """Figures side by side, "" if there is none."""
    shown = "".join(figures)
    return f'<div class="many">{shown}</div>' if shown else ""


def folded(title: str, inside: str) -> str:
    """Something that opens on a click, without a script."""
    return f"<details><summary>{safe(title)}</summary>{inside}</details>" if inside else ""


def note(words: str) -> str:
    """A quiet paragraph of finished words."""
    return f'<p class="about">{words}</p>'
