"""From examples to an adapter, its answers and its figures."""

from quickstudy.lifecycle.classifier import FewShotClassifier as FewShotClassifier
