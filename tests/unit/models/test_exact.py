"""Every block and every paper's network gives the committed numbers, in double precision on any processor.

`make_fixtures.py` wrote them after our results had been found equal to all official ones. A change that moves them moves the
published numbers and is named in CHANGELOG.md.
"""

import numpy as np
import pytest
from drawn import BLOCKS, block_numbers, network_numbers, networks
from places import FIXTURES

FOLDER = FIXTURES / "networks"
NETWORKS = dict(networks())


@pytest.fixture(scope="module")
def blocks():
    return dict(np.load(FOLDER / "blocks.npz"))


@pytest.fixture(scope="module")
def whole():
    return dict(np.load(FOLDER / "whole.npz"))


def equal(ours, kept):
    assert ours.dtype == kept.dtype == np.float64 and ours.shape == kept.shape
    assert np.abs(ours - kept).max(initial=0) <= 1e-10 * np.abs(kept).max(initial=0)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_gives_the_committed_output_gradient_and_statistics(blocks, name):
    for kind, ours in block_numbers(*BLOCKS[name]).items():
        equal(ours, blocks[f"{name}: {kind}"])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gives_the_committed_heatmaps(whole, name):
    equal(network_numbers(NETWORKS[name]), whole[name])


def test_every_committed_number_is_compared_and_tells_blocks_apart(blocks, whole):
    assert {key.split(": ")[0] for key in blocks} == set(BLOCKS) and set(whole) == set(NETWORKS)
    assert len({values.tobytes() for values in whole.values()}) == len(whole)
    outputs = [values.tobytes() for key, values in blocks.items() if key.endswith(": output")]
    assert len(set(outputs)) == len(outputs)
    size = sum(path.stat().st_size for path in FOLDER.parent.rglob("*") if path.is_file())
    assert size < 900_000, "small enough to be committed"
