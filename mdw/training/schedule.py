"""What changes from step to step: the learning rate and the temperature of softmax attentions."""

from mdw.models.dynamic_conv import set_temperature
from mdw.training.recipes import Recipe, learning_rate
from mdw.training.state import State


def annealing_epochs(epochs: int) -> float:
    """How long the softmax attentions of dynamic convolutions are annealed: 10 epochs, at most the first half of a run.

    Ten is Chen et al.'s; the half is our choice, so that a run of few epochs also trains at the temperature 1 it is used at.
    """
    return min(10.0, epochs / 2)


def rate_of(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """The learning rate of a 0-based step of an epoch of `steps`."""
    return learning_rate(recipe, epoch, epoch * steps + step)


def schedule(state: State, recipe: Recipe, step: int, steps: int) -> None:
    """Make `state` ready for a 0-based step of its epoch, of `steps`."""
    set_temperature(state.model, state.epoch + step / steps, annealing_epochs(recipe.epochs))
    for group in state.optimizer.param_groups:
        group["lr"] = rate_of(recipe, state.epoch, step, steps)


def schedule_validation(state: State, recipe: Recipe) -> None:
    """A network is validated at the temperature that it will be used at."""
    set_temperature(state.model, recipe.epochs, annealing_epochs(recipe.epochs))
