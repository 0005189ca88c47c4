"""What can be chosen about an EWAD."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args, get_type_hints

Imputation = Literal["mean", "median", "knn", "zero"]
Scaling = Literal["min-max", "none"]
Constant = Literal["drop", "keep"]
Partition = Literal["columns", "cluster", "random"]
Kind = Literal["wgan-gp", "wgan", "gan"]
Inverse = Literal["encoder", "latent"]
Residual = Literal["plain", "standardised"]
Combination = Literal["mean", "min"]
Optimiser = Literal["adam", "rmsprop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EwadSettings:
    """Preprocessing, ensemble and training of an `Ewad`. The paper's grid (Table 2) can all be said here.

    imputation: of missing numbers; categories get the mode (with "knn" that of the neighbours). "zero" and
        scaling "none" are the ablation without preprocessing.
    constant: columns that never vary in training tell nothing and are dropped, or are kept as they are.
    categorical: names of columns that hold category codes.
    outlier_z, outlier_share: training rows in which more than this share of the columns lies beyond |z| are
        left out; share 0 is the paper's rule, which on wide data leaves hardly a row. z inf: none.
    members: I. partition: what tells them apart; overlap: share of the rest that each also gets, 0..1.
    depths: layers of generator, critic and encoder, members take turns.
    kind: "wgan-gp" | "wgan" (weights clipped to +-clip) | "gan".
    hidden, latent: widths. epochs: of ceil(n / batch) generator steps, each after `critic_steps` of the
        critic. penalty: lambda of the gradient penalty.
    reconstruction: weight of ||x - G(E(x))||^2 in the generator's loss; 0 leaves the generator to the critic
        and lets only the encoder learn it (izi of f-AnoGAN).
    inverse: G^-1, the encoder or `latent_steps` of gradient descent on ||x - G(z)||^2 from there.
    residual: "standardised" measures each column's error in its own normal error, "plain" as it is.
    combination: of the members' scores; the paper's is the mean. With "min" members of the same columns are
        rivals for a row, measured on one scale: that of the member that rebuilds it best.
    alpha: weight of the reconstruction in the score, 0..1, beta is the rest; None: learnt (`weighting`).
    false_alarms: share of normal rows beyond `Ewad.threshold`.
    """

    imputation: Imputation = "median"
    scaling: Scaling = "min-max"
    constant: Constant = "drop"
    categorical: tuple[str, ...] = ()
    outlier_z: float = 3.0
    outlier_share: float = 0.05
    members: int = 5
    partition: Partition = "columns"
    overlap: float = 0.5
    depths: tuple[int, ...] = (4, 6)
    kind: Kind = "wgan-gp"
    hidden: int = 64
    latent: int = 16
    epochs: int = 100
    batch: int = 128
    rate: float = 1e-3
    critic_steps: int = 5
    penalty: float = 10.0
    clip: float = 0.05
    optimiser: Optimiser = "adam"
    generator_slope: float = 0.0
    critic_slope: float = 0.2
    reconstruction: float = 10.0
    inverse: Inverse = "encoder"
    latent_steps: int = 20
    residual: Residual = "standardised"
    combination: Combination = "mean"
    alpha: float | None = None
    false_alarms: float = 0.01

    def __post_init__(self) -> None:
        """ValueError if a setting is none of its choices or out of range."""
        for name, hint in get_type_hints(type(self)).items():
            if (
                (choices := get_args(hint))
                and isinstance(choices[0], str)
                and getattr(self, name) not in choices
            ):
                raise ValueError(f"{name} is one of {', '.join(choices)}, not {getattr(self, name)!r}")
        for name in ("members", "hidden", "latent", "epochs", "batch", "critic_steps", "latent_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.depths or min(self.depths) < 2:
            raise ValueError(f"depths are at least 2, not {self.depths}")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"overlap lies in 0..1, not {self.overlap}")
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha lies in 0..1, not {self.alpha}")
        if not 0 < self.false_alarms < 1:
            raise ValueError(f"false_alarms lies between 0 and 1, not {self.false_alarms}")

    def to_json(self) -> dict[str, Any]:
        """Every setting by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """What `to_json` gave; TypeError for an unknown name, ValueError for a bad value."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        return cls(**values)
