"""Make the data of the sweeps on signals: synthetic heart beats and synthetic radio channels.

    python -m bitsweep_trainers.data.make_signals FOLDER

Neither is a measurement of anything: beats are sums of bells, channels sums of a few plane waves.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BEATS_PER_CLASS = 240
LENGTH = 128
ANTENNAS = 32
CHANNELS = 3000
PATHS = 4
# (centre, width, height) of the waves P, Q, R, S, T; time and width as parts of the beat.
NORMAL = ((0.22, 0.025, 0.15), (0.37, 0.010, -0.12), (0.40, 0.012, 1.0), (0.43, 0.010, -0.25))
REPOLARISATION = (0.65, 0.045, 0.3)
WIDE = ((0.38, 0.045, 0.9), (0.48, 0.040, -0.4))
Bell = tuple[float, float, float]
CLASSES: dict[str, tuple[Bell, ...]] = {
    "normal": (*NORMAL, REPOLARISATION),
    "no P wave": (*NORMAL[1:], REPOLARISATION),
    "wide R wave": (*WIDE, (0.68, 0.06, -0.3)),
    "raised ST": (*NORMAL, (0.52, 0.06, 0.2), REPOLARISATION),
    "flat T wave": (*NORMAL, (0.65, 0.045, 0.08)),
}


def beats(seed: int = 0) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """(series (N, LENGTH), labels (N,)), the classes in turn."""
    draws = np.random.default_rng(seed)
    names = list(CLASSES)
    labels = np.arange(BEATS_PER_CLASS * len(names)) % len(names)
    made = [_beat(CLASSES[names[label]], draws) for label in labels]
    return np.stack(made).astype(np.float16), labels.astype(np.int64)


def _beat(bells: tuple[Bell, ...], draws: np.random.Generator) -> NDArray[np.float64]:
    """Bells with jitter in time, width and height, a slow drift and noise."""
    time = np.linspace(0.0, 1.0, LENGTH)
    shift, stretch = draws.normal(0.0, 0.03), draws.uniform(0.85, 1.15)
    beat = 0.15 * np.sin(2 * np.pi * (0.7 * time + draws.uniform()))
    for centre, width, height in bells:
        place = 0.4 + shift + stretch * (centre - 0.4) + draws.normal(0.0, 0.006)
        wide = width * draws.uniform(0.8, 1.25)
        beat += height * draws.uniform(0.75, 1.25) * np.exp(-0.5 * ((time - place) / wide) ** 2)
    noisy: NDArray[np.float64] = beat + draws.normal(0.0, 0.08, LENGTH)
    return noisy


def channels(seed: int = 0) -> NDArray[np.complex64]:
    """(CHANNELS, ANTENNAS): waves from a sector of 40 degrees on half-wavelength antennas."""
    draws = np.random.default_rng(seed)
    angles = np.deg2rad(draws.uniform(10.0, 50.0, (CHANNELS, PATHS)))
    gains = draws.normal(size=(CHANNELS, PATHS, 2)) @ np.array([1.0, 1.0j])
    gains *= 0.6 ** np.arange(PATHS)
    phases = np.pi * np.sin(angles)[:, :, None] * np.arange(ANTENNAS)
    vectors = (gains[:, :, None] * np.exp(1.0j * phases)).sum(1)
    noise = draws.normal(size=(CHANNELS, ANTENNAS, 2)) @ np.array([1.0, 1.0j])
    made: NDArray[np.complex64] = (vectors + 0.02 * noise).astype(np.complex64)
    return made


def main(folder: Path) -> None:
    """Write beats.npz and channels.npz."""
    folder.mkdir(parents=True, exist_ok=True)
    series, labels = beats()
    np.savez_compressed(folder / "beats.npz", series=series, labels=labels)
    np.savez_compressed(folder / "channels.npz", vectors=channels())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
