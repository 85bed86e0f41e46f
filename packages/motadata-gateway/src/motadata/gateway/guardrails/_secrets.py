"""Finds credentials: the formats of providers' keys, private keys, tokens, and random words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from motadata.core.protocols import Finding, FindingAction, GuardedText
from motadata.gateway.guardrails._rule import TextRule, check_action, check_choice


_MARK: Final = "[secret]"
_END: Final = r"(?![A-Za-z0-9])"

# By name: pieces of text of which each holds one, and the pattern. Whoever adds one keeps to
# `Guardrail.reach`: what makes it a secret stands in its first 64 characters, the rest is a class
# of characters. The patterns begin with their literal and repeat one class, so they are linear.
_FORMATS: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    "openai": (("sk-",), r"sk-[A-Za-z0-9_-]{16,}"),
    "aws": (("AKIA", "ASIA"), r"(?:AKIA|ASIA)[A-Z0-9]{16}" + _END),
    "github": (
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"(?:gh[pousr]_|github_pat_)[A-Za-z0-9_]{20,}",
    ),
    "gitlab": (("glpat-",), r"glpat-[A-Za-z0-9_-]{16,}"),
    "slack": (
        ("xox", "hooks.slack"),
        r"xox[abeoprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/[\w/]+",
    ),
    "google": (("AIza", "ya29."), r"AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_.-]{20,}"),
    "stripe": (("_live_", "_test_"), r"[rsp]k_(?:live|test)_[A-Za-z0-9]{10,}"),
    "huggingface": (("hf_",), r"hf_[A-Za-z0-9]{20,}"),
    "npm": (("npm_",), r"npm_[A-Za-z0-9]{30,}"),
    "pypi": (("pypi-",), r"pypi-[A-Za-z0-9_-]{30,}"),
    "sendgrid": (("SG.",), r"SG\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "digitalocean": (("_v1_",), r"do[opr]_v1_[a-f0-9]{30,}"),
    "azure": (("AccountKey=",), r"AccountKey=[A-Za-z0-9+/=]{30,}"),
    "motadata": (("mtd",), r"mtd[-_.][A-Za-z0-9._-]{12,}"),
    # The header of a token is JSON that begins with one of its registered names (RFC 7515).
    "jwt": (
        ("eyJ",),
        (
            r"eyJ(?:hbGci|0eXAi|raWQi|jdHki|lbmMi|4NXQi|qa3Ui|qd2si|4NWMi)[A-Za-z0-9_-]{8,}"
            r"(?:\.[A-Za-z0-9_-]*)*"
        ),
    ),
    "private_key": (
        ("-----BEGIN ",),
        (
            r"-----BEGIN [A-Z0-9 ]{0,32}PRIVATE KEY(?:(?!-----END )[\s\S])*"
            r"(?:-----END [A-Z0-9 ]*-{0,5})?"
        ),
    ),
    "url_password": (("://",), r"(?<=://)[^/\s:@\"']{0,64}:[^/\s@\"']{1,128}@"),
    "bearer": (
        ("earer ", "asic "),
        r"(?<=[Bb]earer )[\w.~+/=-]{16,}|(?<=[Bb]asic )(?=[\w+/]*[A-Z0-9+/=])[\w+/=]{16,}",
    ),
    "password": (
        ("assword", "ASSWORD", "asswd", "ecret", "ECRET", "pi_key", "PI_KEY", "pikey", "oken"),
        (
            r"(?i:(?:password|passwd|secret|api_?key|access_?token|auth_?token)[\"']?\s{0,3}[:=]\s{0,3}[\"']?)"
            # A word without a digit or sign is rather prose: "Reset password: follow the steps".
            r"(?P<value>(?![\[<{$*])(?=[^\s\"',;]{0,40}[0-9!@#$%^&*_])[^\s\"',;]{6,})"
        ),
    ),
}
# Where a text ends within a password, the sign behind it may still come.
_URL_PASSWORD_BEGUN: Final = re.compile(_FORMATS["url_password"][1][:-1] + r"(?:@|\Z)", re.ASCII)
_RANDOM: Final = re.compile(r"[A-Za-z0-9+/_=-]+")
_SHORTEST_RANDOM: Final = 32
_JUDGED: Final = 64
# A random word of 32 of 64 characters has about 4.7 bits each; words and paths joined have less.
_LEAST_BITS: Final = 4.2
# So many letters of one case in a row are a word.
_WORD: Final = re.compile(r"[a-z]{11}|[A-Z]{11}")

_KINDS: Final = (*_FORMATS, "random")


class Secrets(TextRule):
    """Masks or refuses credentials.

    Args:
        action: What to do with what is found.
        kinds: Which ones to look for, of `Secrets.KINDS`; None means all.
        name: Name that the rules begin with.

    Raises:
        ConfigurationError: The action or a kind does not exist.
    """

    KINDS: Final = _KINDS

    def __init__(
        self,
        action: FindingAction = "mask",
        *,
        kinds: Sequence[str] | None = None,
        name: str = "secrets",
    ) -> None:
        check_action(action, what=name)
        chosen = _KINDS if kinds is None else kinds
        check_choice(chosen, _KINDS, what="kinds")
        self._action: FindingAction = action
        self._patterns = {
            kind: re.compile(pattern, re.ASCII)
            for kind, (_, pattern) in _FORMATS.items()
            if kind in chosen
        }
        literals = [(literal, kind) for kind in self._patterns for literal in _FORMATS[kind][0]]
        self._underscored = [pair for pair in literals if "_" in pair[0]]
        self._literals = [pair for pair in literals if "_" not in pair[0]]
        self._random = "random" in chosen
        super().__init__(name, described=(action, sorted(chosen)))

    def find(self, text: GuardedText) -> Sequence[Finding]:
        """Return where credentials stand."""
        written = text.text
        found: list[Finding] = []
        # Most texts hold none of the literals, and looking for one takes some 30 ns.
        kinds = [kind for literal, kind in self._literals if literal in written]
        if "_" in written:
            kinds += [kind for literal, kind in self._underscored if literal in written]
        for kind in dict.fromkeys(kinds):
            found += self._of(kind, self._patterns[kind], written, final=text.final)
        if self._random and len(written) >= _SHORTEST_RANDOM:
            found += [self._finding("random", *span) for span in _random_words(written)]
        return found

    def _of(
        self, kind: str, pattern: re.Pattern[str], text: str, *, final: bool
    ) -> Iterator[Finding]:
        if kind == "url_password" and not final:
            pattern = _URL_PASSWORD_BEGUN
        group = "value" if "value" in pattern.groupindex else 0
        for match in pattern.finditer(text):
            start, end = match.span(group)
            # In the middle of a word it is a part of something else.
            if not text[match.start() - 1 : match.start()].isalnum() or kind in _ANYWHERE:
                yield self._finding(kind, start, end)

    def _finding(self, kind: str, start: int, end: int) -> Finding:
        return Finding(f"{self.name}.{kind}", self._action, start, end, _MARK)


_ANYWHERE: Final = frozenset({"password", "private_key", "url_password", "bearer", "azure"})


def _random_words(text: str) -> Iterator[tuple[int, int]]:
    if max(map(len, text.split()), default=0) < _SHORTEST_RANDOM:
        return
    for match in _RANDOM.finditer(text):
        start, end = match.span()
        # The first characters decide, so that a stream and the whole text agree.
        if end - start >= _SHORTEST_RANDOM and _is_random(text[start : min(end, start + _JUDGED)]):
            yield start, end


def _is_random(word: str) -> bool:
    if not all(any(map(kind, word)) for kind in (str.isdigit, str.isupper, str.islower)):
        return False
    if _WORD.search(word) is not None:
        return False
    counts = Counter(word).values()
    return -sum(n / len(word) * math.log2(n / len(word)) for n in counts) >= _LEAST_BITS
