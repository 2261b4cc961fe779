"""A validation in the middle of a training: every process predicts its part, the first one scores."""

from collections.abc import Callable

import numpy as np

from mdw.data.sample import Dataset
from mdw.inference.evaluate import predict_dataset, score
from mdw.training.distributed import World
from mdw.training.recipes import Recipe
from mdw.training.state import State

SIZE = 32  # persons of a batch
Outcome = tuple[dict, np.ndarray, np.ndarray]  # metrics, joints xy (N, J, 2), scores (N, J)


def validate(state: State, recipe: Recipe, dataset: Dataset, world: World, progress: Callable = iter) -> Outcome:
    """Metrics of `dataset`, joints xy (N, J, 2) and scores (N, J) by the network that is kept.

    Whole batches go to each process, so that every one is computed as it is by one process. Metrics are the first process's;
    the others have 0 for the recipe's. `progress` wraps the batches, as in `predict_dataset`.
    """
    world.share_buffers(state.model)
    if state.average:
        world.share_buffers(state.result)
    part = dataset
    if world.size > 1:
        first = world.share(range(0, len(dataset), SIZE))
        part = dataset.select(range(first.start, min(first.stop, len(dataset))))
    predicted = predict_dataset(
        state.result, part, recipe.input_size, recipe.flip_test, SIZE, world.device, progress, recipe.blur
    )
    xy, scores = map(world.gather, predicted)
    return score(dataset, xy, scores) if world.main else {recipe.metric: 0.0}, xy, scores
