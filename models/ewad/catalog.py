"""All rows of the tables by name: EWAD, what it is compared with, and what it is without its parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from cellwatch.models.ewad.baselines import one_class, supervised
from cellwatch.models.ewad.baselines.balanced import Balanced
from cellwatch.models.ewad.baselines.deep_svdd import DeepSvdd
from cellwatch.models.ewad.baselines.f_anogan import FAnoGan
from cellwatch.models.ewad.baselines.gans import NAMES, Unsupervised, single
from cellwatch.models.ewad.head import LabelAware
from cellwatch.models.ewad.images import OfImages
from cellwatch.models.ewad.method import Method
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.ewad.steady import Steady
from cellwatch.models.ewad.trailing import InTime

Make = Callable[[int], Method]  # from a seed

CLASSIC: Mapping[str, Make] = {
    "IsolationForest": one_class.isolation_forest,
    "OneClassSVM": one_class.one_class_svm,
    "KMeans": one_class.k_means,
    "RandomForest": supervised.random_forest,
    "LogisticRegression": supervised.logistic_regression,
    "XGBoost": supervised.xgboost,
    "DecisionTree": supervised.decision_tree,
}
IMAGES: Mapping[str, tuple[int, int]] = {"mnist": (28, 28)}  # data sets of images, height and width
DRIFTING = ("secom",)  # told by places among the last rows where time is kept
STEADY = ("skab",)  # told by the mean of the last rows, without columns that drift
RIVALS = ("RandomForest", "OneClassSVM", "KMeans", "DeepSVDD")  # also tried on what EWAD sees there
SIZES = (3, 4, 5, 6, 7)
NOISE = ("ewad", "ewad_unsupervised", "WGAN-GP", "RandomForest", "IsolationForest")  # in the table of noise


def settings_for(data: str) -> EwadSettings:
    """What EWAD is trained with on a data set; on images it gets strokes, whose scale says something.

    Those for `STEADY` were chosen on seven of SKAB's 34 runs, every second one of its group "other".
    """
    if data in STEADY:  # few columns, few rows
        return EwadSettings(latent=3, overlap=1.0, epochs=60, outlier_z=float("inf"))
    if data not in IMAGES:
        return EwadSettings()
    return EwadSettings(
        partition="cluster", overlap=0.1, hidden=128, scaling="none", residual="plain", combination="min",
        outlier_z=float("inf"), epochs=20, critic_steps=2,
    )  # fmt: skip


def methods(data: str, protocol: str = "honest") -> dict[str, Make]:
    """EWAD with and without known anomalies, single GANs, and the field's other detectors."""
    settings, plain = settings_for(data), _of_numbers(data)
    return {
        "ewad": _seen(data, protocol, _aware(settings)),
        "ewad_unsupervised": _seen(data, protocol, _alone(settings)),
        **{name: _alone(single(name, plain)) for name in NAMES},
        "f-AnoGAN": lambda seed: FAnoGan(plain, seed),
        "DeepSVDD": DeepSvdd,
        **CLASSIC,
    }


def ablation(data: str, protocol: str = "honest") -> dict[str, Make]:
    """EWAD with the paper's balancing, without one of its parts, or with another choice for it.

    Rows after `ewad_unsupervised` are without labels as well. Where EWAD sees strokes or places instead of
    numbers, there are also EWAD without them and others with them.
    """
    settings = settings_for(data)
    bare = replace(settings, imputation="zero", scaling="none", outlier_z=float("inf"))
    classic: dict[str, Make] = {
        "RandomForest": supervised.random_forest,
        "RandomForest with SMOTE": lambda seed: Balanced(supervised.random_forest, settings, seed),
    }
    rows: dict[str, Make] = {
        "ewad": _aware(settings),
        "ewad with SMOTE": lambda seed: Balanced(_aware(settings), settings, seed),
        "ewad with SMOTE + WGAN-GP": lambda seed: Balanced(
            _aware(settings), settings, seed, by="SMOTE + WGAN-GP"
        ),
        "ewad_unsupervised": _alone(settings),
        "no preprocessing": _alone(bare),
        "single WGAN-GP": _alone(single("WGAN-GP", settings)),
        "weights clipped": _alone(replace(settings, kind="wgan")),
        "latent optimisation": _alone(replace(settings, inverse="latent")),
        "KNN imputation": _alone(replace(settings, imputation="knn")),
    }
    rows |= {
        f"partition: {kind}": _alone(replace(settings, partition=kind))
        for kind in ("columns", "cluster", "random")
        if kind != settings.partition
    }
    seen = {name: _seen(data, protocol, make) for name, make in rows.items()} | classic
    told = "strokes" if data in IMAGES else "places" if _in_time(data, protocol) else ""
    told = "means" if data in STEADY else told
    if not told:
        return seen
    plain, others = _of_numbers(data), methods(data, protocol)
    alone = {f"ewad, no {told}": _aware(plain), f"ewad_unsupervised, no {told}": _alone(plain)}
    rivals = {f"{name}, {told}": _seen(data, protocol, others[name]) for name in RIVALS}
    return seen | alone | rivals


def sizes(data: str, protocol: str = "honest") -> dict[str, Make]:
    """EWAD without labels with 3 to 7 members."""
    settings = settings_for(data)
    return {f"I = {n}": _seen(data, protocol, _alone(replace(settings, members=n))) for n in SIZES}


def _of_numbers(data: str) -> EwadSettings:
    """The same for numbers as they are: pixels need scaling."""
    return replace(settings_for(data), scaling="min-max")


def _in_time(data: str, protocol: str) -> bool:
    return data in DRIFTING and protocol == "time"


def _seen(data: str, protocol: str, make: Make) -> Make:
    """Strokes instead of pixels, places or means of the last rows instead of single ones."""
    if data in IMAGES:
        return lambda seed: OfImages(make(seed), IMAGES[data])
    if _in_time(data, protocol):
        return lambda seed: InTime(make(seed))
    if data in STEADY:
        return lambda seed: Steady(make(seed))
    return make


def _aware(settings: EwadSettings) -> Make:
    return lambda seed: LabelAware(settings, seed)


def _alone(settings: EwadSettings) -> Make:
    return lambda seed: Unsupervised(settings, seed)
