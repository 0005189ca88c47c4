"""How good a model is, and whether the judging was fair."""
