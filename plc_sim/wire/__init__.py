"""What the protocols look like on the wire: pure functions from values to bytes, and nothing else."""
