"""National numbers in sentences of eight languages: recall, what wrong check digits let through, and false positives.

    python bench/corpus/national_numbers.py ../shared/data/text --words 1000000

The numbers are made here, by each country's published rule written anew, and the library that Herd asks is not used.
Every number stands once right and once with one digit changed; false positives of every kind are counted a million
words on texts that hold hardly any personal data.
"""

import argparse
import gzip
import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from herd.corpus.intervals import wilson
from herd.corpus.privacy import find_private

_PER_COUNTRY = 100
_CF_ODD = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", [1, 0, 5, 7, 9, 13, 15, 17, 19, 21] * 2 + [
    2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23], strict=True))  # fmt: skip
_VERHOEFF_SWAP = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)

Draw = random.Random


def digits(chance: Draw, count: int) -> list[int]:
    """Random digits, the first not 0."""
    return [chance.randint(1, 9), *(chance.randint(0, 9) for _ in range(count - 1))]


def text(values: list[int]) -> str:
    """Digits as they are written."""
    return "".join(map(str, values))


def brazil(chance: Draw) -> str:
    """Nine digits and two by sums modulo 11."""
    number = digits(chance, 9)
    for _ in range(2):
        rest = sum(value * weight for value, weight in zip(number, range(len(number) + 1, 1, -1), strict=True)) % 11
        number.append(0 if rest < 2 else 11 - rest)
    whole = text(number)
    return f"{whole[:3]}.{whole[3:6]}.{whole[6:9]}-{whole[9:]}"


def italy(chance: Draw) -> str:
    """Letters of the name, date of birth, municipality; a letter by a table over odd and even places."""
    name = "".join(chance.choices("BCDFGLMNPRSTVZ", k=6))
    born = f"{chance.randint(30, 99)}{chance.choice('ABCDEHLMPRST')}{chance.randint(1, 28):02}"
    body = f"{name}{born}{chance.choice('ABCDEFGHIL')}{chance.randint(100, 999)}"
    total = sum(
        _CF_ODD[sign] if place % 2 == 0 else int(sign) if sign.isdigit() else ord(sign) - ord("A")
        for place, sign in enumerate(body)
    )
    return body + chr(65 + total % 26)


def spain(chance: Draw) -> str:
    """Eight digits and the letter of their remainder by 23."""
    number = chance.randint(10_000_000, 99_999_999)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def france(chance: Draw) -> str:
    """Sex, year, month, place, order; the key makes number plus key a multiple of 97."""
    parts = [str(chance.randint(1, 2)), f"{chance.randint(30, 99)}", f"{chance.randint(1, 12):02}",
             f"{chance.randint(1, 95):02}", f"{chance.randint(1, 900):03}", f"{chance.randint(1, 900):03}"]  # fmt: skip
    key = 97 - int("".join(parts)) % 97
    return f"{' '.join(parts)} {key:02}"


def portugal(chance: Draw) -> str:
    """Eight digits and one by a sum modulo 11."""
    number = [chance.randint(1, 3), *digits(chance, 7)]
    rest = sum(value * weight for value, weight in zip(number, range(9, 1, -1), strict=True)) % 11
    return text([*number, 0 if rest < 2 else 11 - rest])


def germany(chance: Draw) -> str:
    """Ten digits, one of them twice and one missing, and a digit by ISO 7064 modulo 11, 10."""
    number = chance.sample(range(10), 10)
    while number[0] == 0:
        chance.shuffle(number)
    number[chance.randrange(5, 10)] = number[chance.randrange(0, 4)]
    product = 10
    for value in number:
        total = (value + product) % 10 or 10
        product = 2 * total % 11
    return text([*number, (11 - product) % 10])


def india(chance: Draw) -> str:
    """Eleven digits and one by Verhoeff's dihedral group."""
    number = [chance.randint(2, 9), *digits(chance, 10)]
    sign = 0
    for place, value in enumerate(reversed(number), start=1):
        for _ in range(place % 8):
            value = _VERHOEFF_SWAP[value]
        sign = _dihedral(sign, value)
    check = next(value for value in range(10) if _dihedral(sign, value) == 0)
    whole = text([*number, check])
    return f"{whole[:4]} {whole[4:8]} {whole[8:]}"


def _dihedral(one: int, other: int) -> int:
    """The product of two symmetries of a pentagon: 0 to 4 turn it, 5 to 9 turn and mirror it."""
    if one < 5:
        return (one + other) % 5 + (5 if other >= 5 else 0)
    return (one - other) % 5 + (0 if other >= 5 else 5)


def thailand(chance: Draw) -> str:
    """Twelve digits and one by a sum modulo 11."""
    number = [chance.randint(1, 8), *digits(chance, 11)]
    rest = sum(value * weight for value, weight in zip(number, range(13, 1, -1), strict=True)) % 11
    whole = text([*number, (11 - rest) % 10])
    return f"{whole[0]}-{whole[1:5]}-{whole[5:10]}-{whole[10:12]}-{whole[12]}"


def britain(chance: Draw) -> str:
    """Nine digits and one by a sum modulo 11; those that would need a 10 are not given out."""
    while True:
        number = digits(chance, 9)
        check = (11 - sum(value * weight for value, weight in zip(number, range(10, 1, -1), strict=True))) % 11
        if check < 10:
            whole = text([*number, check])
            return f"{whole[:3]} {whole[3:6]} {whole[6:]}"


COUNTRIES: dict[str, tuple[Callable[[Draw], str], str]] = {
    "Brazil": (brazil, "O titular do contrato, inscrito sob {}, reside em Campinas desde março."),
    "Italy": (italy, "La signora Rossi, codice fiscale {}, ha presentato la domanda ieri."),
    "Spain": (spain, "El solicitante, con DNI {}, entregó los papeles en la oficina."),
    "France": (france, "Son numéro de sécurité sociale est {} et il habite à Lyon."),
    "Portugal": (portugal, "A cliente tem o NIF {} e pagou a fatura em abril."),
    "Germany": (germany, "Ihre Steuer-ID {} steht oben rechts auf dem Bescheid."),
    "India": (india, "उनका आधार {} कार्ड पर लिखा है और पता दिल्ली का है।"),
    "Thailand": (thailand, "ผู้สมัครมีเลขประจำตัวประชาชน {} ตามบัตร"),
    "Britain": (britain, "Her NHS number {} was printed on the letter from the clinic."),
}


def broken(number: str, chance: Draw) -> str:
    """The number with one digit changed."""
    places = [place for place, sign in enumerate(number) if sign.isdigit()]
    place = chance.choice(places)
    other = chance.choice([sign for sign in "0123456789" if sign != number[place]])
    return number[:place] + other + number[place + 1 :]


def found(sentence: str, number: str) -> bool:
    """Whether the whole number is found as a national one."""
    spans = [sentence[one.start : one.end] for one in find_private(sentence) if one.kind == "NATIONAL"]
    return number in spans


def false_positives(data: Path, words: int) -> tuple[int, Counter[str]]:
    """Findings of every kind in some million words of books, documentation, laws and code."""
    counts, seen = Counter[str](), 0
    paths = [path for path in sorted(data.glob("*/*.jsonl.gz")) if path.stat().st_size > 0]
    for path in paths:
        share = 0
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                part = row["text"][:60_000]
                counts.update(one.kind for one in find_private(part))
                share += len(part.split())
                if share >= words / len(paths):
                    break
        seen += share
    return seen, counts


def main() -> None:
    """Both measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--words", type=int, default=1_000_000)
    options, chance = parser.parse_args(), random.Random(0)
    for country, (make, sentence) in COUNTRIES.items():
        numbers = [make(chance) for _ in range(_PER_COUNTRY)]
        wrong = [broken(number, chance) for number in numbers]
        recall = wilson(sum(found(sentence.format(number), number) for number in numbers), len(numbers))
        through = sum(found(sentence.format(number), number) for number in wrong)
        assert recall is not None
        interval = f"{recall['value']:.2f} ({recall['low']:.2f}–{recall['high']:.2f})"
        print(f"{country}: recall {interval}; with one digit wrong {through} of {len(wrong)}")
    seen, counts = false_positives(options.data, options.words)
    rates = ", ".join(f"{kind} {1e6 * count / seen:.1f}" for kind, count in counts.most_common())
    print(f"findings in a million words of {seen:,}: {rates}")


if __name__ == "__main__":
    main()
