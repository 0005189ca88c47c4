"""The live process: ready, start, writes, safe state, stop; FIFO readers that come and go; security."""

from __future__ import annotations

import asyncio
import json
import signal
import struct
import time

import pytest
from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from cellwatch.plc_sim import live
from cellwatch.plc_sim.cell import SCAN_NS, Cell
from cellwatch.plc_sim.incidents import OPEN_END_NS
from cellwatch.plc_sim.pcap import HEADER
from cellwatch.plc_sim.scenario import parse

EARLY = """
name: early
onset_s: [1, 1]
incidents:
  - fault: pump_wear
    duration_s: 60
"""


def test_ready_start_write_safe_state_stop(live_plant, tmp_path):
    scenario = tmp_path / "early.yaml"
    scenario.write_text(EARLY)
    labels = tmp_path / "labels.json"
    with live_plant("--scenario", scenario, "--seed", 4, "--labels", labels) as plant:
        assert plant.ready["devices"]["02:00:00:00:01:01"] == "PLC1"
        assert "LIT101" in plant.ready["tags"]

        async def talk():
            async with live_plant.connected(plant) as (client, tag):
                got = []

                class Handler:
                    def datachange_notification(self, _node, val, data):
                        got.append((val, data.monitored_item.Value.SourceTimestamp))

                level = await tag("LIT101")
                unit = await (await level.get_child("0:EngineeringUnits")).read_value()
                span = await (await level.get_child("0:EURange")).read_value()
                assert (unit.DisplayName.Text, span.Low, span.High) == ("%", 0.0, 100.0)
                assert (await level.read_type_definition()).Identifier == ua.ObjectIds.AnalogItemType
                subscription = await client.create_subscription(100, Handler())
                await subscription.subscribe_data_change(level)
                plant.start()
                incident = plant.wait("incident")
                assert incident["onset_ns"] - 1_000_000_000 == json.loads(labels.read_text())["start_ns"]
                await asyncio.sleep(2.0)
                await subscription.delete()
                assert len({value for value, _ in got}) >= 15  # a new value each scan
                assert abs(got[-1][1].timestamp() - time.time()) < 1.0  # stamped with the wall clock

                set_point = await tag("LIC101_SP")
                await set_point.write_value(55.0)
                assert await set_point.read_value() == 55.0
                assert plant.wait("write")["tag"] == "LIC101_SP"
                with pytest.raises(ua.uaerrors.BadOutOfRange):
                    await set_point.write_value(95.0)
                with pytest.raises(ua.uaerrors.BadTypeMismatch):
                    await set_point.write_value("high")
                with pytest.raises(ua.uaerrors.BadNotWritable):
                    await level.write_value(1.0)
                await (await tag("XS102_LOCK")).write_value(True)
                with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                    await set_point.write_value(50.0)
                assert await set_point.read_value() == 55.0

                await (await tag("XS101_SAFE")).write_value(True)
                assert plant.wait("safe_state")["at_ns"] > incident["onset_ns"]
                assert plant.wait("incident_end")["end_ns"] == 2**63 - 1
                await asyncio.sleep(0.3)
                assert await (await tag("XS101_MODE")).read_value() == 2
                assert await (await tag("LIC101_CV")).read_value() == 0.0
                assert json.loads(labels.read_text())["incidents"][0]["end_ns"] == 2**63 - 1

        asyncio.run(talk())
        code, err = plant.stop()
        assert (code, err) == (0, "")
        end = plant.wait("end")
        assert end["reason"] == "stopped"
        final = json.loads(labels.read_text())["incidents"][0]
        assert final["onset_ns"] < final["end_ns"] <= end["at_ns"]


def take(stream, size):
    got = b""
    while len(got) < size:
        part = stream.read(size - len(got))
        assert part, "the stream ended"
        got += part
    return got


def read_packets(path, count):
    """Header and `count` packets from a pcap stream; checks that each has a whole frame."""
    with path.open("rb", buffering=0) as stream:
        assert take(stream, 24) == HEADER
        times = []
        for _ in range(count):
            sec, nsec, size, full = struct.unpack("<IIII", take(stream, 16))
            assert size == full <= 1514
            take(stream, size)
            times.append(sec + nsec * 1e-9)
    return times


def test_fifo_without_reader_then_two_readers_then_sigterm(live_plant, tmp_path):
    fifo = tmp_path / "tap.fifo"
    with live_plant("--scenario", "quiet", "--fifo", fifo) as plant:
        time.sleep(1.0)  # nobody reads: the plant must not block
        first = read_packets(fifo, 10)
        assert abs(first[-1] - time.time()) < 1.0
        time.sleep(0.3)  # that reader is gone now
        second = read_packets(fifo, 10)
        assert second[0] > first[-1]
        plant.process.send_signal(signal.SIGTERM)
        code, err = plant.stop()
        assert (code, err) == (0, "")
        end = plant.wait("end")
        assert end["frames"] > end["unread"]["PcapFifo"] > 0
        assert end["late_scans"] <= 2
    assert not fifo.exists()


def test_secured_server_lets_in_only_its_user(live_plant, tmp_path):
    certs = tmp_path / "certs"
    args = ["--security", "basic256sha256", "--user", "cell", "--password-env", "PW", "--cert-dir", certs]
    with live_plant("--scenario", "quiet", *args, env={"PW": "s3cret"}) as plant:
        assert plant.ready["certificate"] == str(certs / "server_cert.der")
        assert (certs / "server_key.pem").stat().st_mode & 0o077 == 0

        async def connect(user, password):
            client = Client(plant.ready["endpoints"]["PLC1"])
            client.set_user(user)
            client.set_password(password)
            client.application_uri = "urn:cellwatch:test"
            await client.set_security(
                SecurityPolicyBasic256Sha256,
                str(tmp_path / "client.der"),
                str(tmp_path / "client.pem"),
                server_certificate=str(certs / "server_cert.der"),
            )
            async with client:
                ns = await client.get_namespace_index("urn:cellwatch:plc_sim")
                node = await client.nodes.objects.get_child([f"{ns}:PLC1", f"{ns}:LIT101"])
                return await node.read_value()

        async def talk():
            from asyncua.crypto.cert_gen import setup_self_signed_certificate
            from cryptography.x509.oid import ExtendedKeyUsageOID

            await setup_self_signed_certificate(
                tmp_path / "client.pem", tmp_path / "client.der", "urn:cellwatch:test", "localhost",
                [ExtendedKeyUsageOID.CLIENT_AUTH], {"commonName": "test"},
            )  # fmt: skip
            assert 50.0 < await connect("cell", "s3cret") < 70.0
            with pytest.raises(ua.UaError):
                await connect("cell", "wrong")
            with pytest.raises(ua.UaError):
                async with Client(plant.ready["endpoints"]["PLC1"]):
                    pass

        asyncio.run(talk())
        assert plant.stop()[0] == 0


def test_a_fast_plant_lives_more_seconds_than_the_clock_and_labels_them_so(live_plant):
    with live_plant("--speed", 20, "--seed", 1) as plant:
        begun = plant.start()["at_ns"]
        first = plant.wait("incident")

        async def times():
            async with live_plant.connected(plant) as (_, tag):
                node = await tag("LIT101")
                one = (await node.read_data_value()).SourceTimestamp
                await asyncio.sleep(1.0)
                return one, (await node.read_data_value()).SourceTimestamp

        one, other = asyncio.run(times())
        assert (other - one).total_seconds() > 3.0
        assert first["onset_ns"] - begun > 10e9  # as the scenario says, in the time of the plant
        assert plant.stop()[0] == 0


RESET = """
name: reset
onset_s: [1, 1]
duration_s: 60
reset_s: 10
incidents:
  - {fault: pump_wear, at_s: 1, duration_s: 20}
"""


@pytest.mark.parametrize("speed", [1, 3, 20])
def test_no_safe_state_is_missed_at_speed(speed):
    cell = Cell(parse(RESET, "reset"), 1, 10**18, network=False)
    cell.start(cell.time_ns)

    async def steps():
        while cell.time_ns < cell.zero_ns + 4_000_000_000:
            yield await live._scans(cell, speed)

    async def told():
        found = []
        async for step in steps():
            if not found and cell.time_ns >= cell.zero_ns + 1_900_000_000:
                cell.write("PLC1", "XS101_SAFE", 1.0)
            found += step.relabelled
        return found

    assert asyncio.run(told()) == [0]
    assert cell.labels[0].end_ns == OPEN_END_NS


def test_a_hint_stands_in_for_an_open_end_until_a_reset(tmp_path, capsys):
    said = live.Live(live.Options(1, labels=tmp_path / "labels.json", duration_hint_s=45.0), "reset")
    cell = Cell(parse(RESET, "reset"), 1, 10**18, network=False)
    cell.start(cell.time_ns)
    said.begin(cell.zero_ns, cell.labels)
    ends, written = [], []
    for k in range(1, 300):
        if k == 100:
            cell.write("PLC1", "XS101_SAFE", 1.0)
        step = cell.scan(cell.time_ns + SCAN_NS)
        if step.relabelled:
            live._announce(said, cell, step.relabelled)
            ends.append(cell.labels[0].end_ns)
            written.append(json.loads((tmp_path / "labels.json").read_text())["incidents"][0]["end_ns"])
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    printed = [each["end_ns"] for each in events if each["event"] == "incident_end"]
    hinted = cell.zero_ns + 45_000_000_000
    assert ends[0] == OPEN_END_NS
    assert hinted > ends[1] >= cell.zero_ns + 20_000_000_000  # the operator came 10 s later
    assert printed == written == [hinted, ends[1]]


def test_a_fast_plant_stamps_writes_with_its_own_time(live_plant):
    with live_plant("--scenario", "quiet", "--speed", 20) as plant:
        begun = plant.start()["at_ns"]

        async def talk():
            async with live_plant.connected(plant) as (_, tag):
                await asyncio.sleep(1.0)
                before = (await (await tag("LIT101")).read_data_value()).SourceTimestamp
                await (await tag("LIC101_SP")).write_value(55.0)
                return before

        before = asyncio.run(talk())
        at_ns = plant.wait("write")["at_ns"]
        assert at_ns * 1e-9 >= before.timestamp() - 1e-3
        assert at_ns - begun > 3e9
        assert plant.stop()[0] == 0
        assert plant.wait("end")["at_ns"] >= at_ns


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--seed", str(2**31)], "cannot be run"),
        (["--scenario", "nope"], "no scenario 'nope'"),
        (["--interface", "lo"], "only to a veth, TAP or dummy"),
        (["--interface", "nope0"], "is missing"),
        (["--security", "basic256sha256"], "--cert-dir"),
        (["--user", "cell"], "--password-env"),
        (["--fifo", __file__], "is not a FIFO"),
        (["--replay", "missing.csv"], "missing.csv: cannot be read"),
        (["--speed", "0.5"], "whole number of 1 to 1000"),
        (["--speed", "2000"], "whole number of 1 to 1000"),
        (["--speed", "nan"], "whole number of 1 to 1000"),
        (["--speed", "10", "--pcap", "x.pcap"], "process alone"),
    ],
)
def test_bad_options_are_one_line_and_exit_2(args, expected, capsys, monkeypatch):
    from cellwatch.plc_sim import __main__

    monkeypatch.setattr(__main__, "_controlled", lambda: True)  # no child that waits for `start`
    assert __main__.main(args) == 2
    err = capsys.readouterr().err
    assert expected in err
    assert err.count("\n") == 1


def test_taken_port_is_one_line(capsys, monkeypatch):
    import socket

    from cellwatch.plc_sim import __main__

    monkeypatch.setattr(__main__, "_controlled", lambda: True)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert __main__.main(["--scenario", "quiet", "--port", str(other.getsockname()[1])]) == 2
    assert "Address already in use; choose another --port" in capsys.readouterr().err
