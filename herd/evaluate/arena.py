"""All models answer the same prompts, a verifier judges every pair of answers, Bradley-Terry rates the models.

The judge is the task's verifier, not a taste: a success beats a wrong answer, a wrong answer that can be read beats a
malformed dialogue, and equal grades tie.

    rated = ratings(play({"chat-3m": rows, "base-3m": others}), ["chat-3m", "base-3m"], seed=7)
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from herd.evaluate.bradley_terry import Game

Row = Mapping[str, Any]
"""A row of the per-item file: ``id``, ``measure`` and ``grade`` are read here."""


def play(results: Mapping[str, Sequence[Row]]) -> list[Game]:
    """One game for every pair of models on every prompt that all models answered."""
    grades = {model: {(row["id"], row["measure"]): row["grade"] for row in rows} for model, rows in results.items()}
    common = set.intersection(*(set(own) for own in grades.values())) if grades else set()
    games = []
    for prompt in sorted(common):
        for first, second in combinations(grades, 2):
            one, other = grades[first][prompt], grades[second][prompt]
            games.append(Game("/".join(prompt), first, second, 0.5 if one == other else float(one > other)))
    return games


def table(games: Sequence[Game]) -> list[dict[str, Any]]:
    """Wins, ties and losses of every pair, for the report."""
    pairs: dict[tuple[str, str], dict[str, Any]] = {}
    for game in games:
        row = pairs.setdefault((game.first, game.second), {"first": game.first, "second": game.second} | _NOTHING)
        row["wins" if game.result == 1 else "losses" if game.result == 0 else "ties"] += 1
    return list(pairs.values())


_NOTHING = {"wins": 0, "ties": 0, "losses": 0}
