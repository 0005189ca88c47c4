"""Model artefacts on disk: ONNX and JSON only, checked by sha256."""
