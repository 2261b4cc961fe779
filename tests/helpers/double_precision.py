"""Trainings whose results may be compared number by number.

Adam turns the rounding of a gradient that is nearly zero into an update of full size: after a few updates in single precision
two correct computations differ by a percent, more or less by processor. In double precision the same enlargement ends far
below what any mistake makes.
"""

from contextlib import contextmanager

import pytest

from mdw.models import create_model
from mdw.training import state


def _double(*arguments, **options):
    model = create_model(*arguments, **options).double()
    model.register_forward_pre_hook(lambda module, inputs: tuple(x.double() for x in inputs))
    return model


@contextmanager
def double_precision():
    """Within it, every training has parameters, activations, loss and gradients in float64; its batches are what they were."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "create_model", _double)
        yield
