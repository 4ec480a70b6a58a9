"""The ways to make an adapter for texts, by name: which learner on which network, with which settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

import torch

from quickstudy.backbones.text_encoder import TextEncoder
from quickstudy.core.errors import InputError
from quickstudy.core.types import Batch, Json, Params
from quickstudy.deltas.base import Delta
from quickstudy.deltas.head import Head
from quickstudy.deltas.lora import LoRA
from quickstudy.evaluation.out_of_scope import ScoreKind
from quickstudy.learners.base import Learner
from quickstudy.learners.names import learner_class, learner_names
from quickstudy.learners.network import Network
from quickstudy.learners.rows import compute_dtype, text_features
from quickstudy.lifecycle.pooled import PooledTexts

Plain: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class MethodSpec:
    """A method, said in plain values, so that it can be written down and made again.

    Attributes:
        learner: row of `learners.names`.
        settings: fields of the learner and their values, other than its network.
        lora: what moves in the encoder; None where nothing moves, so that each text is encoded once.
        outputs: outputs of the network's head; 0 where the learner computes a head itself.
        name_weight: weight of a class name as an example of its class.
        folds: parts into which the support is dealt to measure the method on examples that it has not seen; 0 to
            leave that out, for methods that are slow to adapt.
        held_out_settings: settings that differ while it is measured so. With any, the encoder is held still as the
            meta-parameters have it, so that each text is encoded once; figures are then a little too low.
        scope: which score of the logits best tells questions within the classes from others.
    """

    learner: str
    settings: tuple[tuple[str, Plain], ...] = ()
    lora: LoRA | None = None
    outputs: int = 0
    name_weight: float = 1.0
    folds: int = 5
    held_out_settings: tuple[tuple[str, Plain], ...] = ()
    scope: ScoreKind = "probability"


@dataclass(frozen=True)
class Method:
    """A method ready to run.

    Attributes:
        spec: what it was made from.
        encoder: the base as the user gave it.
        backbone: the base as the method uses it; its `inputs` turns texts into what the learner reads.
        network: what the learner adapts.
        learner: the learner.
    """

    spec: MethodSpec
    encoder: TextEncoder
    backbone: TextEncoder | PooledTexts
    network: Network
    learner: Learner


ENCODER_LINEARS = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
"""Ends of the names of all linear layers of a BERT-like encoder layer."""

METHODS: Mapping[str, MethodSpec] = MappingProxyType(
    {
        "auto": MethodSpec(
            "auto", lora=LoRA(16, 32, ENCODER_LINEARS), held_out_settings=(("epochs", 0),), scope="energy"
        ),
        "logistic": MethodSpec("logistic", (("regularisation", 1 / 30), ("scale", 2.2)), scope="energy"),
        "ridge": MethodSpec("ridge", (("regularisation", 1.0), ("scale", 28.0)), scope="logit"),
        "protonet": MethodSpec("protonet", (("scale", 14.0),), scope="logit"),
    }
)
"""The methods that need no training of their own. The scales make probabilities on unit-length features about right
on BANKING77 and CLINC150 with 5 to 150 classes. That of auto and its score of scope were chosen on `fs_valid`, and on
`valid` and `oos_valid`."""


def method_spec(name: str) -> MethodSpec:
    """The row of `METHODS` called `name`.

    Raises:
        InputError: there is none; a learner of that name may need meta-training first.
    """
    if name in METHODS:
        return METHODS[name]
    if name in learner_names():
        raise InputError(
            f"the method {name!r} needs meta-trained parameters: make them with `quickstudy train` and give that "
            f"folder as the method, or give one of {', '.join(METHODS)}"
        )
    raise InputError(f"there is no method {name!r}; give one of {', '.join(METHODS)}, or the folder of a trained one")


@lru_cache(maxsize=8)
def build_method(spec: MethodSpec, encoder: TextEncoder) -> Method:
    """The method on this base. Equal arguments give the same object, so that what it computes with is shared.

    Raises:
        InputError: there is no such learner, or it does not take these settings.
    """
    backbone: TextEncoder | PooledTexts = PooledTexts(encoder)
    delta: Delta = Head()
    if spec.lora is not None:
        delta = spec.lora
        backbone = replace(encoder, prefix=min(spec.lora.layers or (0,)))
    kind = learner_class(spec.learner)
    settings: dict[str, Any] = dict(spec.settings)
    names: set[str] = {field.name for field in fields(kind)} if is_dataclass(kind) else set()
    unknown = sorted(settings.keys() - names)
    if unknown or "network" not in names:
        raise InputError(f"the learner {spec.learner!r} has no setting {', '.join(unknown) or 'network'}")
    made: Any = kind
    network = Network(backbone, delta, spec.outputs, encoder.device)
    return Method(spec, encoder, backbone, network, made(network=network, **settings))


def measurable(method: Method, params: Params, support: Batch) -> tuple[Learner, Params, Batch]:
    """Learner, meta-parameters and support with which the method is measured on held-out examples."""
    spec = method.spec
    if not spec.held_out_settings:
        return method.learner, params, support
    settings = tuple({**dict(spec.settings), **dict(spec.held_out_settings)}.items())
    still = build_method(replace(spec, settings=settings, held_out_settings=(), lora=None), method.encoder)
    with torch.no_grad():
        dtype = compute_dtype("auto", method.encoder.device)
        features = text_features(method.network, params, support.inputs, dtype)
    return still.learner, start_params(still, 0), replace(support, inputs=features)


def start_params(method: Method, seed: int) -> Params:
    """Meta-parameters as the learner begins with."""
    return method.learner.init(torch.Generator().manual_seed(seed))


def spec_facts(spec: MethodSpec) -> Json:
    """`spec` as JSON."""
    settings = {"settings": dict(spec.settings), "held_out_settings": dict(spec.held_out_settings)}
    return {**asdict(spec), **settings, "lora": lora_facts(spec.lora)}


def spec_from_facts(facts: Json) -> MethodSpec:
    """The spec that `spec_facts` wrote.

    Raises:
        ValueError: `facts` are not that.
    """
    try:
        settings = {name: tuple(facts[name].items()) for name in ("settings", "held_out_settings")}
        return MethodSpec(**{**facts, **settings, "lora": lora_from_facts(facts["lora"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"is not a method: {error}") from error


def lora_facts(lora: LoRA | None) -> Json:
    """`lora` as JSON."""
    if lora is None:
        return None
    layers = None if lora.layers is None else list(lora.layers)
    return {**asdict(lora), "targets": list(lora.targets), "layers": layers}


def lora_from_facts(facts: Json) -> LoRA | None:
    """The delta that `lora_facts` wrote.

    Raises:
        KeyError, TypeError: `facts` are not that.
    """
    if facts is None:
        return None
    layers = None if facts["layers"] is None else tuple(facts["layers"])
    return LoRA(**{**facts, "targets": tuple(facts["targets"]), "layers": layers})


def encoder_of(base: str | TextEncoder) -> TextEncoder:
    """The encoder that a user means by `base`.

    Raises:
        InputError: it is neither a name nor a `TextEncoder`.
    """
    if isinstance(base, TextEncoder):
        return base
    if not isinstance(base, str) or not base:
        raise InputError(f"base is {base!r}; give 'minilm', a folder, a hub name or a TextEncoder")
    return TextEncoder(base)


def encoder_facts(encoder: TextEncoder) -> Json:
    """The fields of `encoder` that decide its features, as JSON."""
    return {name: getattr(encoder, name) for name in ("name", "revision", "pooling", "normalise", "max_tokens")}


def encoder_from_facts(facts: Json) -> TextEncoder:
    """The encoder that `encoder_facts` wrote.

    Raises:
        ValueError: `facts` are not that.
    """
    try:
        return TextEncoder(**facts)
    except TypeError as error:
        raise ValueError(f"is not a text encoder: {error}") from error
