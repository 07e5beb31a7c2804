"""Personal data is found where its format proves it, and documentation full of numbers stays as it is."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from herd.corpus.privacy import PrivacyConfig, find_private, redact, reject_private


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("write to jane.doe+x@some-firm.co.uk now", "EMAIL", "jane.doe+x@some-firm.co.uk"),
        ("call (415) 555-2671 today", "PHONE", "(415) 555-2671"),
        ("Tel. +49 30 901820", "PHONE", "+49 30 901820"),
        ("from 86.121.97.248 at night", "IP", "86.121.97.248"),
        ("host 2a02:8071:22d1:e900:41f8:8b5c:1234:5678 up", "IP", "2a02:8071:22d1:e900:41f8:8b5c:1234:5678"),
        ("IBAN DE89 3704 0044 0532 0130 00 please", "IBAN", "DE89 3704 0044 0532 0130 00"),
        ("card 4111-1111-2222-3334-", "CARD", None),
        ("card 4539 1488 0343 6467.", "CARD", "4539 1488 0343 6467"),
        ("number 514-69-0360", "SSN", "514-69-0360"),
        ("key AKIAIOSFODNN7EXAMPLE in", "KEY", "AKIAIOSFODNN7EXAMPLE"),
        ("password = 'tR7kq2Lw9zXp4Vb8Nc'", "KEY", "tR7kq2Lw9zXp4Vb8Nc"),
    ],
)
def test_findings(text: str, kind: str, found: str | None) -> None:
    spans = [text[finding.start : finding.end] for finding in find_private(text) if finding.kind == kind]
    assert spans == ([found] if found else [])


@pytest.mark.parametrize(
    "text",
    [
        "user@example.com and root@localhost, x@y.example",
        "bind to 127.0.0.1, 10.0.0.5, 192.168.1.20 or 0.0.0.0; ask 8.8.8.8",
        "matrix = q@k.mT + a@b.T",
        "@property def f(self): return self.x @ self.y",
        "array([0.4142, 0.7320, 2.2360, 1234567, 89101112])",
        "released 2024-03-18 12:45:03, then 18.03.2024",
        "version 3.11.4.2, section 8.1.2.2, python>=3.9.1.0",
        "a[::2], b[1:2:3], 12:30:45, ::1, fe80::1",
        ">>> range(1000, 2000, 250)\n[1000, 1250, 1500, 1750]",
        "password = 'correct horse battery'",
        "4539148803436468 is no card",
        "UUID('12345678-1234-5678-1234-567812345678')",
    ],
)
def test_documentation_stays(text: str) -> None:
    assert redact(text) == (text, {})


def test_placeholders_are_stable_and_counted() -> None:
    text, counts = redact("a@firm.org, b@firm.org")
    assert text == "[EMAIL], [EMAIL]"
    assert counts == {"EMAIL": 2}
    assert redact(text) == (text, {})


@given(st.text(alphabet="ab@.:+-() 0123456789\n", max_size=80))
def test_findings_are_ordered_and_apart(text: str) -> None:
    findings = find_private(text)
    for one, other in itertools.pairwise(findings):
        assert one.end <= other.start
    assert all(0 <= finding.start < finding.end <= len(text) for finding in findings)


def test_a_directory_of_people_is_rejected_and_an_author_line_is_not() -> None:
    config = PrivacyConfig()
    assert reject_private(40, "word " * 200, config) == "density of personal data"
    assert reject_private(40, "word " * 5000, config) is None
    assert reject_private(3, "word " * 10, config) is None
