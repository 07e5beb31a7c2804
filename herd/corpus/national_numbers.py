"""National numbers of persons, told by their form and their check digits: the countries of the paper's eight languages.

    list(find_national("CPF 390.533.447-05"))    # [(4, 18)]

A form that other things have too (nine or eleven bare digits) counts only behind a word that says what it is: one
number in ten or eleven has right check digits by chance.  US numbers, which have none, are in ``privacy``.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stdnum.br import cpf
from stdnum.de import idnr
from stdnum.es import dni, nie
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.in_ import aadhaar
from stdnum.it import codicefiscale
from stdnum.pt import nif
from stdnum.th import pin

from herd.corpus.characters import Digits

_CONTEXT_CHARACTERS = 60


@dataclass(frozen=True)
class _Number:
    """A form, its check, and the words of which one must stand before it; none where the form is enough."""

    pattern: re.Pattern[str]
    valid: Callable[[str], bool]
    words: re.Pattern[str] | None = None


def _number(pattern: str, valid: Callable[[str], bool], words: str = "") -> _Number:
    context = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE) if words else None
    return _Number(re.compile(pattern), valid, context)


# Like those of ``privacy`` the patterns begin with a digit where they can, and look behind it afterwards.
_NUMBERS = (
    _number(r"\d(?<![\w.-]\d)\d\d\.\d{3}\.\d{3}-\d\d(?![\w-])", cpf.is_valid),
    _number(r"\d(?<![\w.-]\d)\d{10}(?![\w-])(?!\.\d)", cpf.is_valid, "cpf"),
    _number(r"[A-Z](?<!\w[A-Z])[A-Z]{5}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z](?!\w)", codicefiscale.is_valid),
    _number(r"\d(?<![\w.-]\d)\d{7}[ -]?[A-Z](?!\w)", dni.is_valid, "dni|nif|documento nacional|d\\.n\\.i\\."),
    _number(r"[XYZ](?<!\w[XYZ])-?\d{7}-?[A-Z](?!\w)", nie.is_valid),
    _number(
        r"[12](?<![\w.-][12])(?P<gap> ?)\d\d(?P=gap)(?:0[1-9]|1[0-2]|[2-9]\d)(?P=gap)\d[\dAB]"
        r"(?P=gap)\d{3}(?P=gap)\d{3} ?\d\d(?![\w-])(?!\.\d)",
        nir.is_valid,
    ),
    _number(
        r"\d(?<![\w.-]\d)\d\d ?\d{3} ?\d{3}(?![\w-])(?!\.\d)",
        nif.is_valid,
        "nif|contribuinte|identificação fiscal",
    ),
    _number(
        r"\d(?<![\w.-]\d)\d ?\d{3} ?\d{3} ?\d{3}(?![\w-])(?!\.\d)",
        idnr.is_valid,
        r"steuer-?id(?:nr)?\.?|id-?nr\.?|steuerliche identifikationsnummer|steuer-?identifikationsnummer|steuernummer",
    ),
    _number(
        r"[2-9](?<![\w.-][2-9])\d{3}(?P<gap>[ -])\d{4}(?P=gap)\d{4}(?![\w-])(?!\.\d)(?![ -]\d{4})",
        aadhaar.is_valid,
        r"aadhaar|aadhar|uidai?|आधार",
    ),
    _number(r"[2-9](?<![\w.-][2-9])\d{11}(?![\w-])(?!\.\d)", aadhaar.is_valid, r"aadhaar|aadhar|uidai?|आधार"),
    _number(r"\d(?<![\w.-]\d)(?P<gap>[ -])\d{4}(?P=gap)\d{5}(?P=gap)\d\d(?P=gap)\d(?![\w-])", pin.is_valid),
    _number(
        r"[1-8](?<![\w.-][1-8])\d{12}(?![\w-])(?!\.\d)",
        pin.is_valid,
        r"เลข(?:ประจำตัว|บัตร)ประชาชน\w*|thai id|id card",
    ),
    _number(r"\d(?<![\w.-]\d)\d\d[ -]?\d{3}[ -]?\d{4}(?![\w-])(?!\.\d)", nhs.is_valid, r"nhs(?: number| no\.?)?"),
)  # fmt: skip


_OF_LETTERS = tuple(number for number in _NUMBERS if number.valid is codicefiscale.is_valid)


def find_national(text: str) -> Iterator[tuple[int, int]]:
    """Where the numbers begin and end, country by country."""
    # Every form but one holds seven digits with at most one sign between two of them, which most texts do not.
    for number in _NUMBERS if Digits(text).crowd(7, 12) else _OF_LETTERS:
        for match in number.pattern.finditer(text):
            if _is_said(number, text, match.start()) and number.valid(match.group()):
                yield match.span()


def _is_said(number: _Number, text: str, start: int) -> bool:
    return number.words is None or number.words.search(text[max(start - _CONTEXT_CHARACTERS, 0) : start]) is not None
