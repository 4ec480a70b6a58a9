"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

File = Annotated[Path, typer.Argument(help="Examples: .csv, .tsv, .jsonl or .parquet, in UTF-8.", show_default=False)]
AdapterArgument = Annotated[
    str, typer.Argument(metavar="ADAPTER", help="Folder of the adapter, or its name in ./adapters.", show_default=False)
]
MethodOption = Annotated[
    str | None,
    typer.Option(
        "--method",
        help="auto, logistic, ridge or protonet; for a language model auto, lora, tuned, in_context or nearest; or the "
        "folder of a trained initialisation.",
        show_default="auto",
    ),
]
BaseOption = Annotated[
    str, typer.Option("--base", help="Encoder or language model: minilm, a folder, or a Hugging Face hub name.")
]
Steps = Annotated[
    int | None, typer.Option("--steps", min=0, help="Gradient steps of a language model.", show_default="the method's")
]
Rate = Annotated[float | None, typer.Option("--rate", help="Learning rate of these.", show_default="the method's")]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch", min=0, help="Examples that a language model computes at once, to save memory.", show_default="all"
    ),
]
Recompute = Annotated[
    bool,
    typer.Option("--recompute", help="A language model computes activations again: less memory, a third more work."),
]
Most = Annotated[int, typer.Option("--most", min=1, help="Tokens that a language model writes at most.")]
NoClassNames = Annotated[
    bool, typer.Option("--no-class-names", help="Do not use the names of the classes as further examples of them.")
]
TextColumn = Annotated[
    str | None,
    typer.Option("--text-column", help="Column of the texts or prompts.", show_default="text, or prompt"),
]
LabelColumn = Annotated[
    str | None,
    typer.Option("--label-column", help="Column of the labels or completions.", show_default="label, or completion"),
]
SplitColumn = Annotated[
    str | None, typer.Option("--split-column", help="Column of the splits.", show_default="split, if there is one")
]
SplitOption = Annotated[str | None, typer.Option("--split", help="Use the rows of this split only.")]
Seed = Annotated[int, typer.Option("--seed", help="Decides everything that is drawn.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="Threads to compute with.", show_default="all")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of the output.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there under this name.")]
