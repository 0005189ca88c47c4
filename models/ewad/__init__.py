"""EWAD: an ensemble of Wasserstein GANs that learns from normal data alone (Riaz et al., JCDE 2025)."""
