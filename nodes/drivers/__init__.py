"""ROS-free ends: OPC UA, captures, InfluxDB. They import `cellwatch.models.types` only."""
