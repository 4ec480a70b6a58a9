"""`quickstudy predict`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from quickstudy.cli import options
from quickstudy.cli.output import print_json, print_rows, tell
from quickstudy.cli.settings import columns_of, use_threads


def predict(
    adapter: options.AdapterArgument,
    file: Annotated[
        str | None,
        typer.Argument(help="Texts: .csv, .tsv, .jsonl or .parquet; - for the standard input.", show_default=False),
    ] = None,
    text: Annotated[list[str] | None, typer.Option("--text", help="A text; may be given several times.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="CSV file to write instead of printing.")] = None,
    text_column: options.TextColumn = None,
    base: Annotated[str | None, typer.Option("--base", help="Where the base lies now, if it was moved.")] = None,
    threads: options.Threads = None,
    force: options.Force = False,
    as_json: options.AsJson = False,
) -> None:
    """Answer texts: the label and its probability, as CSV; or, by a language model, what is written after each.

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
    from quickstudy.lifecycle.predicting import answer_texts, answers_csv
    from quickstudy.lifecycle.writer import FewShotWriter
    from quickstudy.lifecycle.writing_files import holds_writer, write_texts, written_csv

    place = find_adapter(adapter)
    writes = holds_writer(place)
    texts = _texts(file, text or [], columns_of(writes, text_column, None, None).text)
    if writes:
        written, seconds = write_texts(FewShotWriter.load(place, base), texts)
        table, rows = written_csv(written), [asdict(each) for each in written]
    else:
        answers, seconds = answer_texts(FewShotClassifier.load(place, base), texts)
        table, rows = answers_csv(answers), [asdict(answer) for answer in answers]
    if out is not None:
        write_bytes(out, table.encode())
        tell(f"{len(rows)} answers written to {out}")
    if as_json:
        report = {"adapter": str(place), "texts": len(rows), "seconds": seconds, "out": str(out) if out else None}
        print_json({**report, "predictions": [] if out else rows})
    elif out is None and sys.stdout.isatty():
        print_rows(tuple(rows[0]), [tuple(row.values()) for row in rows])
    elif out is None:
        typer.echo(table, nl=False)


def _texts(file: str | None, texts: Sequence[str], column: str) -> tuple[str, ...]:
    from quickstudy.lifecycle.predicting import texts_of_stream
    from quickstudy.tasks.reading import read_texts

    if file is None:
        return tuple(texts)
    if file == "-":
        return texts_of_stream(sys.stdin.buffer.read(), column)
    return read_texts(Path(file), column)
