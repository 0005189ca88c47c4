"""What EWAD is compared with: the same rows, the same preprocessing, thresholds from training rows alone."""
