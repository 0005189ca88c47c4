"""Drift in the simulated plant: models that saw a part, a season, an old meter, a new attack, a quiet week.

DeepSense, 5.5.1: models are made of a share of the devices and attack types, and then meet all of them. The
static model stays; the adaptive one learns anew at the alarms of the drift watch. Labels come at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.models.datasets.sessions import SessionWindows
from cellwatch.models.detectors.members import members
from cellwatch.models.detectors.scaler import Scaler
from cellwatch.models.drift.adaptive import HALF, Adapted, CellStream, adapt, calm
from cellwatch.models.evaluation.metrics import confusion, mcc
from cellwatch.models.types import F32, Bool
from cellwatch.nodes.data_sources import read_sessions, simulated_folder
from cellwatch.nodes.drift_changes import SITE, attacked, changed, fresh
from cellwatch.nodes.simulated import generate

WHOLE = "factory"  # the paper has some 40 devices and 50 types of attack, too
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)
ROWS = 40_000  # at most, that a first model learns from, benign ones as frequent as they are
BEFORE = 12  # sessions before something changes
SUMMER = (1 / 3, 2 / 3, 1, 1, 1, 1)  # size of the change, session by session
AGEING = tuple(k / 8 for k in range(1, 9))
ATTACKED, EVERY_S = 6, 40.0  # sessions with the new attack, and from one to the next
NEW = "recon"  # of all categories the one that a model without it misses most, on validation sessions
WEEK_S = 604_800
BLOCK = 300  # windows of one point of a curve
Told = Callable[[str], None]


class Voting:
    """XGB, RandomForest and LogReg of the catalogue, voting softly: what stands in for a cell's models."""

    def __init__(self, rows: Rows, seed: int = 0) -> None:
        self._scaler = Scaler.fit(rows.x)
        self._members = members(("benign", "attack"), seed, 0.5)
        scaled = self._scaler.transform(rows.x)
        for member in self._members:
            member.fit(scaled, rows.attack.astype(np.int64))

    def votes(self, x: F32) -> F32:
        """P(attack) (w, d, m) for windows (w, d, f), NaN where a device is not there."""
        there = np.isfinite(x).any(axis=2)
        out = np.full((*there.shape, len(self._members)), np.nan, np.float32)
        if there.any():
            rows = self._scaler.transform(x[there])
            out[there] = np.stack([m.predict_proba(rows)[:, 1] for m in self._members], axis=1)
        return out


@dataclass(frozen=True, slots=True)
class Rows:
    """n labelled samples to learn from."""

    x: F32  # (n, f)
    attack: Bool  # (n,)

    def drawn(self, seed: int) -> Rows:
        """At most ROWS of them."""
        if len(self.x) <= ROWS:
            return self
        kept = np.sort(np.random.default_rng(seed).choice(len(self.x), ROWS, replace=False))
        return Rows(self.x[kept], self.attack[kept])


class Learning:
    """Makes models of the rows that the first one knew, and of all stretches of a stream since."""

    def __init__(self, known: Rows, stream: CellStream, seed: int = 0) -> None:
        self._known, self._stream, self._seed = known, stream, seed
        self._spans: list[tuple[int, int]] = []

    def __call__(self, first: int, last: int) -> Voting:
        """Of the windows from `first` to before `last`, too."""
        self._spans = [span for span in self._spans if span[0] < first] + [(first, last)]
        places = np.unique(np.concatenate([np.arange(a, b) for a, b in self._spans]))
        labelled = self._stream.labelled[places]
        rows = Rows(self._stream.x[places][labelled], self._stream.attack[places][labelled])
        known = self._known
        return Voting(
            Rows(np.concatenate([known.x, rows.x]), np.concatenate([known.attack, rows.attack])), self._seed
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Devices and classes that somebody has seen."""

    devices: frozenset[str]
    classes: frozenset[int]  # 0 = benign among them

    @classmethod
    def drawn(cls, share: float, devices: Sequence[str], classes: int, seed: int) -> Part:
        """A share of the devices and of the classes, one at least; a larger share holds a smaller one."""
        rng = np.random.default_rng(seed)
        named, kinds = rng.permutation(np.array(devices)), 1 + rng.permutation(classes - 1)
        few = [max(1, round(share * len(each))) for each in (named, kinds)]
        return cls(frozenset(named[: few[0]].tolist()), frozenset([0, *kinds[: few[1]].tolist()]))

    def holds(self, session: SessionWindows) -> Bool:
        """(w, d) which of its samples have been seen."""
        mine = np.isin(np.array(session.devices), sorted(self.devices))
        return np.asarray(np.isin(session.y, sorted(self.classes)) & mine)


def rows_of(sessions: Sequence[SessionWindows], part: Part | None = None) -> Rows:
    """Clear-cut rows, of a part or all."""
    kept = [s.clear & part.holds(s) if part else s.clear for s in sessions]
    x = [s.values[k] for s, k in zip(sessions, kept, strict=True)]
    attack = [s.y[k] > 0 for s, k in zip(sessions, kept, strict=True)]
    return Rows(np.concatenate(x), np.concatenate(attack))


def stream_of(sessions: Sequence[SessionWindows], part: Part | None = None) -> CellStream:
    """Sessions one after the other; without what is not in the part."""
    x, attack, labelled = [], [], []
    for s in sessions:
        there = part.holds(s) if part else np.ones(s.y.shape, np.bool_)
        x.append(np.where(there[:, :, None], s.values, np.float32(np.nan)))
        attack.append(s.y > 0)
        labelled.append(s.clear & there)
    return CellStream(np.concatenate(x), np.concatenate(attack), np.concatenate(labelled))


def joined(*streams: CellStream) -> CellStream:
    """One after the other."""
    return CellStream(*(np.concatenate(parts) for parts in zip(*streams, strict=True)))


def figures(stream: CellStream, probability: F32, first: int, last: int) -> dict[str, float]:
    """F1 of attacks, MCC, false alarm rate and miss rate, windows from `first` to before `last`."""
    part = slice(first, last)
    known = stream.labelled[part]
    y = stream.attack[part][known].astype(np.int64)
    (tn, fp), (fn, tp) = (m := confusion(y, (probability[part][known] >= HALF).astype(np.int64), 2)).tolist()
    return {
        "f1": 2 * tp / max(2 * tp + fp + fn, 1),
        "mcc": mcc(m),
        "false_alarms": fp / max(tn + fp, 1),
        "misses": fn / max(tp + fn, 1),
    }


def shares(cache: Path, *, seed: int = 0, told: Told = lambda _: None) -> dict[str, Any]:
    """A model of a share of devices and classes meets all of them: static, adaptive, and one that knew all.

    First it is watched on validation sessions, of which it sees its share; then come all test sessions. A
    larger share holds a smaller one. Figures of the test sessions, and of the last third of them.
    """
    about, sessions = _sessions(WHOLE, cache, told)
    train, validation, test = (sessions[k] for k in ("train", "validation", "test"))
    later = stream_of(test)
    n = len(later.x)
    parts = {"whole": (0, n), "late": (2 * n // 3, n)}
    full = Voting(rows_of(train).drawn(seed), seed).votes(later.x).mean(axis=2)
    found: dict[str, Any] = {
        "site": WHOLE, "window_s": about["window_s"], "seed": seed,
        "windows": n, "samples": int(later.labelled.sum()),
        "full": {name: figures(later, full, *part) for name, part in parts.items()}, "shares": [],
    }  # fmt: skip
    for share in SHARES:
        part = Part.drawn(share, test[0].devices, len(about["classes"]), seed)
        known = rows_of(train, part).drawn(seed)
        model = Voting(known, seed)
        stream = joined(stream_of(validation, part), later)
        begin = len(stream.x) - n
        run = adapt(stream, model, Learning(known, stream, seed), seed=seed)
        judged = {"static": model.votes(later.x).mean(axis=2), "adaptive": run.probability[begin:]}
        found["shares"].append({
            "share": share, "devices": len(part.devices), "classes": len(part.classes) - 1,
            "rows": len(known.x), "attacks": int(known.attack.sum()),
            "alarms": alarms(run, begin),
            **{
                name: {each: figures(later, p, *place) for each, place in parts.items()}
                for name, p in judged.items()
            },
        })  # fmt: skip
        told(f"{share:.0%} of devices and classes: {len(run.alarms)} alarms")
    return found


def changes(cache: Path, *, seed: int = 0, told: Told = lambda _: None) -> dict[str, Any]:
    """A season, a meter that ages, and an attack that nobody has seen, each after a time without."""
    about, sessions = _sessions(SITE, cache, told)
    world = fresh(simulated_folder(SITE, cache))
    train, test = sessions["train"], sessions["test"][:BEFORE]
    classes = about["classes"]
    new = [name for name in classes if name.startswith(f"{NEW}/")]
    old = Part(frozenset(test[0].devices), frozenset(i for i, name in enumerate(classes) if name not in new))
    everything = Voting(rows_of(train).drawn(seed), seed)
    cases: dict[str, tuple[str, Part | None, Callable[[], list[SessionWindows]]]] = {
        "season": ("A", None, lambda: changed("summer", SUMMER, *world)),
        "ageing": ("A", None, lambda: changed("old_meter", AGEING, *world)),
        "new attack": ("B", old, lambda: attacked(new, EVERY_S, world[0][:ATTACKED], world[1], seed)),
    }  # fmt: skip
    found: dict[str, Any] = {
        "site": SITE, "window_s": about["window_s"], "seed": seed, "before": BEFORE, "cases": {},
    }  # fmt: skip
    for name, (scenario, part, play) in cases.items():
        known = rows_of(train, part).drawn(seed)
        model = Voting(known, seed) if part else everything
        calm_time = stream_of(test, part)
        stream = joined(calm_time, stream_of(play()))
        told(f"{name}: played")
        run = adapt(stream, model, Learning(known, stream, seed), seed=seed)
        found["cases"][name] = {
            "expected": scenario,
            **_course(stream, len(calm_time.x), run, {
                "static": model.votes(stream.x).mean(axis=2), "adaptive": run.probability,
                **({"full": everything.votes(stream.x).mean(axis=2)} if part else {}),
            }),
        }  # fmt: skip
        told(f"{name}: {len(run.alarms)} alarms")
    return found


def _course(stream: CellStream, onset: int, run: Adapted, judged: dict[str, F32]) -> dict[str, Any]:
    """Quality before the onset, until there is a model that has learnt, and after that."""
    w = len(stream.x)
    every = alarms(run, onset)
    first = next((a for a in every if a["window"] >= 0), None)
    served = [a["served"] for a in every if a["served"] is not None and a["window"] >= 0]
    recovered = onset + served[0] if served else w
    stretches = {"before": (0, onset), "during": (onset, recovered), "after": (recovered, w)}
    return {
        "windows": w, "onset": onset, "alarms": every,
        "false_alarms": sum(a["window"] < 0 for a in every),
        "found_after": first and first["window"], "recovered_after": recovered - onset if served else None,
        "scenario": first and first["scenario"],
        "quality": {
            name: {k: figures(stream, p, *part) for k, part in stretches.items() if part[0] < part[1]}
            for name, p in judged.items()
        },
        "errors": {name: _errors(stream, p) for name, p in judged.items()},
    }  # fmt: skip


def _errors(stream: CellStream, probability: F32) -> list[float]:
    """Share judged wrongly in each BLOCK of windows."""
    wrong = ((probability >= HALF) != stream.attack) & stream.labelled
    starts = np.arange(0, len(wrong), BLOCK)
    counts = [np.add.reduceat(each.sum(axis=1), starts) for each in (wrong, stream.labelled)]
    return [round(float(a) / max(float(b), 1.0), 5) for a, b in zip(*counts, strict=True)]


def week(cache: Path, *, seed: int = 0, told: Told = lambda _: None) -> dict[str, Any]:
    """A week in which nothing happens: quiet sessions in any order, with all labels and with none."""
    about, sessions = _sessions(SITE, cache, told)
    model = Voting(rows_of(sessions["train"]).drawn(seed), seed)
    quiet = [s for k in ("validation", "test") for s in sessions[k] if not s.y.any() and s.clear.all()]
    x = np.concatenate([s.values for s in quiet])
    starts = np.cumsum([0, *(len(s.y) for s in quiet)])
    windows = round(WEEK_S / about["window_s"])
    rng, order, length = np.random.default_rng(seed), [], 0
    while length < windows:
        k = int(rng.integers(len(quiet)))
        order.append(np.arange(starts[k], starts[k + 1]))
        length += len(order[-1])
    places = np.concatenate(order)[:windows]
    votes = model.votes(x)
    benign: Bool = np.zeros(votes.shape[:2], np.bool_)
    found = {
        "site": SITE, "seed": seed, "sessions": len(quiet), "windows": windows,
        "alarms_labelled": calm(x, votes, places, benign, seed=seed),
    }  # fmt: skip
    told("a quiet week with all labels")
    found["alarms_unlabelled"] = calm(x, votes, places, seed=seed)
    told("a quiet week without labels")
    return found


def alarms(run: Adapted, origin: int = 0) -> list[dict[str, Any]]:
    """Alarms; windows are counted from `origin` on."""
    return [
        {
            "window": a.window - origin,
            "since": a.since - origin,
            "scenario": a.scenario,
            "reasons": list(a.reasons),
            "served": None if a.served is None else a.served - origin,
        }
        for a in run.alarms
    ]


def _sessions(site: str, cache: Path, told: Told) -> tuple[dict[str, Any], dict[str, list[SessionWindows]]]:
    """Those of a site by split; made in `cache` if they are not there."""
    folder = generate(
        site, simulated_folder(site, cache), seen=lambda i, n: told(f"{site}: {i} of {n} sessions")
    )
    about, sessions = read_sessions(folder)
    splits = dict.fromkeys(s.split for s in sessions)
    return about, {k: [s for s in sessions if s.split == k] for k in splits}
