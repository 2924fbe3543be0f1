"""The README.md of a fine-tuned model."""

import platform
from importlib.metadata import version

import attnstore
from attnstore.data.remote import without_secrets
from attnstore.learn.config import FinetuneConfig, FinetuneResult
from attnstore.messages import listed


def card(config: FinetuneConfig, result: FinetuneResult) -> str:
    """The README.md of the model: its data, its training, and its measurements."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "tokenizers"))
    figures = []
    if result.dev_accuracy is not None:
        each = ", ".join(f"{accuracy:.4f}" for accuracy in result.dev_accuracies)
        figures.append(
            f"- accuracy on {result.dev_documents:,} held-out documents of the train split after each epoch: {each}. "
            f"The weights are those of step {result.chosen_step:,} of {result.steps:,} ({result.dev_accuracy:.4f}): "
            "the latest epoch that no earlier one beats by more than chance (exact McNemar test, 5 %)"
        )
    else:
        figures.append("- nothing was held out: the weights are those of the last step")
    if result.test_accuracy is not None:
        figures.append(
            f"- accuracy on {result.test_documents:,} documents of the test split, looked at once, after the choice: "
            f"{result.test_accuracy:.4f} (products in {result.dtype}, at most {result.max_length} tokens)"
        )
    else:
        figures.append("- the data has no test split: the accuracy on unseen data is not known")
    settings = [
        ("base", config.model if config.revision is None else f"{config.model}@{config.revision}"),
        ("data", without_secrets(config.source.data)),
        ("documents trained on", f"{result.train_documents:,}"),
        ("longest document", f"{result.max_length} tokens"),
        ("epochs", f"{config.epochs:g}"),
        ("batch size", config.batch_size),
        ("optimiser", f"AdamW, weight decay {config.weight_decay:g}"),
        (
            "learning rate",
            f"{config.learning_rate:g}, rising for {config.warmup:.0%} of the steps, then falling to 0",
        ),
        (
            "attention dropout",
            "as in the base" if config.attention_dropout is None else f"{config.attention_dropout:g}",
        ),
        ("products in", f"{result.dtype} on {result.device}; weights in float32"),
        ("seed", config.seed),
    ]
    rows = "\n".join(f"| {name} | {value} |" for name, value in settings)
    notes = "".join(f"- {note}\n" for note in result.notes)
    if notes:
        notes = f"\n## Notes\n\n{notes}"
    measured = "\n".join(figures)
    return f"""---
library_name: transformers
pipeline_tag: text-classification
---
# {config.out.resolve().name}

A text classifier with {len(result.labels)} classes ({listed(result.labels)}), fine-tuned with attnstore.

| | |
|---|---|
{rows}

## Measured

{measured}
{notes}
## Use

    attnstore run out.attn --model {config.out.name} --data {without_secrets(config.source.data)}

or `AutoModelForSequenceClassification.from_pretrained` and `AutoTokenizer.from_pretrained` on this folder.
The licence of the base model and the terms of the data hold for this model too. What a classifier attends to
is not in itself an explanation of what it decides.

attnstore {attnstore.__version__}, Python {platform.python_version()}, {versions}.
"""
