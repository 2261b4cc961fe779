"""What several rooms say in the same words: how many of a thing, and that there is no thing of a name."""

from collections.abc import Iterable
from difflib import get_close_matches

from mdw.util.errors import MdwError


def count(number: int, noun: str, plural: str = "") -> str:
    """ "1 photo", "2 photos", "1,000 people"; `plural` where it is not the noun and an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def unknown(what: str, name: object, known: Iterable[str], are: str) -> MdwError:
    """The mistake of a name that is not one of `known`: f"{what} 'name'", what is nearest to it, f"{are} ..." with all of them.

    unknown("there is no model", "mdw_hrnet18", MODELS, "the models are")
    """
    known = list(known)
    near = nearest(name, known)
    meant = f" (did you mean {' or '.join(near)}?)" if near else ""
    return MdwError(f"{what} {name!r}{meant}; {are} {', '.join(known) or 'none'}")


def nearest(name: object, known: Iterable[str]) -> list[str]:
    """Those of `known` that may be meant by `name`: the one spelt most like it, else up to three that begin with it."""
    lower, text = {word.lower().replace("-", "_"): word for word in known}, str(name).lower().replace("-", "_")
    close = get_close_matches(text, lower, 1)
    return [lower[word] for word in close or [word for word in lower if text and word.startswith(text)][:3]]
