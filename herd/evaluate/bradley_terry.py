"""Ratings from pairwise wins (Bradley and Terry 1952), on the Elo scale, with bootstrap intervals over prompts.

A tie counts half a win for each side.  Every pair that met also gets a small fixed number of ties, so that a model
that won (or lost) every game has a finite rating.  Usage: ``ratings(games, models, seed=7)``, where a game is
(prompt, first model, second model, first's result in {1, 0.5, 0}).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from herd.evaluate.statistics import Estimate, percentile_interval, resampling_counts

ELO_SCALE = 400 / np.log(10)
MEAN_RATING = 1000.0
PRIOR_TIES = 0.5
_ROUNDS = 500
_TOLERANCE = 1e-9


class Game(NamedTuple):
    """One comparison on one prompt; ``result`` is 1 if ``first`` won, 0 if ``second`` did, 0.5 for a tie."""

    prompt: str
    first: str
    second: str
    result: float


def strengths(wins: np.ndarray) -> np.ndarray:
    """Maximum-likelihood log strengths (..., M) with mean 0 of win counts (..., M, M) by Hunter's (2004) MM rounds.

    ``wins[..., i, j]`` is how often i beat j, ties counted as half.  Converges if the graph of wins is connected
    both ways, which the prior ties of ``ratings`` ensure for models that met.
    """
    games = wins + np.swapaxes(wins, -1, -2)
    total = wins.sum(-1)
    logs = np.zeros(total.shape)
    for _ in range(_ROUNDS):
        power = np.exp(logs)
        expected = (games / (power[..., :, None] + power[..., None, :])).sum(-1)
        new = np.log(total) - np.log(expected)
        new -= new.mean(-1, keepdims=True)
        if np.abs(new - logs).max() < _TOLERANCE:
            return new
        logs = new
    return logs


def ratings(games: Sequence[Game], models: Sequence[str], seed: int, resamples: int = 500) -> dict[str, Estimate]:
    """Elo-scaled rating of every model; the mean over models is 1000 and ``n`` counts a model's games.

    The bootstrap draws prompts, not games: games on one prompt are not independent.

    Raises:
        ValueError: if there are no games or a model played none.
    """
    prompts = sorted({game.prompt for game in games})
    row, place = {p: i for i, p in enumerate(prompts)}, {m: i for i, m in enumerate(models)}
    size = len(models)
    wins = np.zeros((len(prompts), size, size))
    for game in games:
        i, j = place[game.first], place[game.second]
        wins[row[game.prompt], i, j] += game.result
        wins[row[game.prompt], j, i] += 1 - game.result
    played = (wins.sum(0) + wins.sum(0).T).sum(-1)
    if not len(games) or (played == 0).any():
        raise ValueError("every model needs at least one game to be rated")
    met = (wins.sum(0) + wins.sum(0).T) > 0
    prior = met * PRIOR_TIES / 2
    counts = resampling_counts(len(prompts), seed, "arena", resamples=resamples)
    drawn = (counts @ wins.reshape(len(prompts), -1)).reshape(-1, size, size)
    values = MEAN_RATING + ELO_SCALE * strengths(wins.sum(0) + prior)
    samples = MEAN_RATING + ELO_SCALE * strengths(drawn + prior)
    bounds = [percentile_interval(samples[:, i]) for i in range(size)]
    return {m: Estimate(float(values[i]), *bounds[i], int(played[i])) for m, i in place.items()}
