"""`attnstore finetune`: trains a classifier on labelled documents."""

import shlex
from pathlib import Path
from typing import Any

import click

from attnstore.commands.options import (
    config_option,
    device_option,
    dtype_option,
    progress_option,
    source_config,
    source_option,
)
from attnstore.commands.output import note, say
from attnstore.commands.progress import Progress, shown
from attnstore.errors import UsageError


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--model",
    metavar="FOLDER|NAME",
    default="bert-base-uncased",
    show_default=True,
    help="The encoder to start from.",
)
@click.option("--revision", metavar="REV", help="The revision of a model on the hub.")
@source_option
@click.option(
    "--epochs", type=float, default=3.0, show_default=True, help="Passes over the data; may be a fraction."
)
@click.option("--batch-size", type=int, default=8, show_default=True, help="Documents per step.")
@click.option("--learning-rate", type=float, default=3e-5, show_default=True, help="The peak, after warm-up.")
@click.option("--max-length", type=int, help="Tokens per document. Default: 512, or the model's own limit.")
@click.option(
    "--warmup", type=float, default=0.06, show_default=True, help="Share of the steps used to warm up."
)
@click.option("--weight-decay", type=float, default=0.01, show_default=True, help="Weight decay of AdamW.")
@click.option(
    "--attention-dropout",
    type=float,
    help="Share of attention dropped in training; 0 is much faster on a CPU. Default: the model's own.",
)
@click.option(
    "--dev-fraction", type=float, default=0.05, show_default=True, help="Share held out to choose the epoch."
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Same seed, same machine: same weights.",
)
@device_option
@dtype_option
@config_option
@progress_option
@click.option("--trust-remote-code", is_flag=True, help="Run code from the model's repository.")
def finetune(out: Path, data: str | None, progress: Progress, **options: Any) -> None:
    """Fine-tune an encoder on labelled documents and write the folder OUT, for `run --model OUT`.

    If the source has splits, `train` is used for training and `test` is measured once, at the end. The same command
    resumes an interrupted fine-tuning.
    """
    if data is None:
        raise UsageError("name the data to learn from: attnstore finetune OUT --data SOURCE")
    with shown(progress) as on_event:
        from attnstore.learn.config import FinetuneConfig
        from attnstore.learn.finetune import finetune as finetune_model

        source = source_config(data, options)
        result = finetune_model(FinetuneConfig(source=source, out=out, **options), on_event=on_event)
    for line in result.notes:
        note(f"note: {line}")
    classes = ", ".join(result.labels[:8]) + (", …" if len(result.labels) > 8 else "")
    say(
        f"{result.out}: {len(result.labels)} classes ({classes}), {result.train_documents:,} documents, "
        f"{result.steps:,} steps in {result.seconds:,.0f} s ({result.dtype} on {result.device})"
    )
    if result.dev_accuracy is not None:
        say(f"dev accuracy {result.dev_accuracy:.4f} on {result.dev_documents:,} held-out documents")
    if result.test_accuracy is not None:
        say(f"test accuracy {result.test_accuracy:.4f} on {result.test_documents:,} documents")
    # Not on its training data: its accuracy there says little.
    unseen = f"{shlex.quote(data)} --split test" if result.test_documents else "NEW"
    say(f"next: attnstore run STORE --model {shlex.quote(str(result.out))} --data {unseen}")
