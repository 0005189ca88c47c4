"""Models on disk: ONNX and JSON only, checked, trusted by signature, promoted and rolled back."""
