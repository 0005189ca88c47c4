"""Everything that touches the world: ROS 2 nodes, drivers, the command line."""
