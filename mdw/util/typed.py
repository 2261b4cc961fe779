"""Checks values from outside against annotations: an annotation says what a field, option or argument takes, `fit` checks it.

A dataclass calls `settle` in `__post_init__`, a function is decorated with `typed`; their annotations are then the only place
that gives types, ranges and choices. Ranges stand beside the type (`Annotated[int, Ge(1)]`), choices are Literals. Types are
strict: "1", 1.0 and True are not integers, and NaN is not a number. pydantic does the checks; the command line needs it anyway,
and it is imported with the first value.
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
    """A value beside an annotation that the error message gives as an example; without it the default is the example."""

    value: object


def one_of(names: Collection[str]) -> Must:
    """Returns the condition that text is one of `names`, to stand beside an annotation."""
    return Must(f"be one of {', '.join(map(repr, names))}", lambda value: value in names)


Count = Annotated[int, Interval(ge=1, le=1_000_000)]
Whole = Annotated[int, Interval(ge=0, le=1_000_000)]
Odd = Annotated[int, Interval(ge=1, le=99), Must("be odd", lambda n: n % 2 == 1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]
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
    """Returns `value` converted to `annotation`: booleans in any spelling of `SWITCH`, ints as floats, lists as tuples.

    NumPy's scalars and arrays count as Python's. The error message gives `default` as an example, unless the annotation has an
    `Example`. Raises MdwError that says what `name` (a field, an option, a flag) is and what it must be.
    """
    from pydantic import ValidationError

    value, original = _frozen(value), value
    if annotation is bool and type(value) in (str, int):
        value = SWITCH.get(str(value).lower(), value)
    try:
        return _adapter(annotation).validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
    requirement = WANTED.get(problem["type"]) or re.sub(r"^\w+ should ", "", problem["msg"]).replace(" after validation", "")
    inner = "".join(f"[{index}]" for index in problem["loc"] if isinstance(index, int))
    place = name + inner if inner else "it"
    shown = " ".join(_SHORT.repr(original).split())
    raise MdwError(
        f"{name} is {shown}; {place} must {requirement.format(**problem.get('ctx', {}))}{_example(name, annotation, default)}"
    )


def fit_all(owner: str, values: Mapping[str, object], parameters: Mapping[str, inspect.Parameter]) -> dict:
    """Returns all values, each through `fit` by the parameter of its name. Raises MdwError also for a name `owner` has not."""
    for name in values:
        if name not in parameters:
            raise unknown(f"{owner} has no option", name, parameters, "its options are")
    return {name: fit(name, value, parameters[name].annotation, parameters[name].default) for name, value in values.items()}


def check_fields(place: str, value: object, known: Mapping[str, object], needed: Sequence[str] = ()) -> dict:
    """Returns `value`, a record read from a file, unchanged: a dict whose `known` fields agree with their annotations.

    Unknown fields were written by a later version and stay. Raises MdwError, naming `place`, for anything else and where a
    `needed` field is missing.
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
    """Returns `function` with its arguments passed through `fit` by its annotations. Raises MdwError as `fit`."""
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
    """Pass every field of a dataclass, also of a frozen one, through `fit`, in place. Raises MdwError as `fit`."""
    kind: Any = type(instance)
    for name, (annotation, default) in _fields(kind).items():
        object.__setattr__(instance, name, fit(name, getattr(instance, name), annotation, default))


def build(kind: type[T], values: Any, owner: str, base: T | None = None) -> T:
    """Returns an instance of the dataclass `kind` with these values by name; with `base`, a copy of `base` changed by them.

    Raises MdwError, naming `owner`, where `values` is not such a dict, and for an unknown or a missing name.
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

    if is_dataclass(annotation):  # it has checked its own fields
        instance_of: Any = pydantic.InstanceOf
        return TypeAdapter(instance_of[annotation])
    return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True))


@cache
def _fields(kind: type) -> dict[str, tuple[object, object]]:
    """Returns annotation and default (None where there is none) of every field of a dataclass."""
    hints = get_type_hints(kind, include_extras=True)
    defaults = {f.name: f.default if f.default_factory is MISSING else f.default_factory() for f in fields(kind)}
    return {name: (hints[name], None if default is MISSING else default) for name, default in defaults.items()}


def _frozen(value: object, depth: int = 4) -> object:
    """Returns lists as tuples, as deep as any annotation goes, and NumPy's values as Python's; dicts are left as they are."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return tuple(_frozen(item, depth - 1) for item in value) if isinstance(value, list | tuple | range) and depth else value


def _example(name: str, annotation: object, default: object) -> str:
    """Returns the end of the error message: how a value is written on the command line."""
    marks = [mark.value for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Example)]
    value = marks[0] if marks else default
    if value is None or value is inspect.Parameter.empty:
        return ""
    try:
        return f", for example {name} {value}" if name.startswith("--") else f", for example {name}={json.dumps(plain(value))}"
    except TypeError:  # a default that is no JSON value, as a function
        return ""
