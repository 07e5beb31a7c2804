"""Precision and recall of privacy detection on labelled sentences (presidio-research's synthetic data set).

Run: ``python bench/corpus/privacy.py PATH/synth_dataset_v2.json [--errors]``.  A label is found when a finding of
the same kind overlaps it; a finding is right when it overlaps a label of its kind.  Recall and precision come with
Wilson's intervals of 95%; F1's ends are those of both together, which is wider than 95%.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from herd.corpus.intervals import wilson
from herd.corpus.privacy import find_private

_End = Literal["value", "low", "high"]
_ENDS: tuple[_End, ...] = get_args(_End)
KINDS = {
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "IP_ADDRESS": "IP",
    "IBAN_CODE": "IBAN",
    "CREDIT_CARD": "CARD",
    "US_SSN": "SSN",
}


def measure(path: Path, errors: list[str] | None = None) -> dict[str, tuple[int, int, int, int]]:
    """Kind to (labels, labels found, findings, findings that are right)."""
    labels, found, findings, right = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for row in json.loads(path.read_text(encoding="utf-8")):
        text = row["full_text"]
        wanted = [
            (s["start_position"], s["end_position"], KINDS[s["entity_type"]])
            for s in row["spans"]
            if s["entity_type"] in KINDS
        ]
        got = [(f.start, f.end, f.kind) for f in find_private(text)]
        for span in wanted:
            labels[span[2]] += 1
            hit = any(_overlap(span, other) for other in got)
            found[span[2]] += hit
            if not hit and errors is not None:
                errors.append(f"missed {span[2]} {text[span[0] : span[1]]!r} in {text[:120]!r}")
        for span in got:
            findings[span[2]] += 1
            hit = any(_overlap(span, other) for other in wanted)
            right[span[2]] += hit
            if not hit and errors is not None:
                errors.append(f"wrong {span[2]} {text[span[0] : span[1]]!r} in {text[:120]!r}")
    return {kind: (labels[kind], found[kind], findings[kind], right[kind]) for kind in KINDS.values()}


def _overlap(one: tuple[int, int, str], other: tuple[int, int, str]) -> bool:
    return one[2] == other[2] and one[0] < other[1] and other[0] < one[1]


def _told(share: Mapping[str, float]) -> str:
    return f"{share['value']:.3f} ({share['low']:.3f}-{share['high']:.3f})"


def main() -> None:
    """Prints one line a kind."""
    errors: list[str] = []
    started = time.perf_counter()
    table = measure(Path(sys.argv[1]), errors)
    seconds = time.perf_counter() - started
    for kind, (labels, found, findings, right) in table.items():
        recall, precision = wilson(found, labels), wilson(right, findings)
        if recall and precision:
            f1 = {end: 2 * recall[end] * precision[end] / (recall[end] + precision[end]) for end in _ENDS}
            print(f"{kind:6} recall {found}/{labels} {_told(recall)}  ", end="")
            print(f"precision {right}/{findings} {_told(precision)}  F1 {_told(f1)}")
    print(f"{seconds:.2f} s")
    if "--errors" in sys.argv:
        print("\n".join(errors))


if __name__ == "__main__":
    main()
