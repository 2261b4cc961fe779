"""Validates during a training: every process predicts its part, the first one scores."""

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
    """Returns metrics of `dataset`, joints xy (N, J, 2) and scores (N, J) of `state.result`.

    Each process gets whole batches, so that every batch is computed as in a single process. Only the first process computes
    metrics; the others return 0. `progress` wraps the batches, as in `predict_dataset`.
    """
    world.share_buffers(state.model)
    if state.average:
        world.share_buffers(state.result)
    local_set = dataset
    if world.size > 1:
        batch_starts = world.local(range(0, len(dataset), SIZE))
        local_set = dataset.select(range(batch_starts.start, min(batch_starts.stop, len(dataset))))
    predicted = predict_dataset(
        state.result, local_set, recipe.input_size, recipe.flip_test, SIZE, world.device, progress, recipe.blur
    )
    xy, scores = map(world.gather, predicted)
    return score(dataset, xy, scores) if world.main else {recipe.metric: 0.0}, xy, scores
