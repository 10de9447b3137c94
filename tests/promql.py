"""What a PromQL expression asks for."""

import re
from collections.abc import Iterator

_CLAUSE = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_RANGE = re.compile(r"\[[^\]]*\]")
_SELECTOR = re.compile(r"(?<![\w.:])([a-zA-Z_:][\w:]*)(?![\w:])\s*(\{[^}]*\})?(?!\s*\()")
_WORDS = {"and", "or", "unless", "bool", "offset"}


def selectors(expr: str) -> Iterator[str]:
    """Return every series selector of an expression, ``name{matchers}``.

    >>> list(selectors('sum by (job) (rate(a_total{status=~"5.."}[5m])) / on () b:c > 0 or vector(0)'))
    ['a_total{status=~"5.."}', 'b:c']
    """
    bare = _RANGE.sub("", _CLAUSE.sub(" ", expr))
    for name, matchers in _SELECTOR.findall(bare):
        if name not in _WORDS:
            yield name + matchers
