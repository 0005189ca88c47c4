"""Seeds: those of runs and those of training never meet.

A run's seed is 0 <= seed < 2**31, a training seed 2**31 <= seed < 2**32. So what a model was trained on can
never be what a run shows it.
"""

from __future__ import annotations

TRAINING_FIRST = 2**31
TRAINING_END = 2**32


def check_seed(seed: int, training: bool) -> int:
    """Return the seed, or ValueError with the reason.

    >>> check_seed(7, training=False)
    7
    """
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise ValueError(f"seed {seed!r} is not an integer")  # noqa: TRY004 - one error type for all seeds
    if training and not TRAINING_FIRST <= seed < TRAINING_END:
        raise ValueError(
            f"seed {seed} is not a training seed: training uses {TRAINING_FIRST} <= seed < {TRAINING_END}, "
            "so that no run can repeat what the models were trained on"
        )
    if not training and not 0 <= seed < TRAINING_FIRST:
        raise ValueError(
            f"seed {seed} cannot be run: runs use 0 <= seed < {TRAINING_FIRST}; larger ones are for training"
        )
    return seed
