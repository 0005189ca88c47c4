"""A simulated plant: process, PLC, network, faults and attacks. It imports neither nodes nor models."""
