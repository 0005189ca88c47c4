"""A detector of your own in a few lines, judged like the 22 that come with Cellwatch.

cellwatch evaluate --data nsl_kdd --detector nearest_centroid:NearestCentroid --detectors XGB,KNN
"""

import numpy as np


class NearestCentroid:
    """How near a row is to the mean of each class; distances become probabilities by softmax."""

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        self.spread = x.std(axis=0) + 1e-6
        self.means = np.stack([x[y == c].mean(axis=0) for c in self.classes_]) / self.spread

    def predict_proba(self, x):
        distance = ((x[:, None] / self.spread - self.means) ** 2).mean(axis=2)
        closeness = np.exp(distance.min(axis=1, keepdims=True) - distance)
        return closeness / closeness.sum(axis=1, keepdims=True)
