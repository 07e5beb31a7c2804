"""Measures the classifier of topics on textbooks: on chapters and on whole books that training never saw.

    python bench/corpus/topics.py ../shared/data/text

Chapters: every book gives four fifths of its modules to training, the others are measured.  Books: of the three topics
with several books one book each is measured whole, and the classifier must still choose among all topics.
"""

import argparse
import gzip
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from herd.corpus.topics import TopicsConfig, fit_topics, measure, train_topics
from herd.foundation.files import read_json, write_jsonl
from herd.foundation.progress import Progress

TOPICS = {
    "medicine": ["anatomy-physiology"],
    "astronomy": ["astronomy"],
    "chemistry": ["chemistry-bundle"],
    "mathematics": ["college-algebra-bundle", "prealgebra-bundle", "contemporary-mathematics"],
    "physics": ["college-physics-bundle", "university-physics-bundle"],
    "programming": ["introduction-python-programming"],
    "statistics": ["introductory-statistics-bundle", "statistics"],
    "economics": ["principles-economics-bundle"],
    "psychology": ["psychology"],
    "history": ["us-history"],
}
UNSEEN = ("contemporary-mathematics", "university-physics-bundle", "statistics")


def read(data: Path) -> list[dict[str, str]]:
    """Modules of the books as labelled texts."""
    rows = []
    for topic, books in TOPICS.items():
        for book in books:
            with gzip.open(data / "openstax" / f"{book}.jsonl.gz", "rt", encoding="utf-8") as lines:
                for row in map(json.loads, lines):
                    if len(row["text"]) > 500:
                        rows.append({"text": row["text"], "topic": topic, "site": row["id"], "book": book})
    return rows


def show(title: str, stats: dict) -> None:  # type: ignore[type-arg]
    """A line for all, and one for each topic."""
    figures = [f"{name} {stats[name]['value']:.3f} ({stats[name]['low']:.3f}–{stats[name]['high']:.3f})"
               for name in ("accuracy", "macro F1")]  # fmt: skip
    print(f"{title}: {stats['measured on']} texts; {', '.join(figures)}; calibration {stats['calibration error']:.3f}")
    for name, row in stats["topics"].items():
        if row["texts"]:
            recall, precision = row["recall"], row["precision"]
            interval = f"{recall['value']:.3f} ({recall['low']:.3f}–{recall['high']:.3f})"
            said = f", precision {precision['value']:.3f}" if precision else ""
            print(f"  {name}: {row['texts']}, recall {interval}{said}")


def main() -> None:
    """Both measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the folder that holds openstax/")
    rows = read(parser.parse_args().data)
    config = TopicsConfig()
    with TemporaryDirectory() as place:
        write_jsonl(Path(place, "labels.jsonl"), rows)
        train_topics(config, Path(place, "labels.jsonl"), Path(place), Progress.silent())
        stats = read_json(Path(place, "stats.json"))
    show("unseen chapters", stats)
    print(f"  always the commonest topic: {stats['the commonest topic']['value']:.3f}")
    names = sorted(TOPICS)
    train, test = ([row for row in rows if (row["book"] in UNSEEN) is unseen] for unseen in (False, True))
    model = fit_topics([(row["topic"], row["text"]) for row in train], names, config.classifier)
    found = model.classify([row["text"] for row in test])
    truth, said = np.array([names.index(row["topic"]) for row in test]), np.array([topic for topic, _ in found])
    sites = [row["site"] for row in test]
    show("unseen books", measure(truth, said, np.array([sure for _, sure in found]), sites, names, 0))


if __name__ == "__main__":
    main()
