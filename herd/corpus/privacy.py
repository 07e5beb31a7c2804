"""Replaces what names a person or opens a door: e-mail, phone, IP, account, card and national numbers, keys.

Every finding is checked by whatever knows its format (check digits, numbering plans, address ranges), so that technical
text full of digits stays as it is; addresses reserved for documentation stay too.  A finding becomes a fixed
placeholder such as ``[EMAIL]``.  The paper removes sites with much personal data (section 3.1.1): hence the limit on
their density.
"""

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import phonenumbers
from stdnum import iban, luhn
from stdnum.us import ssn

from herd.corpus.characters import Digits
from herd.corpus.national_numbers import find_national
from herd.foundation.config import Config


class PrivacyConfig(Config):
    """Regions are the numbering plans tried for phone numbers without a country code, in that order.

    A document is rejected when it holds at least ``maximum_findings`` findings and more than ``maximum_density`` of
    them per word: a directory of people is not prose with the names taken out.
    """

    phone_regions: tuple[str, ...] = (
        "US",
        "GB",
        "DE",
        "FR",
        "IT",
        "ES",
        "PT",
        "IN",
        "TH",
        "AU",
        "BR",
        "MX",
        "CH",
        "BE",
    )
    maximum_findings: int = 10
    maximum_density: float = 0.05


@dataclass(frozen=True)
class Finding:
    """A span of the text and the kind of what it holds."""

    start: int
    end: int
    kind: str


# Patterns begin with the character that is looked for and look behind it afterwards: the regular expression engine then
# jumps from one such character to the next, which is five to ten times faster on tens of megabytes.
_EMAIL_DOMAIN = re.compile(r"@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+([A-Za-z]{2,24}))(?![\w@(\[])")
_EMAIL_LOCAL = re.compile(r"(?<![\w.+/@-])[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}$")
_GENERIC_TLDS = frozenset(
    [
        "com",
        "org",
        "net",
        "edu",
        "gov",
        "mil",
        "int",
        "info",
        "biz",
        "name",
        "pro",
        "io",
        "dev",
        "app",
        "tech",
        "cloud",
        "online",
        "site",
        "shop",
        "museum",
        "coop",
        "aero",
        "jobs",
        "mobi",
    ]
)
_EXAMPLE_DOMAIN = re.compile(
    r"(?:^|\.)(?:example\.(?:com|org|net|edu)|example|invalid|test|localhost|domain\.(?:com|tld)"
    r"|(?:my|your)?(?:company|domain|host)\.(?:com|org|net))$"
)
_IPV4 = re.compile(r"\d(?<![\w.:-]\d)\d{0,2}(?:\.\d{1,3}){3}(?![\w-])(?!\.\d)")
_IPV4_SIGN = re.compile(r"\.\d{1,3}\.\d{1,3}\.\d")
_IPV6_SIGN = re.compile(r":[0-9A-Fa-f]{0,4}:")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:){2,7}(?::|[0-9A-Fa-f]{1,4})(?::?[0-9A-Fa-f]{1,4}){0,6}(?![\w:])")
_WELL_KNOWN = frozenset(
    ["8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "1.2.3.4", "4.3.2.1", "1.0.0.127", "123.45.67.89"]
)
_VERSION_BEFORE = re.compile(r"(?:version|release|section|\bv|[=<>~^]=?|\.whl|[-_])\s*['\"]?$", re.IGNORECASE)
_IBAN = re.compile(
    r"\d(?<=[A-Za-z]{2}\d)(?<![A-Za-z0-9][A-Za-z]{2}\d)\d"
    r"(?:[ -]?[A-Za-z0-9]{4}){2,7}(?:[ -]?[A-Za-z0-9]{1,3})?(?![A-Za-z0-9])"
)
_CARD = re.compile(r"\d(?<![\w.,+/-]\d)(?:[ -]?\d){11,18}(?![\w-])(?!\.\d)")
_SSN = re.compile(r"\d(?<![\w.-]\d)\d\d-\d\d-\d{4}(?![\w-])")
_PHONE = re.compile(
    r"[+(\d](?<![\w.,/:=+*#$%<>\[-].)(?<=[\d(+])(?:\(?\d{1,5}|\d{0,4})\)?"
    r"(?:[ .-]{0,2}\(?\d{1,7}\)?){1,6}(?:x\d{2,5})?(?![\w%*/=+\]])(?![.,:]\d)"
)
_PHONE_CONTEXT = re.compile(
    r"\b(?:tel(?:e(?:phone|fono|fon|f))?|phone|call(?:ed|ing)?|fax|mobile|cell|whatsapp|hotline|dial|sms|text me"
    r"|contact(?: me)?|ring|reach|handy)\b",
    re.IGNORECASE,
)
_PHONE_AFTER = re.compile(r"[ -]{0,2}(?:office|fax|mobile|cell|home|phone)\b", re.IGNORECASE)
_DATE_LIKE = re.compile(
    r"(?<!\d)(?:1\d|20)\d\d[-./ ][01]?\d(?:[-./ ][0-3]?\d)?(?!\d)"
    r"|(?<!\d)[0-3]?\d[-./ ][01]?\d[-./ ](?:1\d|20)\d\d(?!\d)"
)
_KEYS = {
    " PRIVATE KEY-----": r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----.{40,8000}?-----END (?:[A-Z]+ )?PRIVATE KEY-----",
    "AKIA": r"\bAKIA[A-Z0-9]{16}\b",
    "ASIA": r"\bASIA[A-Z0-9]{16}\b",
    "gh": r"\bgh[pousr]_[A-Za-z0-9]{36,255}\b",
    "github_pat_": r"\bgithub_pat_\w{22,255}\b",
    "xox": r"\bxox[abprs]-[A-Za-z0-9-]{10,250}\b",
    "AIza": r"\bAIza[\w-]{35}\b",
    "hf_": r"\bhf_[A-Za-z0-9]{30,}\b",
    "sk-": r"\bsk-[A-Za-z0-9_-]{32,}\b",
    "sk_live_": r"\bsk_live_[A-Za-z0-9]{20,}\b",
    "eyJ": r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}",
}
_KEY_PATTERNS = [(sign, re.compile(pattern, re.DOTALL)) for sign, pattern in _KEYS.items()]
_ASSIGNED = re.compile(r"[:=]\s{0,4}['\"]([^'\"\s]{16,200})['\"]")
_SECRET_NAME = re.compile(
    r"(?:api[_-]?key|secret(?:[_-]?key)?|access[_-]?token|auth[_-]?token|password|passwd)['\"]?\s{0,4}$", re.IGNORECASE
)
_PARTS_OF_NAMES = ("key", "secret", "token", "passw")  # one of them stands in each of these names


def _emails(text: str) -> Iterator[Finding]:
    for match in _EMAIL_DOMAIN.finditer(text):
        first = max(match.start() - 65, 0)
        local = _EMAIL_LOCAL.search(text[first : match.start()])
        domain, suffix = match.group(1), match.group(2)
        known = suffix.lower() in _GENERIC_TLDS or (len(suffix) == 2 and suffix in (suffix.lower(), suffix.upper()))
        if local and known and not _EXAMPLE_DOMAIN.search(domain.lower()):
            yield Finding(first + local.start(), match.end(), "EMAIL")


def _addresses(text: str) -> Iterator[Finding]:
    signs = ((_IPV4_SIGN, _IPV4), (_IPV6_SIGN, _IPV6))
    for pattern in (pattern for sign, pattern in signs if sign.search(text)):
        for match in pattern.finditer(text):
            before = text[max(match.start() - 12, 0) : match.start()]
            if _is_personal_address(match.group(), before):
                yield Finding(match.start(), match.end(), "IP")


def _is_personal_address(candidate: str, before: str) -> bool:
    """A global unicast address that is not a version or section number, nor one that every text book uses."""
    try:
        address = ipaddress.ip_address(candidate)
    except ValueError:
        return False
    if not address.is_global or address.is_multicast or candidate in _WELL_KNOWN:
        return False
    if address.version == 6:
        return len(candidate) >= 12 and not candidate.startswith(("1:2:3", "123:"))
    return len(candidate) > 7 and not _VERSION_BEFORE.search(before)


def _accounts(text: str) -> Iterator[Finding]:
    for match in _IBAN.finditer(text):
        start = match.start() - 2
        # The check digits say where the number ends when words follow it.
        for end in range(match.end(), start + 14, -1):
            whole = end == match.end() or not text[end].isalnum()
            if whole and text[end - 1].isalnum() and iban.is_valid(text[start:end]):
                yield Finding(start, end, "IBAN")
                break


def _cards(text: str) -> Iterator[Finding]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match.group())
        # Card numbers begin with 1 to 6 (ISO/IEC 7812); runs of few distinct digits are tables and examples.
        if digits[0] in "123456" and len(set(digits)) > 3 and luhn.is_valid(digits):
            yield Finding(match.start(), match.end(), "CARD")


def _social_security(text: str) -> Iterator[Finding]:
    for match in _SSN.finditer(text):
        if ssn.is_valid(match.group()):
            yield Finding(match.start(), match.end(), "SSN")


def _national(text: str) -> Iterator[Finding]:
    return (Finding(start, end, "NATIONAL") for start, end in find_national(text))


def _secrets(text: str) -> Iterator[Finding]:
    for sign, pattern in _KEY_PATTERNS:
        if sign in text:
            for match in pattern.finditer(text):
                yield Finding(match.start(), match.end(), "KEY")
    folded = text.casefold()
    for match in _ASSIGNED.finditer(text) if any(part in folded for part in _PARTS_OF_NAMES) else ():
        value = match.group(1)
        if _SECRET_NAME.search(text[max(match.start() - 30, 0) : match.start()]) and _looks_random(value):
            yield Finding(match.start(1), match.end(1), "KEY")


def _looks_random(value: str) -> bool:
    return entropy(value) > 3.5 and any(map(str.isdigit, value)) and any(map(str.isalpha, value))


def entropy(value: str) -> float:
    """Shannon entropy of the characters of ``value`` in bits a character."""
    return -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())


def _phones(text: str, regions: tuple[str, ...]) -> Iterator[Finding]:
    for match in _PHONE.finditer(text):
        candidate = match.group()
        digits = sum(map(str.isdigit, candidate))
        if not 7 <= digits <= 15 or _DATE_LIKE.search(candidate):
            continue
        before = text[max(match.start() - 60, 0) : match.start()].rsplit("\n\n", 1)[-1]
        in_context = _PHONE_CONTEXT.search(before) or _PHONE_AFTER.match(text, match.end())
        if _is_phone(candidate.partition("x")[0], bool(in_context), regions):
            yield Finding(match.start(), match.end(), "PHONE")


def _is_phone(candidate: str, in_context: bool, regions: tuple[str, ...]) -> bool:
    """Numbers with a country code must be possible; others need a region and groups, or a word that says so."""
    international = candidate.startswith(("+", "00"))
    if international:
        return _possible("+" + candidate.lstrip("+0").replace("(0)", ""))
    if in_context:
        return True
    groups = re.findall(r"\d+", candidate)
    if len(groups) < 3 and "(" not in candidate:
        return False
    if "." in candidate or min(map(len, groups)) < 2 or max(map(len, groups)) > 5:
        return False
    return any(_valid(candidate, region) for region in regions)


def _possible(candidate: str) -> bool:
    """A country code that exists and a length that its plan allows; ranges not handed out yet count as numbers too."""
    try:
        return phonenumbers.is_possible_number(phonenumbers.parse(candidate, None))
    except phonenumbers.NumberParseException:
        return False


def _valid(candidate: str, region: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(candidate, region))
    except phonenumbers.NumberParseException:
        return False


def find_private(text: str, config: PrivacyConfig = PrivacyConfig()) -> list[Finding]:  # noqa: B008 - frozen
    """All findings in order of position, none overlapping; keys win over accounts, accounts over phones."""
    searches: list[Callable[[str], Iterator[Finding]]] = [_secrets, _emails]
    if any(digit in text for digit in "0123456789"):
        digits = Digits(text)
        # A number has so many digits, each at most one or more signs behind the one before.
        searches += [_accounts, _national]
        searches += [_cards] if digits.crowd(12, 22) else []
        searches += [_social_security] if digits.crowd(9, 10) else []
        searches.append(_addresses)
        searches += [lambda text: _phones(text, config.phone_regions)] if digits.crowd(7, 36) else []
    taken: list[Finding] = []
    covered: set[int] = set()
    for search in searches:
        for finding in search(text):
            span = range(finding.start, finding.end)
            if covered.isdisjoint(span):
                covered.update(span)
                taken.append(finding)
    return sorted(taken, key=lambda finding: finding.start)


def redact(text: str, config: PrivacyConfig = PrivacyConfig()) -> tuple[str, Counter[str]]:  # noqa: B008 - frozen
    """The text with placeholders in place of its findings, and how many there were of each kind."""
    findings = find_private(text, config)
    if not findings:
        return text, Counter()
    parts, last = [], 0
    for finding in findings:
        parts += [text[last : finding.start], f"[{finding.kind}]"]
        last = finding.end
    return "".join([*parts, text[last:]]), Counter(finding.kind for finding in findings)


def reject_private(findings: int, text: str, config: PrivacyConfig) -> str | None:
    """The reason to reject a document that is mostly a list of personal data."""
    if findings < config.maximum_findings or findings <= config.maximum_density * max(len(text.split()), 1):
        return None
    return "density of personal data"
