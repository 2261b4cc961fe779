"""Fields added to a dataclass later. At their default they are not written, so the hashes of older records do not change."""

from dataclasses import field, fields, is_dataclass


def later(default):
    """Returns a dataclass field that `plain` leaves out while it has its default, an immutable value.

    A run is named by the hash of its `plain` values: a recipe that does not use a new field keeps its hash and finds its old
    run. The default of such a field can therefore never change.
    """
    return field(default=default, metadata={"later": True})


def plain(value):
    """Returns `value` with dataclasses as dicts and tuples as lists, to any depth, without later fields at their default."""
    if is_dataclass(value):
        written = [f for f in fields(value) if not (f.metadata.get("later") and getattr(value, f.name) == f.default)]
        return {f.name: plain(getattr(value, f.name)) for f in written}
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value
