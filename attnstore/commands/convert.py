"""`attnstore convert`: converts a checkpoint of TensorFlow 1 to a model's folder."""

import csv
import shlex
from pathlib import Path

import click

from attnstore.commands.output import note, say


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--labels", metavar="A,B,…", help="The classes in logit order. Default: LABEL_0 and so on.")
@click.option(
    "--base",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The folder of bert_config.json and vocab.txt. Default: beside the checkpoint.",
)
@click.option(
    "--cased/--uncased",
    default=None,
    help="Whether the model is case-sensitive. Default: detected from vocab.txt, if possible.",
)
def convert(folder: Path, out: Path, labels: str | None, base: Path | None, cased: bool | None) -> None:
    """Convert a BERT fine-tuned with google-research/bert to a folder OUT, for `run --model OUT`.

    FOLDER contains a TensorFlow 1 checkpoint (NAME.index and NAME.data-…). Of several, the latest is used, or name one:
    FOLDER/model.ckpt-2343. TensorFlow is not needed.
    """
    from attnstore.convert.checkpoint import convert as convert_checkpoint

    names = next(csv.reader([labels], skipinitialspace=True), []) if labels is not None else []
    done = convert_checkpoint(folder, out, labels=names, base=base, cased=cased)
    for line in done.notes:
        note(f"note: {line}")
    classes = ", ".join(done.labels[:8]) + (", …" if len(done.labels) > 8 else "")
    say(
        f"{done.out}: {done.checkpoint.name}, {done.parameters:,} parameters, {done.layers} layers of {done.heads}"
        f" heads, {len(done.labels)} classes ({classes}), {'cased' if done.cased else 'uncased'}"
    )
    say(f"next: attnstore run STORE --model {shlex.quote(str(done.out))} --data SOURCE")
