"""The metric learners on convolutional networks: the contract with rows apart, and with statistics of the batch."""

import dataclasses

import pytest

from quickstudy.backbones.conv4 import Conv4
from quickstudy.deltas import Full
from quickstudy.learners import Network
from quickstudy.learners import conformance as checks
from quickstudy.learners.metric.matching import Matching
from quickstudy.learners.metric.protonet import ProtoNet
from quickstudy.learners.metric.relation import Relation
from quickstudy.learners.metric.siamese import Siamese
from quickstudy.tasks.base import TaskSource
from quickstudy.tasks.blobs import GaussianBlobs

LEARNERS = {"protonet": ProtoNet, "matching": Matching, "siamese": Siamese, "relation": Relation}
MIXING = {checks.check_queries_apart, checks.check_weights}
"""What statistics of the batch break: other queries, and a row that is there twice, change them."""


BLOBS = GaussianBlobs(ways=3, shots=(2, 3), queries=4, width=64, spread=1.5)


@dataclasses.dataclass(frozen=True)
class Pictures(TaskSource):
    """Blobs in 64 dimensions as images of 8 x 8."""

    blobs: TaskSource = BLOBS

    def sample(self, generator):
        episode = self.blobs.sample(generator)
        sides = (
            dataclasses.replace(side, inputs=side.inputs.reshape(-1, 1, 8, 8))
            for side in (episode.support, episode.query)
        )
        return dataclasses.replace(episode, **dict(zip(("support", "query"), sides, strict=True)))


def network(norm):
    return Network(Conv4((8, 8), widths=(4, 6), halvings=1, norm=norm), Full())


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", LEARNERS)
def test_rows_apart(name, check):
    more = {"norm": "group"} if name == "relation" else {}
    check(LEARNERS[name](network("group"), **more), Pictures())


@pytest.mark.parametrize("check", [c for c in checks.CHECKS if c not in MIXING], ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", LEARNERS)
def test_statistics_of_the_batch(name, check):
    check(LEARNERS[name](network("batch")), Pictures())


@pytest.mark.parametrize("name", ["protonet", "siamese", "matching"])
def test_statistics_of_the_batch_mix_queries(name):
    with pytest.raises(AssertionError, match="alone and among others"):
        checks.check_queries_apart(LEARNERS[name](network("batch")), Pictures())
