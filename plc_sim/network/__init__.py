"""The cell network: who is there, and what they say when all is well."""

from cellwatch.plc_sim.network.control import MODBUS_PORT, OPCUA_PORT, OpcUaClient
from cellwatch.plc_sim.network.hosts import ATTACKERS, DEVICES, HOSTS, devices_of
from cellwatch.plc_sim.network.network import Network
from cellwatch.plc_sim.network.services import S
from cellwatch.plc_sim.network.tcp import MS, Tcp
from cellwatch.plc_sim.network.telemetry import MQTT_PORT

__all__ = [
    "ATTACKERS",
    "DEVICES",
    "HOSTS",
    "MODBUS_PORT",
    "MQTT_PORT",
    "MS",
    "OPCUA_PORT",
    "Network",
    "OpcUaClient",
    "S",
    "Tcp",
    "devices_of",
]
