"""Fields that a dataclass got later. At their default they leave no trace, so the hashes of older records stay as they are."""

from dataclasses import field, fields, is_dataclass


def later(default):
    """A dataclass field that `plain` leaves out while it has its default, an immutable value.

    What names a run is the hash of `plain` values: a recipe that does not use a new field asks the old question, and the old
    run answers it. The default of such a field can therefore never change.
    """
    return field(default=default, metadata={"later": True})


def plain(value):
    """`value` with dataclasses as dicts and tuples as lists, to any depth; later fields at their default are left out."""
    if is_dataclass(value):
        kept = [f for f in fields(value) if not (f.metadata.get("later") and getattr(value, f.name) == f.default)]
        return {f.name: plain(getattr(value, f.name)) for f in kept}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value
