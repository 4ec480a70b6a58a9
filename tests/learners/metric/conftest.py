"""A small body for the contract's checks."""

import pytest

from quickstudy.backbones import MLP


@pytest.fixture
def mlp():
    return MLP((4, 16, 12))
