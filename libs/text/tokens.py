"""From a content to the words its vector is made of."""

import html
import re
import unicodedata
from typing import Final

MAX_TOKENS: Final = 2_000
"""Words of one text that count, from its beginning: bounds the time to infer its vector (about 0.1 s)."""

MAX_CHARACTERS: Final = 50_000
"""Characters of one text that are looked at: more than any content on the wire has."""

_INVISIBLE: Final = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1\s*>|$)", re.IGNORECASE | re.DOTALL)
_TAG: Final = re.compile(r"<!--.*?(?:-->|$)|</?[a-zA-Z!][^<>]*>", re.DOTALL)
# They stand inside words and are not seen: soft hyphen, joiners, byte order mark.
_UNSEEN: Final = dict.fromkeys(map(ord, "\u00ad\u200c\u200d\u2060\ufeff"))
_WORD: Final = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
# Scripts in which blanks do not part what belongs together: Hangul, kana and Han.
_JOINED: Final = re.compile(r"[가-힣\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")


def text_of(title: str, description: str | None = "") -> str:
    """Return the text of a content: the one definition, for training and for inference alike."""
    return f"{title}\n{description or ''}".strip()


def tokens(text: str) -> list[str]:
    """Return the words of a text: markup removed, NFKC, lower case.

    Korean glues particles to nouns (서울은, 서울을, 서울에서), so whole words hardly ever repeat; the pairs of
    neighbouring characters inside a word do, and are added after it. A word of two characters is its own pair. The same
    serves kana and Han, which come without blanks.

    >>> tokens("<b>Don't</b> miss &amp; share: ２０２４")
    ["don't", 'miss', 'share', '2024']
    >>> tokens("서울에서")
    ['서울에서', '서울', '울에', '에서']
    """
    plain = html.unescape(_TAG.sub(" ", _INVISIBLE.sub(" ", text[:MAX_CHARACTERS]))).translate(_UNSEEN)
    found: list[str] = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", plain).lower()):
        found.append(word.replace("’", "'"))
        for run in _JOINED.findall(word):
            if len(run) > 2 or len(run) < len(word):
                found.extend(run[i : i + 2] for i in range(len(run) - 1))
        if len(found) >= MAX_TOKENS:
            break
    return found[:MAX_TOKENS]
