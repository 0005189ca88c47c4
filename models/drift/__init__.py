"""Drift: monitors with and without labels, one decision out of all of them, and what kind of drift it is."""
