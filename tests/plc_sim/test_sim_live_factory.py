"""The live factory: OPC UA, Modbus and MQTT show one process; chaos is announced; all ends with it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import time
from pathlib import Path

import psutil
import pytest
from asyncua import ua
from paho.mqtt.client import Client as MqttClient
from paho.mqtt.enums import CallbackAPIVersion
from pymodbus.client import AsyncModbusTcpClient

from cellwatch.plc_sim.namespace import Namespace, NamespaceError
from cellwatch.plc_sim.sites import SITES
from cellwatch.plc_sim.tags import PLC_TAGS, tags_of

SCENARIO = """
name: troubled
site: factory
duration_s: 60
chaos:
  - {step: bad_quality_burst, plc: PLC3, at_s: 0.5, duration_s: 1}
  - {step: server_restart, plc: PLC4, at_s: 1, duration_s: 1}
"""
SP = [tag.name for tag in PLC_TAGS["PLC4"]].index("PIC401_SP")


@pytest.fixture
def troubled(tmp_path):
    path = tmp_path / "troubled.yaml"
    path.write_text(SCENARIO)
    return path


def ports(ready):
    return [int(url.split(":")[-1].split("/")[0]) for url in (*ready["endpoints"].values(), ready["modbus"])]


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_all_servers_show_one_process_and_take_orders(live_plant, troubled):
    class Events:
        def __init__(self):
            self.sources = []

        def event_notification(self, event):
            self.sources.append(event.SourceName)

    async def talk(plant):
        async with (
            live_plant.connected(plant, "PLC2") as (two, tag2),
            live_plant.connected(plant, "PLC3") as (_, tag3),
            live_plant.connected(plant, "PLC4") as (_, tag4),
        ):
            assert 80 < await (await tag2("PIT202")).read_value() < 250  # kPa, the header is pressurised
            host, port = plant.ready["modbus"].split(":")
            modbus = AsyncModbusTcpClient(host, port=int(port), timeout=2, retries=0)
            assert await modbus.connect()
            pressure = await (await tag4("PIT401")).read_value()
            registers = (await modbus.read_holding_registers(0, count=SP + 1, device_id=1)).registers
            assert abs(registers[0] / 10 - pressure) < 5.0  # kPa, a scan or two apart
            assert not (await modbus.write_register(SP, 5555, device_id=1)).isError()
            written = plant.wait("write")
            assert (written["plc"], written["tag"], written["value"]) == ("PLC4", "PIC401_SP", 555.5)
            assert (
                await modbus.write_register(SP, 9999, device_id=1)
            ).exception_code == 3  # out of its range
            await asyncio.sleep(0.3)
            assert await (await tag4("PIC401_SP")).read_value() == 555.5
            modbus.close()
            with pytest.raises(ua.uaerrors.BadNotWritable):
                await (await tag3("VIT301")).write_value(1.0)

            events = Events()
            subscription = await two.create_subscription(50, events)
            alarm = ua.NodeId(ua.ObjectIds.AlarmConditionType)
            await subscription.subscribe_alarms_and_conditions(two.nodes.server, alarm)
            folder = await (await tag2("PIT202")).get_parent()
            await folder.call_method(await tag2("SafeState"))
            assert plant.wait("call")["method"] == "SafeState"
            assert plant.wait("safe_state")["plc"] == "PLC2"
            for _ in range(100):
                await asyncio.sleep(0.05)
                if "PIT202" in events.sources:  # no pump, no pressure
                    break
            assert "PIT202" in events.sources
            history = await (await tag2("PIT202")).read_raw_history()
            assert history[0].Value.Value < history[-1].Value.Value

    with live_plant("--scenario", troubled, "--seed", 3) as plant:
        assert list(plant.ready["endpoints"]) == ["PLC1", "PLC2", "PLC3", "PLC4"]
        assert plant.ready["tags"] == [tag.name for tag in tags_of(SITES["factory"])]
        assert set(plant.ready["devices"].values()) >= {"PLC4", "MB401", "flame-sensor", "yi-camera"}
        asyncio.run(talk(plant))
        began = plant.start()["at_ns"]
        said = [plant.wait("chaos") for _ in range(4)]
        assert sorted((each["plc"], each["name"], each["phase"]) for each in said) == [
            ("PLC3", "bad_quality_burst", "begin"),
            ("PLC3", "bad_quality_burst", "end"),
            ("PLC4", "server_restart", "begin"),
            ("PLC4", "server_restart", "end"),
        ]
        assert abs(said[0]["at_ns"] - began - 500_000_000) < 300_000_000
        assert all(map(listens, ports(plant.ready)))
        plant.process.send_signal(signal.SIGTERM)
        assert plant.stop() == (0, "")
        assert not any(map(listens, ports(plant.ready)))


@pytest.mark.skipif(
    shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/bin:/usr/local/sbin") is None,
    reason="mosquitto is not installed: apt install mosquitto",
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_sensors_publish_and_nothing_outlives_the_plant(live_plant, troubled, number):
    options = ["--scenario", troubled, "--seed", 3]
    try:
        Namespace().close()
        options.append("--namespace")
    except NamespaceError:
        pass  # then without; tests of it say why
    before = sorted(each.name for each in Path("/sys/class/net").iterdir())
    heard = set()
    with live_plant(*options) as plant:
        children = psutil.Process(plant.process.pid).children()
        assert [child.name() for child in children] == ["mosquitto"]
        broker = int(plant.ready["mqtt"].rsplit(":", 1)[1])
        listener = MqttClient(CallbackAPIVersion.VERSION2)
        listener.on_message = lambda *args: heard.add(args[2].topic)
        listener.connect("127.0.0.1", broker)
        listener.subscribe("iiot/#")
        listener.loop_start()
        deadline = time.monotonic() + 10
        while len(heard) < 12:
            assert time.monotonic() < deadline, heard
            time.sleep(0.05)
        listener.disconnect()
        listener.loop_stop()
        where = plant.ready.get("namespace")
        assert where is None or Path(where["path"]).exists()
        plant.process.send_signal(number)
        plant.process.wait(10)
        assert psutil.wait_procs(children, timeout=5)[1] == []
        assert not any(map(listens, [*ports(plant.ready), broker]))
        assert where is None or not Path(where["path"]).exists()
    assert sorted(each.name for each in Path("/sys/class/net").iterdir()) == before
