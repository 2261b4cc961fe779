"""The one door for values from outside: an annotation says what a field, option or argument takes, `fit` holds a value to it.

A dataclass calls `settle` in `__post_init__`, a function is decorated with `typed`; both then take their types, ranges and
choices from their own annotations, and give them nowhere else. Ranges stand beside the type (`Annotated[int, Ge(1)]`), choices
are Literals. Types are strict: "1", 1.0 and True are no whole numbers, and NaN is no number. pydantic does the work, which the
command line brings along anyway; it is loaded with the first value.
"""

import inspect
import json
import re
import reprlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from functools import cache, wraps
from typing import Annotated, Any, TypeVar, get_type_hints

from annotated_types import Ge, Gt, Interval, Len, MultipleOf

from mdw.util.errors import MdwError
from mdw.util.fields import plain
from mdw.util.words import unknown

T = TypeVar("T")


@dataclass(frozen=True)
class Must:
    """A condition beside an annotation, in words: `Annotated[int, Must("be odd", lambda n: n % 2 == 1)]`."""

    words: str
    holds: Callable[[Any], object]

    def __get_pydantic_core_schema__(self, source, handler):
        from pydantic_core import PydanticCustomError, core_schema

        def check(value):
            if not self.holds(value):
                raise PydanticCustomError("must", "{words}", {"words": self.words})
            return value

        return core_schema.no_info_after_validator_function(check, handler(source))


@dataclass(frozen=True)
class Example:
    """A value beside an annotation for the sentence of refusal; without it the default is the example."""

    value: object


def one_of(names: Collection[str]) -> Must:
    """The condition beside an annotation that text is one of `names`, the keys of a table."""
    return Must(f"be one of {', '.join(map(repr, names))}", lambda value: value in names)


Count = Annotated[int, Interval(ge=1, le=1_000_000)]
Whole = Annotated[int, Interval(ge=0, le=1_000_000)]
Odd = Annotated[int, Interval(ge=1, le=99), Must("be odd", lambda n: n % 2 == 1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Interval(ge=0, le=1)]
Seed = Annotated[int, Interval(ge=0, le=2**63 - 1)]  # what torch takes
Seeds = Annotated[tuple[Seed, ...], Len(1), Must("have each seed once", lambda seeds: len(set(seeds)) == len(seeds))]
Side = Annotated[int, Interval(ge=32, le=4096), MultipleOf(32)]  # every network here halves its input five times
Size = tuple[Side, Side]
Word = Annotated[str, Must("be a word of letters, digits, _, . and -", lambda s: re.fullmatch(r"\w[\w.-]{0,63}", s))]

SWITCH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
WANTED = {  # pydantic's kind of error -> what the value must be
    "bool_type": "be true or false (yes, no, on, off, 1 and 0 are understood too)",
    "int_type": "be a whole number",
    "float_type": "be a number",
    "finite_number": "be a finite number",
    "string_type": "be text",
    "tuple_type": "be a list",
    "missing": "be there",
    "must": "{words}",
}
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def fit(name: str, value: object, annotation: object, default: object = None):
    """`value` as `annotation` has it: booleans in any spelling of `SWITCH`, ints as floats where a float is meant, tuples.

    NumPy's scalars and arrays count as Python's. `default` is the example in the sentence of refusal, unless the annotation
    has an `Example`. Raises MdwError, naming `name` (a field, an option, a flag), what it is and what it must be.
    """
    from pydantic import ValidationError

    value, given = _frozen(value), value
    if annotation is bool and type(value) in (str, int):
        value = SWITCH.get(str(value).lower(), value)
    try:
        return _adapter(annotation).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    wanted = WANTED.get(first["type"]) or re.sub(r"^\w+ should ", "", first["msg"]).replace(" after validation", "")
    inner = "".join(f"[{index}]" for index in first["loc"] if isinstance(index, int))
    place = name + inner if inner else "it"
    found = " ".join(_SHORT.repr(given).split())
    raise MdwError(
        f"{name} is {found}; {place} must {wanted.format(**first.get('ctx', {}))}{_example(name, annotation, default)}"
    )


def fit_all(owner: str, values: Mapping[str, object], parameters: Mapping[str, inspect.Parameter]) -> dict:
    """`fit` of every value by the parameter of its name. Raises MdwError for a name that `owner` does not take, too."""
    for name in values:
        if name not in parameters:
            raise unknown(f"{owner} has no option", name, parameters, "its options are")
    return {name: fit(name, value, parameters[name].annotation, parameters[name].default) for name, value in values.items()}


def check_fields(place: str, value: object, known: Mapping[str, object], needed: Sequence[str] = ()) -> dict:
    """`value` itself, a record that was read: a dict whose `known` fields are what their annotations say, unchanged.

    Fields that nobody knows were written by a later version and stay. Raises MdwError, naming `place`, for anything else and
    where a `needed` field is missing.
    """
    record: Any = value
    fit(place, record, dict[str, Any])
    for name in needed:
        if name not in record:
            raise MdwError(f"{place} lacks the field {name!r}; write it again, or remove it")
    for name in known.keys() & record.keys():
        fit(f"{place}: {name}", record[name], known[name])
    return record


def typed(function: Callable[..., T]) -> Callable[..., T]:
    """`function`, whose arguments are held to its annotations first. Raises MdwError as `fit`."""
    signature = inspect.signature(function, eval_str=True)

    @wraps(function)
    def call(*args, **kwargs) -> T:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            parameter = signature.parameters[name]
            bound.arguments[name] = fit(name, value, parameter.annotation, parameter.default)
        return function(*bound.args, **bound.kwargs)

    return call


def settle(instance: Any) -> None:
    """Hold every field of a dataclass, a frozen one too, to its annotation, in place. Raises MdwError as `fit`."""
    kind: Any = type(instance)
    for name, (annotation, default) in _fields(kind).items():
        object.__setattr__(instance, name, fit(name, getattr(instance, name), annotation, default))


def build(kind: type[T], values: Any, owner: str, base: T | None = None) -> T:
    """An instance of the dataclass `kind` from names and values; with `base` it is that one, changed.

    Raises MdwError for what is no such dict and for a name that there is not, or that is missing; `owner` is named in it.
    """
    values = fit(owner, values, dict[str, Any])
    dataclass_type: Any = kind
    known = _fields(dataclass_type)
    for name in values:
        if name not in known:
            raise unknown(f"{owner} has no field", name, known, "its fields are")
    if base is not None:
        changed: Any = base
        return replace(changed, **values)
    needed = [f.name for f in fields(dataclass_type) if f.default is f.default_factory is MISSING]
    if missing := [name for name in needed if name not in values]:
        raise MdwError(f"{owner} lacks the field {missing[0]!r}; its fields are {', '.join(known)}")
    return kind(**values)


@cache
def _adapter(annotation: Any):
    import pydantic
    from pydantic import ConfigDict, TypeAdapter

    if is_dataclass(annotation):  # which has seen to its own fields
        instance_of: Any = pydantic.InstanceOf
        return TypeAdapter(instance_of[annotation])
    return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True))


@cache
def _fields(kind: type) -> dict[str, tuple[object, object]]:
    """Of every field of a dataclass its annotation and its default, None where there is none."""
    hints = get_type_hints(kind, include_extras=True)
    defaults = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(kind)}
    return {name: (hints[name], None if default is MISSING else default) for name, default in defaults.items()}


def _frozen(value: object, depth: int = 4) -> object:
    """Lists as tuples, as deep as any annotation goes, and NumPy's values as Python's; what a dict holds is left alone."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return tuple(_frozen(item, depth - 1) for item in value) if isinstance(value, list | tuple | range) and depth else value


def _example(name: str, annotation: object, default: object) -> str:
    """The end of the sentence of refusal: how the value is written on the command line."""
    marks = [mark.value for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Example)]
    value = marks[0] if marks else default
    if value is None or value is inspect.Parameter.empty:
        return ""
    try:
        return f", for example {name} {value}" if name.startswith("--") else f", for example {name}={json.dumps(plain(value))}"
    except TypeError:  # a default that is no JSON value, as a function
        return ""
