"""National numbers are found by form, word and check digits; what only looks like one stays."""

import time

import pytest

from herd.corpus.national_numbers import find_national
from herd.corpus.privacy import find_private, redact


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("inscrita no CPF 390.533.447-05.", "390.533.447-05"),
        ("CPF 39053344705", "39053344705"),
        ("codice fiscale RCCMNL83S18D969H, Genova", "RCCMNL83S18D969H"),
        ("con DNI 54362315-K", "54362315-K"),
        ("NIE X-2482300-W en regla", "X-2482300-W"),
        ("sécurité sociale 2 95 10 99 126 111 93", "2 95 10 99 126 111 93"),
        ("n° 295109912611193", "295109912611193"),
        ("contribuinte 501 964 843", "501 964 843"),
        ("Steuer-IdNr.: 36 574 261 809", "36 574 261 809"),
        ("Aadhaar number 2341 2341 2346", "2341 2341 2346"),
        ("เลขประจำตัวประชาชน 1-2345-45678-78-1", "1-2345-45678-78-1"),
        ("NHS No. 943 476 5870", "943 476 5870"),
    ],
)
def test_findings(text: str, number: str) -> None:
    assert [text[start:end] for start, end in find_national(text)] == [number]
    assert [text[one.start : one.end] for one in find_private(text) if one.kind == "NATIONAL"] == [number]
    assert redact(text)[0] == text.replace(number, "[NATIONAL]")


@pytest.mark.parametrize(
    "text",
    [
        "inscrita no CPF 390.533.447-06.",
        "codice fiscale RCCMNL83S18D969I",
        "el pedido 54362315K llegó",
        "the value 36574261809 and 501964843 and 9434765870",
        "2341 2341 2346 in a table of 2341 2341 2346",
        "Aadhaar " + "word " * 20 + "2341 2341 2346",
        "card 2341 2341 2346 0000 of the Aadhaar office",
        "call the CPF office: 11.444.777.35",
        "x390.533.447-05 and 390.533.447-056",
    ],
)
def test_what_only_looks_like_one_stays(text: str) -> None:
    assert list(find_national(text)) == []


def test_long_runs_of_digits_and_letters_take_bounded_time() -> None:
    began = time.process_time()
    for part in ("1", "12 ", "2341 ", "ABCDEF", "1-2345-", "390.", "X1234567-"):
        assert list(find_national(part * 40_000)) == []
    assert time.process_time() - began < 5
