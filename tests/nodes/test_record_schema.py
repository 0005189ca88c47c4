"""The one schema of the record: the encoders keep to it, and the docs show it."""

from __future__ import annotations

from cellwatch.nodes.drivers.line_protocol import parse_line
from cellwatch.nodes.drivers.record_schema import BY_NAME, SCHEMA, as_markdown, field_of

NOW = 1_700_000_000_000_000_000


def test_the_encoders_write_what_the_schema_says_and_all_of_it(one_of_each):
    seen = set()
    for row in one_of_each(NOW).splitlines():
        point = parse_line(row)
        schema = BY_NAME[point.measurement]
        assert set(point.tags) <= set(schema.tags), row
        seen |= {(point.measurement, tag) for tag in point.tags}
        for name, value in point.fields.items():
            field = schema.field(name)
            assert field is not None, (point.measurement, name)
            assert type(value) is field.kind, (point.measurement, name)
            seen.add((point.measurement, field.name))
    for schema in SCHEMA:
        names = [*schema.tags, *(field.name for field in schema.fields)]
        assert {(schema.name, name) for name in names} <= seen
        assert len(names) == len(set(names))


def test_a_field_of_a_family_and_one_that_is_not():
    assert field_of("verdicts", "p_dos").kind is float
    assert field_of("features", "held").kind is bool
    assert (field_of("verdicts", "q_dos"), field_of("nothing", "x")) == (None, None)


def test_the_page_of_the_docs_shows_the_schema(root):
    assert as_markdown() in (root / "docs" / "recording.md").read_text()
