"""Sums over figures that were entered once: published ones, the article's statements, the recipes. Nothing is typed twice."""

import re
from collections.abc import Callable

from mdw.report.article import figure
from mdw.report.names import signed
from mdw.training import recipes
from mdw.util.errors import MdwError

OPERATOR = re.compile(r" ([-+*/]) ")


def evaluate(text: str, stated: Callable[[str], float]) -> float:
    """The value of a sum of products such as "[T2|MobileNetV2|256x192|AP] + {val-18-mobile}"; operators stand between spaces.

    A factor is a number, [table|model|input|column] of published.csv, recipe|name|field, or {id}, which `stated` looks up.
    Raises MdwError for a factor that is none of these or names nothing.
    """
    factors, operators = _split(text)
    terms = [_factor(factors[0], stated)]
    for operator, factor in zip(operators, factors[1:], strict=True):
        value = _factor(factor, stated)
        if operator in "*/":
            terms[-1] *= value if operator == "*" else 1 / value
        else:
            terms.append(value if operator == "+" else -value)
    return sum(terms)


def in_words(text: str, stated: Callable[[str], float]) -> str:
    """The same sum with the figures in their places, and its value: "64.6 + 3.2 = 67.8"."""
    factors, operators = _split(text)
    signs = {"*": "×", "-": "\u2212"}
    shown = [_plain(_factor(factor, stated)) for factor in factors]
    said = shown[0] + "".join(f" {signs.get(o, o)} {s}" for o, s in zip(operators, shown[1:], strict=True))
    return said if len(factors) == 1 else f"{said} = {_plain(evaluate(text, stated))}"


def _split(text: str) -> tuple[list[str], list[str]]:
    parts = OPERATOR.split(text.strip())
    return parts[::2], parts[1::2]


def _factor(text: str, stated: Callable[[str], float]) -> float:
    if match := re.fullmatch(r"\[([^|\]]+)\|([^|\]]+)\|([^|\]]*)\|(\w+)\]", text):
        return figure(*match.groups())
    if match := re.fullmatch(r"\{([\w-]+)\}", text):
        return stated(match[1])
    if match := re.fullmatch(r"recipe\|(\w+)\|(\w+)", text):
        return float(getattr(recipes.get(match[1]), match[2]))
    try:
        return float(text)
    except ValueError:
        raise MdwError(f"{text!r} is no number, [table|model|input|column], recipe|name|field or {{id}}; correct it") from None


def _plain(value: float) -> str:
    return signed("{:.4g}", round(value, 9))  # without what floating point adds
