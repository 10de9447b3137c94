"""Say what is wrong with a field so that its sender can repair it."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from libs.errors import BadEvent

_PLAINER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "missing": "is required",
        "int_type": "must be a whole number, written without quotes, point or exponent, within 64 bits",
        "float_type": "must be a number, written without quotes",
        "bool_type": "must be true or false",
        "tuple_type": "must be a list",
        "string_pattern_mismatch": "must be printable ASCII without blanks",
    }
)

_SUBJECT: Final = re.compile(r"^\w+ should")  # "Input should be …", "Tuple should have …"


def describe(error: ValidationError) -> BadEvent:
    """Return the first problem of a document, its field as a dotted path (``history_age_s.2``)."""
    first: Any = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = [str(part) for part in first["loc"]]
    if path[0] == "context" and len(path) > 1:
        # A union answers once for each member, a key once for its own limits: one sentence says both.
        path = path[:2]
        text = "must be a finite number or a text of at most 128 characters, under a name of 1 to 64"
    else:
        text = _PLAINER.get(first["type"]) or _SUBJECT.sub("must", first["msg"]).replace(" after validation", "")
    field = ".".join(path)
    return BadEvent("field", f"{field}: {text}", field)
