"""Which detectors together make the best ensemble."""
