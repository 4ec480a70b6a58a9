"""`quickstudy predict`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from quickstudy.cli import options
from quickstudy.cli.output import print_json, print_rows, tell
from quickstudy.cli.settings import use_threads


def predict(
    adapter: options.AdapterArgument,
    file: Annotated[
        str | None,
        typer.Argument(help="Texts: .csv, .tsv, .jsonl or .parquet; - for the standard input.", show_default=False),
    ] = None,
    text: Annotated[list[str] | None, typer.Option("--text", help="A text; may be given several times.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="CSV file to write instead of printing.")] = None,
    text_column: options.TextColumn = "text",
    base: Annotated[str | None, typer.Option("--base", help="Where the encoder lies now, if it was moved.")] = None,
    threads: options.Threads = None,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Answer texts: the label and its probability, as CSV.

    The standard input is CSV if its first line is a header with the text column, else one text a line.
    """
    use_threads(threads)
    if (file is None) == (not text):
        raise typer.BadParameter("give either a file of texts (- for the standard input) or --text")
    if out is not None and out.exists() and not force:
        raise typer.BadParameter(f"{out}: is there already; give another file, or --force to replace it")
    from quickstudy.core.files import write_bytes
    from quickstudy.lifecycle.adapting import find_adapter
    from quickstudy.lifecycle.classifier import FewShotClassifier
    from quickstudy.lifecycle.predicting import answer_texts, answers_csv, texts_of_stream
    from quickstudy.tasks.reading import read_texts

    place = find_adapter(adapter)
    if file is None:
        texts = tuple(text or ())
    elif file == "-":
        texts = texts_of_stream(sys.stdin.buffer.read(), text_column)
    else:
        texts = read_texts(Path(file), text_column)
    classifier = FewShotClassifier.load(place, base)
    answers, seconds = answer_texts(classifier, texts)
    if out is not None:
        write_bytes(out, answers_csv(answers).encode())
        tell(f"{len(answers)} answers written to {out}")
    if as_json:
        report = {"adapter": str(place), "texts": len(answers), "seconds": seconds, "out": str(out) if out else None}
        shown = [] if out else [asdict(answer) for answer in answers]
        print_json({**report, "predictions": shown})
    elif out is None and sys.stdout.isatty():
        print_rows(("text", "label", "probability"), [(a.text, a.label, a.probability) for a in answers])
    elif out is None:
        typer.echo(answers_csv(answers), nl=False)
