"""The baseline beside the guard: a list of words that condemns whatever holds one of them.

Written as such lists are written, by what comes to mind for each category, and never tuned on any set.
"""

import re

_WORDS = (
    "kill", "murder", "stab", "shoot", "poison", "torture", "kidnap", "strangle", "rape", "attack", "beat up",
    "steal", "rob", "hack", "forge", "launder", "bribe", "drugs", "meth", "cocaine", "heroin", "smuggle", "phishing",
    "malware", "ransomware", "virus", "keylogger", "botnet", "stolen", "fraud", "blackmail",
    "home address", "social security", "spy on", "stalk", "dox", "medical records",
    "bomb", "explosive", "nerve agent", "anthrax", "sarin", "uranium", "grenade", "toxic gas",
    "vermin", "subhuman", "inferior race", "parasites", "hate",
    "suicide", "kill myself", "end my life", "overdose", "hurt myself", "cut myself",
    "rm -rf", "/etc/shadow", "/etc/passwd", "reverse shell", "fork bomb", "sandbox", "rootkit", "backdoor", "exploit",
    "denial of service", "root privileges",
    "ignore previous", "ignore all", "disregard", "system prompt", "jailbreak", "no restrictions", "override",
)  # fmt: skip
_PATTERN = re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in _WORDS), re.IGNORECASE)


def is_suspicious(text: str) -> bool:
    """Whether the text holds one of the words, as a whole word and in any case."""
    return _PATTERN.search(text) is not None
