"""DataSense's own table: into our form and back without a change, and what is missing in it."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cellwatch.models.features import datasense
from cellwatch.models.features.columns import DATASENSE_COLUMNS, LIST_COLUMNS
from cellwatch.models.features.schema import SchemaMismatchError, default_schema, named_schema

DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[4] / "shared" / "data"))
ARCHIVE = DATA / "datasense" / "benign_samples_10sec.csv.tar.xz"


@pytest.fixture(scope="module")
def table():
    if not ARCHIVE.exists():
        pytest.skip(f"{ARCHIVE} is absent; set CELLWATCH_DATA")
    return datasense.read(ARCHIVE)


def test_there_and_back_gives_the_same_bytes(table, tmp_path: Path) -> None:
    assert tuple(table.column_names) == DATASENSE_COLUMNS
    back = datasense.from_ours(datasense.to_ours(table))
    assert back.equals(table)
    writer = datasense.CsvWriter(tmp_path / "back.csv")
    for start in (0, 5000, 10_000):
        writer.write_table(back.slice(start, 5000))
    writer.close()
    with tarfile.open(ARCHIVE) as archive:
        member = next(m for m in archive if m.name.endswith(".csv") and not Path(m.name).name.startswith("."))
        handle = archive.extractfile(member)
        assert handle is not None
        assert (tmp_path / "back.csv").read_bytes() == handle.read()


def test_nothing_is_nan_and_a_number_stays(table) -> None:
    ours = datasense.to_ours(table)
    packets = ours["network_packets_all_count"].to_numpy()
    messages = ours["log_messages_count"].to_numpy()
    for name in datasense.NUMERIC:
        values, given = ours[name].to_numpy().astype(float), table[name].to_numpy()
        missing = np.isnan(values)
        assert (given[missing] == 0).all(), name
        empty = packets == 0 if name.startswith("network_") else messages == 0
        if name in datasense.INTEGERS:
            assert not missing.any(), name
        else:
            assert missing[empty].all(), name
    assert np.isnan(ours["network_mss_avg"].to_numpy()[packets > 0]).any()
    assert not np.isnan(ours["network_time-delta_avg"].to_numpy()[packets > 0]).any()


def test_lists_are_as_long_as_their_counts(table) -> None:
    for name in LIST_COLUMNS:
        # DataSense counts the sources under `macs_dst_count`; its list is right.
        named = name.replace("macs_dst", "macs_src")
        lengths = [len(cell) for cell in table[named].to_pylist()]
        assert lengths == table[f"{name}_count"].to_pylist(), name


def test_what_is_no_such_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(datasense.TableError, match="lacks 'device_name'"):
        datasense.read(tmp_path / "other.csv")
    (tmp_path / "broken.csv.tar.xz").write_bytes(b"no archive")
    with pytest.raises(datasense.TableError, match=r"broken\.csv\.tar\.xz"):
        datasense.read(tmp_path / "broken.csv.tar.xz")


def test_the_17_features_are_a_schema_of_their_own() -> None:
    seventeen = named_schema("datasense17")
    assert len(seventeen.names) == 17
    assert set(seventeen.names) < set(DATASENSE_COLUMNS)
    assert type(seventeen).from_json(seventeen.to_json(chosen_from="a table")) == seventeen
    with pytest.raises(SchemaMismatchError) as caught:
        seventeen.require(default_schema().schema_id, "model")
    assert seventeen.schema_id in str(caught.value)
    assert default_schema().schema_id in str(caught.value)
    with pytest.raises(ValueError, match="no schema is called"):
        named_schema("datasense18")
    changed = seventeen.to_json().replace("network_ttl_avg", "network_ttl_max")
    with pytest.raises(SchemaMismatchError):
        type(seventeen).from_json(changed)
