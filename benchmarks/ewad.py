"""Training and serving an EWAD: all members together, one after another, and as plain separate nets.

    python benchmarks/ewad.py [--members 5] [--epochs 2] [--rounds 3] [--threads 2] [--whole] [--json]

On made-up rows of SECOM's shape (1,254 rows to train on, 590 columns, a twentieth missing), with the usual
settings. `together` is the stacked training of the product, `alone` the same code with one member after the
other, and `plain` as many WGAN-GPs with encoders as one writes them down: separate modules, three passes of
the critic, the gradient penalty by autograd with `create_graph`, Adam. All have the same layers, batches and
steps. Rounds take turns and the median counts, by the clock. `--whole` also times one complete `fit`. Serving
is ONNX Runtime on one core, for one row and for 1,024. On the GPU where there is one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from cellwatch.models.detectors.serving import session
from cellwatch.models.ewad.ewad import Ewad
from cellwatch.models.ewad.gan import BETAS
from cellwatch.models.ewad.partitions import Partitions, partition
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.ewad.training import depths, device, train

ROWS, COLUMNS, MISSING = 1254, 590, 0.05
BATCH, REPEAT = 1024, 30


def rows(seed: int = 0) -> np.ndarray:
    """Correlated columns (n, f) float32 with gaps."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(ROWS, 20)) @ rng.normal(size=(20, COLUMNS)) + rng.normal(size=(ROWS, COLUMNS))
    x[rng.random(x.shape) < MISSING] = np.nan
    return x.astype(np.float32)


def net(depth: int, inputs: int, hidden: int, outputs: int, slope: float) -> nn.Sequential:
    """`depth` layers."""
    widths = [inputs, *[hidden] * (depth - 1), outputs]
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.LeakyReLU(slope))]
    return nn.Sequential(*layers[:-1])


def plain(x: np.ndarray, parts: Partitions, how: EwadSettings) -> None:
    """Algorithm 1 as it stands, one member after the other."""
    here = device()
    for i, depth in enumerate(depths(how)):
        width = int(parts.widths[i])
        generator = net(depth, how.latent, how.hidden, width, how.generator_slope).to(here)
        encoder = net(depth, width, how.hidden, how.latent, how.critic_slope).to(here)
        critic = net(depth, width, how.hidden, 1, how.critic_slope).to(here)
        c_step = torch.optim.Adam(critic.parameters(), lr=how.rate, betas=BETAS)
        g_step = torch.optim.Adam([*generator.parameters(), *encoder.parameters()], lr=how.rate, betas=BETAS)
        data = torch.from_numpy(x[:, parts.columns[i, :width]]).to(here)
        for _ in range(how.epochs * -(-len(x) // how.batch)):
            for _ in range(how.critic_steps):
                real = data[torch.randint(len(data), (how.batch,), device=here)]
                fake = generator(torch.randn(how.batch, how.latent, device=here)).detach()
                between = torch.lerp(real, fake, torch.rand(how.batch, 1, device=here)).requires_grad_()
                slope = torch.autograd.grad(critic(between).sum(), between, create_graph=True)[0]
                penalty = ((slope.norm(dim=1) - 1) ** 2).mean()
                loss = critic(fake).mean() - critic(real).mean() + how.penalty * penalty
                c_step.zero_grad()
                loss.backward()
                c_step.step()
            real = data[torch.randint(len(data), (how.batch,), device=here)]
            error = ((generator(encoder(real)) - real) ** 2).mean()
            noise = torch.randn(how.batch, how.latent, device=here)
            loss = how.reconstruction * error - critic(generator(noise)).mean()
            g_step.zero_grad()
            loss.backward()
            g_step.step()


def alone(x: np.ndarray, parts: Partitions, how: EwadSettings) -> None:
    """The product's training with one member at a time."""
    for i, depth in enumerate(depths(how)):
        one = Partitions(parts.rows[i : i + 1], parts.columns[i : i + 1], parts.widths[i : i + 1])
        train(x, one, replace(how, members=1, depths=(depth,)), seed=i)


def seconds(action: Callable[[], object]) -> float:
    """By the clock, the GPU's work included."""
    begun = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def training(x: np.ndarray, how: EwadSettings, rounds: int, console: Console) -> dict[str, float]:
    """Median seconds for `how.epochs` epochs of each way."""
    complete = np.nan_to_num((x - np.nanmin(x, axis=0)) / np.ptp(np.nan_to_num(x), axis=0), nan=0.5).astype(
        np.float32
    )
    parts = partition(complete, how, seed=0)
    ways: dict[str, Callable[[], object]] = {
        "together": lambda: train(complete, parts, how, seed=0),
        "alone": lambda: alone(complete, parts, how),
        "plain": lambda: plain(complete, parts, how),
    }
    for action in ways.values():
        action()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in track(range(rounds), "training", console=console, transient=True):
        for name, action in ways.items():
            taken[name].append(seconds(action))
    return {f"{name}_s": float(np.median(t)) for name, t in taken.items()}


def serving(model: Ewad, x: np.ndarray) -> dict[str, float]:
    """Milliseconds per row of the served graph."""
    served = session(model.to_onnx())
    found = {}
    for name, part in (("one", x[:1]), ("batched", x[:BATCH])):
        served.run(None, {"x": part})
        taken = [seconds(lambda part=part: served.run(None, {"x": part})) for _ in range(REPEAT)]
        found[f"{name}_ms"] = 1e3 * float(np.median(taken)) / len(part)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, default=EwadSettings().members)
    parser.add_argument("--hidden", type=int, default=EwadSettings().hidden)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--whole", action="store_true", help="also time a complete fit")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    console = Console(stderr=True)
    torch.set_num_threads(args.threads)
    x, names = rows(), tuple(f"s{k:03}" for k in range(COLUMNS))
    how = EwadSettings(members=args.members, hidden=args.hidden)
    found: dict[str, object] = {
        "device": str(device()),
        "threads": args.threads,
        "members": args.members,
        "hidden": args.hidden,
    }
    short = replace(how, epochs=args.epochs)
    found |= training(x, short, args.rounds, console)
    found["plain_over_together"] = found["plain_s"] / found["together_s"]
    found["alone_over_together"] = found["alone_s"] / found["together_s"]
    model = Ewad(how if args.whole else short)
    fit_s = seconds(lambda: model.fit(x, names))
    if args.whole:
        found |= {"fit_s": fit_s, "epochs": how.epochs}
    found |= serving(model, x)
    found["MiB"] = model.report.bytes / 2**20
    if args.json:
        print(json.dumps(found))
        return
    table = Table("what", "measured")
    for name, value in found.items():
        table.add_row(name, f"{value:.3g}" if isinstance(value, float) else str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
