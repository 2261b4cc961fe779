"""Takes a run up where it stands: its newest whole checkpoint, or the beginning."""

from collections.abc import Callable

from mdw.training import checkpoint, runs
from mdw.training.distributed import World
from mdw.training.folder import Folder
from mdw.training.state import State
from mdw.util.files import sweep, write_json


def resume(
    folder: Folder | None, spec: dict, state: State, steps: int, world: World, about: dict, say: Callable[[str], None]
) -> str:
    """Put `state` where the run of `spec` stands and return the backend it began with. The same in all processes.

    The first process holds `folder`; a new one gets recipe.json and env.json, which takes in `about`, the backend among it.
    `steps`: those of an epoch. `say` is told where a run does not go on as might be expected. Raises MdwError where there are
    checkpoints and none is whole.
    """
    content, began = b"", ""
    if folder is not None:
        path, began = folder.path, about["computation"]
        sweep(path)
        found, told = checkpoint.read(path, lambda t, values: state.check(t, values, spec["recipe"]["epochs"], steps))
        if told:
            say(told)
        if found is None:
            write_json(path / "recipe.json", spec)
            write_json(path / "env.json", runs.environment(world.device) | {"processes": world.size} | about)
        else:
            content, env = found, runs.Run(path).env
            began = env.get("computation", "reference")  # runs were so before there was a choice
            if began != about["computation"]:
                say(f"this run goes on by the {began} backend, with which it began")
            if "data" not in env:
                say("what data this run began with was not recorded, so --root is not checked")
    if content := world.first(content):
        state.restore(*checkpoint.unpack(content))
    return world.first(began.encode()).decode()
