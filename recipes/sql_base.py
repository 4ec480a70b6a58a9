"""The language model that ships for SQL: pre-trained in context on generated dialects.

A text is a task: pairs of a canonical query and the same query in one dialect, one after the other, where each
completion counts. So the model learns to read a dialect off its examples; test and validation dialects stay unseen.
Some words and signs of each task are spelled anew: those of the training dialects alone are learned by heart, and a
model that knows them all writes no others.

    python -m recipes.sql_base --out runs/sql_base --steps 4000
    python -m recipes.sql_base --out runs/sql_base --steps 10000 --device cuda --workers 14
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from quickstudy.backbones import CausalLM
from quickstudy.backbones.pretrained import SHIPPED
from quickstudy.core.types import Json, Params
from quickstudy.deltas import Full, LoRA
from quickstudy.learners.in_context.demonstrations import Demonstrations
from quickstudy.learners.network import Network
from quickstudy.lifecycle.writing_methods import WritingSpec, language_model_of
from quickstudy.lifecycle.writing_start import SHIPPED_AS, WritingStart, save_writing_start
from quickstudy.tasks.sql.grammar import Grammar
from quickstudy.tasks.sql.respelled import Respelled
from quickstudy.tasks.sql.tasks import TranslationTasks
from quickstudy.tasks.text_tasks import EncodedTextTasks, TextTaskSource
from quickstudy.training import FitOptions, fit

NAME = "quickstudy-sql"
AUTO = WritingSpec("tuned_demonstrations", lora=LoRA(8, 16, ()), steps=40, rate=3e-3)
"""How the model is adapted: steps and rate were chosen on validation dialects."""

END, BEGIN, PAD = "</s>", "<s>", "<pad>"


@dataclass(frozen=True)
class Size:
    """Of the model.

    Attributes:
        vocabulary: tokens.
        width: of an activation.
        layers: number of layers.
        heads: attention heads of a layer.
        positions: tokens of a text.
    """

    vocabulary: int = 2048
    width: int = 256
    layers: int = 6
    heads: int = 4
    positions: int = 4096

    @property
    def hidden(self) -> int:
        """Units of a layer's network."""
        return self.width * 11 // 4


def texts(source: TextTaskSource, tasks: int, seed: int = 0) -> Iterator[str]:
    """All texts of so many tasks, to make a vocabulary of."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(tasks):
        task = source.draw(generator)
        yield task.description
        for pair in (*task.support, *task.query):
            yield pair.prompt
            yield pair.completion


def tokeniser(source: TextTaskSource, size: Size, tasks: int) -> PreTrainedTokenizerFast:
    """Byte-pair encoding of the texts of so many tasks; digits stand alone, and any text can be written."""
    made = Tokenizer(models.BPE())
    splits = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    made.pre_tokenizer = pre_tokenizers.Sequence(splits)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size.vocabulary,
        special_tokens=[PAD, BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts(source, tasks), trainer)
    made.post_processor = processors.ByteLevel(trim_offsets=False)
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token=PAD, bos_token=BEGIN, eos_token=END)


def write_blank(folder: Path, tokenizer: PreTrainedTokenizerFast, size: Size, seed: int = 0) -> None:
    """Writes a model of this size with random weights, in the format of Llama."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.width,
        intermediate_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        max_position_embeddings=size.positions,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def backbone(folder: Path | str, device: str = "cpu") -> CausalLM:
    """The model in `folder` as tasks of SQL use it."""
    return CausalLM(str(folder), max_tokens=Size().positions, between="\n", device=device)


def recipe(
    folder: Path, steps: int, source: TextTaskSource | None = None, device: str = "cpu", lr: float = 2e-3
) -> tuple[Demonstrations, EncodedTextTasks, FitOptions]:
    """The learner on the model in `folder`, its tasks and the options of the run: on a GPU eight times as many tasks an
    update, mapped in parts, for one alone keeps it waiting."""
    base = backbone(folder, device)
    learner = Demonstrations(Network(base, Full(), device=device), along=True)
    source = source or Respelled(TranslationTasks("train", shots=(2, 10), queries=1, grammar=Grammar((1, 4))), most=0.9)
    tasks = EncodedTextTasks(source, base.batch)
    options = FitOptions(
        steps=steps,
        tasks_per_step=64 if device == "cuda" else 8,
        lr=lr,
        weight_decay=0.05,
        betas=(0.9, 0.98),
        schedule="cosine",
        warmup=min(200, steps // 10),
        clip=1.0,
        mode="chunks" if device == "cuda" else "loop",
        chunk=16,
        precision="bfloat16",
        checkpoint_every=100,
    )
    return learner, tasks, options


def write_trained(folder: Path, start: Path, params: Params) -> None:
    """Writes the model in `start` with trained weights, in bfloat16."""
    model = AutoModelForCausalLM.from_pretrained(start)
    prefix = "body.model."
    weights = {name.removeprefix(prefix): tensor for name, tensor in params.items() if name.startswith(prefix)}
    missing, unknown = model.load_state_dict(weights, strict=False)
    if unknown or set(missing) - {"lm_head.weight"}:
        raise RuntimeError(f"the trained weights lack {missing} and have {unknown}, which the model has not")
    model.to(torch.bfloat16).save_pretrained(folder)
    PreTrainedTokenizerFast.from_pretrained(start).save_pretrained(folder)


def ship(model: Path, provenance: Json) -> None:
    """Puts the model into the package, and beside it the settings with which `auto` adapts it."""
    place = SHIPPED[NAME]
    place.mkdir(parents=True, exist_ok=True)
    for path in sorted(model.iterdir()):
        shutil.copyfile(path, place / path.name)
    start = WritingStart(AUTO, language_model_of(NAME), {}, provenance)
    save_writing_start(place.with_name(f"{SHIPPED_AS}-{NAME}"), start)


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains, and goes on where an interrupted run stopped."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--start", type=Path, help="a model of this recipe to go on from; none for a blank one")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--width", type=int, default=Size().width)
    parser.add_argument("--layers", type=int, default=Size().layers)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw tasks: one draws about 80 a second")
    parser.add_argument("--ship", action="store_true", help="put what was trained into the package")
    chosen = parser.parse_args(arguments)
    size = replace(Size(), width=chosen.width, layers=chosen.layers)
    start: Path = chosen.start or chosen.out / "blank"
    if chosen.start is None and not (start / "config.json").exists():
        write_blank(start, tokeniser(TranslationTasks("train"), size, 2000), size)
    learner, tasks, options = recipe(start, chosen.steps, device=chosen.device, lr=chosen.lr)
    began = time.perf_counter()
    options = replace(options, folder=chosen.out / "run", workers=chosen.workers, processes=True)
    fitted = fit(learner, tasks, options)
    write_trained(chosen.out / "model", start, fitted.params)
    if chosen.ship:
        values = dict(fitted.info.values)
        ship(
            chosen.out / "model",
            {"recipe": "recipes.sql_base", "start": chosen.start.name if chosen.start else "", "values": values},
        )
    print(f"loss {fitted.history[-1]['loss']:.3f} after {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
