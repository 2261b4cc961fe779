"""Sets what changes from step to step: the learning rate and the temperature of softmax attentions."""

from mdw.models.dynamic_conv import set_temperature
from mdw.training.recipes import Recipe, learning_rate
from mdw.training.state import State


def annealing_epochs(epochs: int) -> float:
    """Returns for how many epochs softmax attentions of dynamic convolutions are annealed: 10, at most half of a run.

    Ten is Chen et al.'s; the half is our choice, so that a short run also trains at temperature 1, at which it is used.
    """
    return min(10.0, epochs / 2)


def rate_of(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """Returns the learning rate of a 0-based step of an epoch of `steps`."""
    return learning_rate(recipe, epoch, epoch * steps + step)


def schedule(state: State, recipe: Recipe, step: int, steps: int) -> None:
    """Set temperature and learning rate for a 0-based step of the present epoch of `steps`."""
    set_temperature(state.model, state.epoch + step / steps, annealing_epochs(recipe.epochs))
    for group in state.optimizer.param_groups:
        group["lr"] = rate_of(recipe, state.epoch, step, steps)


def schedule_validation(state: State, recipe: Recipe) -> None:
    """Set the temperature at which the network is used later."""
    set_temperature(state.model, recipe.epochs, annealing_epochs(recipe.epochs))
