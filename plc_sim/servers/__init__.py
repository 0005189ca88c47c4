"""What the plant serves while it runs live: OPC UA, Modbus TCP and MQTT."""
