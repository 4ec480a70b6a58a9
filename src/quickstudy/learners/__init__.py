"""How one learns from few examples. The algorithms are found by name: `learner_class("maml")`."""

from quickstudy.learners.base import Learner as Learner
from quickstudy.learners.learned_rule import LearnedRule as LearnedRule
from quickstudy.learners.learned_torch_optimiser import LearnedOptimiser as LearnedOptimiser
from quickstudy.learners.names import learner_class as learner_class
from quickstudy.learners.names import learner_names as learner_names
from quickstudy.learners.network import Network as Network
