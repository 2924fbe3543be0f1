"""`finetune(FinetuneConfig(...))`: a pre-trained encoder becomes a text classifier.

transformers' `Trainer` does the training. This module decides on the data (which documents train the model, choose the
epoch, and test the result once), the order of the batches, the checkpoints of an interrupted run, and the report.
Nothing is printed: progress is reported as events.
"""

import time
from dataclasses import replace
from pathlib import Path

import torch
import transformers
from transformers import PrinterCallback

from attnstore.engine.models import quiet
from attnstore.engine.paths import memory
from attnstore.errors import AttnstoreError
from attnstore.events import Noted, OnEvent, ignore
from attnstore.interrupts import stop_on_interrupt
from attnstore.learn.card import card
from attnstore.learn.checkpoints import begin, finish, finished, interrupted
from attnstore.learn.choice import Choice
from attnstore.learn.config import CHECKPOINTS, FinetuneConfig, FinetuneResult, check, compute
from attnstore.learn.encoder import load_model, load_tokenizer, longest_of
from attnstore.learn.examples import read_splits, split_dev
from attnstore.learn.training import (
    Examples,
    LengthGroupedBatches,
    LengthGroupedTrainer,
    Stopped,
    Watcher,
    arguments,
    collator,
    predicted_classes,
    repeatable,
)


def finetune(config: FinetuneConfig, *, on_event: OnEvent = ignore) -> FinetuneResult:
    """Fine-tune `config.model` on `config.source` and write the classifier to `config.out`.

    The result is a plain Hugging Face folder with a README.md. Ctrl-C, SIGTERM or SIGHUP end the run after the current
    step with a `FinetuneInterrupted`. The same call then resumes, to the same weights as an undisturbed run. With the
    same seed on the same machine, the weights are always the same. `on_event` gets `Downloaded` first, then `Trained`.

    Raises:
        AttnstoreError: the subclass for what is wrong: the data, the model or the options.
    """
    began = time.monotonic()
    if (done := finished(config)) is not None:
        return done
    check(config)
    asked = config
    device, dtype = compute(config)
    tokenizer = load_tokenizer(config)
    max_length = longest_of(config, tokenizer)
    config = replace(config, max_length=max_length)  # a resumed run must have the same
    splits, labels, notes = read_splits(config, tokenizer, max_length, on_event)
    train_rows, dev_rows = split_dev(
        splits["train"].groups, splits["train"].labels, config.dev_fraction, config.seed
    )
    train, dev = splits["train"].part(train_rows), splits["train"].part(dev_rows).by_length()
    checkpoint = begin(config, labels, splits)

    def stopping(why: str) -> None:
        on_event(Noted(f"{why}: a checkpoint is written first; a second signal ends it at once"))

    with quiet(), repeatable(device), memory.kept(), stop_on_interrupt(stopping) as stop:
        transformers.set_seed(config.seed)
        model = load_model(config, labels)
        batches = LengthGroupedBatches([len(ids) for ids in train.ids], config.batch_size, config.seed)
        watcher = Watcher(on_event, stop, batches, choosing=bool(dev.ids))
        choice = Choice(config.out / CHECKPOINTS)
        trainer = LengthGroupedTrainer(
            model=model,
            args=arguments(config, device, dtype, choosing=bool(dev.ids), steps=watcher.steps(config.epochs)),
            train_dataset=Examples(train),
            eval_dataset=Examples(dev) if dev.ids else None,
            data_collator=collator(tokenizer.pad_token_id, tokenizer.padding_side),
            compute_loss_func=watcher.loss,
            compute_metrics=lambda found: choice.metrics(
                batches.epoch, found.predictions == found.label_ids, choosing=watcher.phase == "dev"
            ),
            preprocess_logits_for_metrics=predicted_classes,
            callbacks=[watcher],
        )
        trainer.remove_callback(PrinterCallback)
        try:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
            state = trainer.state
            watcher.check_loss(state.global_step)
            if state.global_step < state.max_steps:
                raise interrupted(
                    config, f"at step {state.global_step:,} of {state.max_steps:,}", stop.number
                )
            tested = None
            if "test" in splits:
                watcher.phase = "test"
                found = trainer.predict(Examples(splits["test"].by_length()))
                tested = float(found.metrics["test_accuracy"])
                watcher.tell(state, accuracy=tested)
        except Stopped as error:
            raise interrupted(config, "while the test split was being measured", stop.number) from error
        except torch.OutOfMemoryError as error:
            raise AttnstoreError(
                f"the {device} has too little memory for batches of {config.batch_size} documents of "
                f"{max_length} tokens: lower --batch-size or --max-length"
            ) from error

        measured = {
            entry["step"]: entry["eval_accuracy"] for entry in state.log_history if "eval_accuracy" in entry
        }
        chosen = state.best_global_step or state.global_step
        result = FinetuneResult(
            out=config.out,
            labels=labels,
            train_documents=len(train.ids),
            dev_documents=len(dev.ids),
            test_documents=len(splits["test"].ids) if "test" in splits else 0,
            dev_accuracies=tuple(measured.values()),
            chosen_step=chosen,
            steps=state.global_step,
            dev_accuracy=measured.get(chosen),
            test_accuracy=tested,
            seconds=time.monotonic() - began,
            max_length=max_length,
            dtype=dtype,
            device=device,
            notes=notes,
        )
        # Neither is a property of the model: how long texts may be is for its users to say.
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()

        def write(folder: Path) -> None:
            trainer.model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            (folder / "README.md").write_text(card(config, result), encoding="utf-8")

        finish(asked, result, write)
    return result
