"""Resumes a run from its newest undamaged checkpoint, or begins it."""

from collections.abc import Callable

from mdw.training import checkpoint, runs
from mdw.training.distributed import World
from mdw.training.folder import Folder
from mdw.training.state import State
from mdw.util.files import sweep, write_json


def resume(
    folder: Folder | None, spec: dict, state: State, steps: int, world: World, about: dict, say: Callable[[str], None]
) -> str:
    """Restore `state` from the run of `spec` and return the backend the run began with. The same in all processes.

    The first process holds `folder`; a new run gets recipe.json and env.json, which includes `about` (with the backend).
    `steps`: those of an epoch. `say` gets warnings. Raises MdwError where checkpoints exist but all are damaged.
    """
    content, backend = b"", ""
    if folder is not None:
        path, backend = folder.path, about["computation"]
        sweep(path)
        saved, warning = checkpoint.read(path, lambda t, values: state.check(t, values, spec["recipe"]["epochs"], steps))
        if warning:
            say(warning)
        if saved is None:
            write_json(path / "recipe.json", spec)
            write_json(path / "env.json", runs.environment(world.device) | {"processes": world.size} | about)
        else:
            content, env = saved, runs.Run(path).env
            backend = env.get("computation", "reference")  # the only backend of older runs
            if backend != about["computation"]:
                say(f"this run goes on by the {backend} backend, with which it began")
            if "data" not in env:
                say("what data this run began with was not recorded, so --root is not checked")
    if content := world.first(content):
        state.restore(*checkpoint.unpack(content))
    return world.first(backend.encode()).decode()
