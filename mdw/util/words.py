"""Wording that several rooms use: counts with their noun, and the error for an unknown name."""

from collections.abc import Iterable
from difflib import get_close_matches

from mdw.util.errors import MdwError


def count(number: int, noun: str, plural: str = "") -> str:
    """ "1 photo", "2 photos", "1,000 people"; `plural` where it is not the noun and an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def unknown(what: str, name: object, known: Iterable[str], listing: str) -> MdwError:
    """Returns the error for a name not in `known`: f"{what} 'name'", the nearest names, f"{listing} ..." with all of them.

    unknown("there is no model", "mdw_hrnet18", MODELS, "the models are")
    """
    known = list(known)
    candidates = nearest(name, known)
    suggestion = f" (did you mean {' or '.join(candidates)}?)" if candidates else ""
    return MdwError(f"{what} {name!r}{suggestion}; {listing} {', '.join(known) or 'none'}")


def nearest(name: object, known: Iterable[str]) -> list[str]:
    """Returns the names in `known` that `name` may mean: the one spelt most like it, else up to three that begin with it."""
    spellings, text = {word.lower().replace("-", "_"): word for word in known}, str(name).lower().replace("-", "_")
    close = get_close_matches(text, spellings, 1)
    return [spellings[word] for word in close or [word for word in spellings if text and word.startswith(text)][:3]]
