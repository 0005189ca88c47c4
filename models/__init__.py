"""Pure models: no ROS, no sockets, no clock."""
