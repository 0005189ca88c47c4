"""Weighted fusion of all verdicts of a window (DeepSense, section 3.4)."""
