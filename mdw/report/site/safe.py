"""What may stand in a page: MathML and SVG by allow-list, and a policy by which a browser runs this package's scripts alone.

A page shows what others wrote: records of runs, file names, outputs of notebooks. Their text is escaped where it enters
(`literal`, Jinja, `markup.escape`), their drawings and formulas pass the lists here, and `sealed` ends every page.
"""

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from typing import Any

import nh3

_MATH = """
    math maction menclose merror mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow ms mspace
    msqrt mstyle msub msubsup msup mtable mtd mtext mtr munder munderover
""".split()
_MATH_ATTRIBUTES = """
    accent accentunder columnalign columnlines columnspacing columnspan depth dir display displaystyle fence form height
    largeop linebreak linethickness lspace mathbackground mathcolor mathsize mathvariant maxsize minsize movablelimits
    notation rowlines rowspacing rowspan rspace scriptlevel separator stretchy symmetric voffset width
""".split()
_SVG = """
    svg circle clipPath defs desc ellipse g image line linearGradient path pattern polygon polyline radialGradient rect
    stop symbol text textPath title tspan use
""".split()
_SVG_STYLES = """
    clip-path clip-rule color dominant-baseline fill fill-opacity fill-rule font font-family font-size font-style
    font-weight image-rendering opacity shape-rendering stop-color stop-opacity stroke stroke-dasharray stroke-dashoffset
    stroke-linecap stroke-linejoin stroke-miterlimit stroke-opacity stroke-width text-anchor
""".split()
_SVG_ATTRIBUTES = """
    aria-describedby aria-label aria-labelledby class cx cy d data-branch data-module data-shape dx dy gradientTransform
    gradientUnits height href id offset patternTransform patternUnits points preserveAspectRatio r role rx ry style
    transform version viewBox width x x1 x2 xlink:href y y1 y2
""".split()
IMAGE = re.compile(r"data:image/(?:png|jpeg|webp);base64,[A-Za-z0-9+/=\s]+")
_STYLED = re.compile(r"""(<[a-zA-Z][^<>]*?)\sstyle="([^"<>]*)\"""")
_RUNS = re.compile(r"<(script|style)((?:\s[^<>]*)?)>(.*?)</\1>", re.S)
_MARKS = re.compile(r"[\\`*$\[\]<>~|!#]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word marks nothing


def _own(tag: str, name: str, value: str) -> str | None:
    """An attribute's value; None, which drops it, for a reference to anything but the drawing itself and images within it."""
    if name == "href":
        kept = IMAGE.fullmatch(value) if tag == "image" else value.startswith("#")
        return value if kept else None
    return None if re.search(r"url\((?!['\"]?#)", value) else value


_KEPT: dict[str, Any] = {
    "link_rel": None,
    "attribute_filter": _own,
    "clean_content_tags": {"script", "style"},
    "url_schemes": {"data"},
}
_MATHML = nh3.Cleaner(tags=set(_MATH), attributes={"*": set(_MATH_ATTRIBUTES)}, **_KEPT)
_DRAWING = nh3.Cleaner(
    tags=set(_SVG),
    attributes={"*": {*_SVG_ATTRIBUTES, *_SVG_STYLES}},
    filter_style_properties={*_SVG_STYLES, "min-width"},
    **_KEPT,
)


def mathml(text: str) -> str:
    """MathML without anything that runs, leads elsewhere or is no MathML."""
    return _MATHML.clean(text)


def svg(text: str) -> str:
    """An SVG element to be put into a page, without scripts, style sheets, foreign elements and links."""
    return _DRAWING.clean(text)


class _Literal(str):
    """A text whose marks are escaped once, also where a list that holds it is put into words."""

    def __repr__(self) -> str:
        return f"'{self}'"


def literal(value: Any) -> Any:
    """A value that somebody else wrote, so that Markdown shows every text in it as it stands, on one line.

    Names such as "mdw_hrnet_18" and "COCO val" come back as they were; keys and values of dicts and lists are done likewise.
    """
    if isinstance(value, str):
        text = _MARKS.sub(r"\\\g<0>", " ".join(value.split()))
        return value if text == value else _Literal(text)
    if isinstance(value, dict):
        return {literal(key): literal(item) for key, item in value.items()}
    return [literal(item) for item in value] if isinstance(value, list) else value


def sealed(page: str, own: Iterable[str]) -> str:
    """A whole page with its Content-Security-Policy, put where `<!--policy-->` stands.

    Of `own`, the texts of our script and style elements, those that stand in the page count, and no other. What its style
    attributes say becomes a style sheet, since an attribute has no hash.
    """
    rules: dict[str, int] = {}

    def ruled(match: re.Match) -> str:
        style = html.unescape(match[2])
        if re.search(r"[<>{}@\\]|/\*", style):  # would end the rule or the sheet
            return match[1]
        return f'{match[1]} data-s="{rules.setdefault(style, len(rules))}"'

    start, mark, body = page.partition("<body>")
    while (changed := _STYLED.sub(ruled, body)) != body:
        body = changed
    sheet = "".join(f'[data-s="{number}"]{{{style}}}' for style, number in rules.items())
    page = start.replace("</head>", f"<style>{sheet}</style>\n</head>") + mark + body
    found = {tag: [text for name, _, text in _RUNS.findall(page) if name == tag] for tag in ("script", "style")}
    known = {*own, sheet}
    policy = {
        "default-src": "'none'",
        "script-src": _hashes(text for text in found["script"] if text in known),
        "style-src": _hashes(text for text in found["style"] if text in known),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    said = "; ".join(f"{name} {value}" for name, value in policy.items())
    meta = f'<meta http-equiv="Content-Security-Policy" content="{said}">'
    return page.replace("<!--policy-->", meta, 1)


def _hashes(texts: Iterable[str]) -> str:
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in dict.fromkeys(texts)]
    return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
