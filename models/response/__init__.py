"""From a fused verdict to an actuator command, with interlocks."""
