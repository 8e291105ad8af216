"""Optuna's samplers by the names of a sweep file, each made anew for every proposal.

A sampler that is made anew from (seed, number of the proposal) keeps no state of its own: what it
knows is in the study, and a study that is rebuilt from the store goes on as if never stopped.
"""

import warnings
from collections.abc import Sequence
from hashlib import sha256

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial

from bitsweep.sweep import Sampler, Search

# These leave marks in the study when they sample: generations, or the index of a sequence.
MARKING: tuple[Sampler, ...] = ("cmaes", "nsga2", "nsga3", "qmc")
LARGEST_POPULATION = 50


def make_sampler(
    wanted: Search,
    *,
    number: int,
    space: dict[str, BaseDistribution],
    prior: Sequence[FrozenTrial] = (),
) -> BaseSampler:
    """The sampler of proposal `number` over the whole space, conditional dimensions included."""
    name, seed = wanted.sampler, derived_seed(wanted.seed, number)
    with warnings.catch_warnings():
        # Optuna calls some options experimental: multivariate and grouped TPE, QMC, warm CMA-ES.
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "tpe":
            return _tpe(wanted, seed)
        if name == "gp":
            startup = wanted.startup_configurations
            return GPSampler(seed=seed, n_startup_trials=startup)
        if name == "cmaes":
            return CmaEsSampler(seed=seed, source_trials=list(prior) or None)
        if name == "nsga2":
            return NSGAIISampler(seed=seed, population_size=population(wanted))
        if name == "nsga3":
            return NSGAIIISampler(seed=seed, population_size=population(wanted))
        if name == "qmc":
            return _Sobol(space, seed=derived_seed(wanted.seed, 0), others=seed)
    return RandomSampler(seed=seed)


def derived_seed(seed: int, number: int) -> int:
    """A seed of 32 bits for one proposal; neighbours are unrelated."""
    return int.from_bytes(sha256(f"{seed}:{number}".encode()).digest()[:4], "big")


def population(wanted: Search) -> int:
    """A quarter of the configurations, so that a small search still has four generations."""
    return min(max(wanted.configurations_per_arm // 4, 4), LARGEST_POPULATION)


def _tpe(wanted: Search, seed: int) -> TPESampler:
    options = wanted.tpe
    return TPESampler(
        seed=seed,
        multivariate=options.multivariate,
        group=options.grouped,
        constant_liar=True,
        n_startup_trials=wanted.startup_configurations,
    )


class _Sobol(QMCSampler):
    """A scrambled Sobol sequence over all dimensions, so that conditional ones are spread too.

    Optuna's own takes the dimensions of the first trial, which it draws at random.
    """

    def __init__(self, space: dict[str, BaseDistribution], *, seed: int, others: int) -> None:
        independent = RandomSampler(seed=others)
        super().__init__(
            scramble=True,
            seed=seed,
            independent_sampler=independent,
        )
        self._space = space

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every dimension."""
        return self._space
