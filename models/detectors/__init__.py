"""NeuroSense: detectors behind one protocol."""
