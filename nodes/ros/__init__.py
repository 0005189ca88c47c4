"""The only shared ROS code: QoS profiles, conversions, parameters, the node base."""
