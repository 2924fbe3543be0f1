"""The recipe of the model that attnstore carries: cut an encoder, teach, train, evaluate.

Four steps, each a command that reads and writes plain files (`docs/embedded-model.md` has the
commands as they were run, and the figures of every attempt):

    cut       a few layers and a part of the vocabulary of a pre-trained BERT encoder
    teach     what a larger fine-tuned model says of each train review, computed once
    train     the cut encoder on the gold labels and the teacher's answers
    evaluate  accuracy of a saved model on one split

The data is the Large Movie Review Dataset (Maas et al., ACL 2011) in its original archive. The
test split is opened by `evaluate --split test` and by nothing else.
"""

# ruff: noqa: S311 - every draw here is to be repeatable, none is a secret

from __future__ import annotations

import argparse
import json
import random
import tarfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
)

LABELS = ("neg", "pos")
MAX_LENGTH = 512
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class Review:
    """One labelled review; reviews with the same film page speak of the same film."""

    text: str
    label: int
    film: str


def read_reviews(archive: Path, split: str) -> list[Review]:
    """The 25,000 reviews of a split, negatives first, each class in the order of its ids."""
    texts: dict[tuple[str, int], str] = {}
    films: dict[str, list[str]] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = Path(member.name).parts
            if not member.isfile() or len(parts) < 3 or parts[1] != split:
                continue
            handle = tar.extractfile(member)
            content = handle.read().decode("utf-8") if handle else ""
            if len(parts) == 3 and parts[2].startswith("urls_"):
                films[parts[2].removeprefix("urls_").removesuffix(".txt")] = content.splitlines()
            elif len(parts) == 4 and parts[2] in LABELS:
                texts[parts[2], int(parts[3].split("_")[0])] = content
    order = sorted(texts, key=lambda key: (LABELS.index(key[0]), key[1]))
    return [Review(texts[key], LABELS.index(key[0]), films[key[0]][key[1]]) for key in order]


def split_dev(reviews: Sequence[Review], size: int, seed: int) -> tuple[list[int], list[int]]:
    """(train, dev) indices; dev is whole films, drawn by `seed`, until `size` reviews are in it.

    A film must not lie on both sides: its title and actors would tell the label of a dev review.
    """
    films = sorted({review.film for review in reviews})
    random.Random(seed).shuffle(films)
    counts = Counter(review.film for review in reviews)
    held: set[str] = set()
    total = 0
    for film in films:
        if total >= size:
            break
        held.add(film)
        total += counts[film]
    dev = [i for i, review in enumerate(reviews) if review.film in held]
    train = [i for i, review in enumerate(reviews) if review.film not in held]
    return train, dev


def spans(texts: Sequence[str], seed: int) -> list[tuple[int, str]]:
    """Every text in two pieces, cut at a space between 30 % and 70 % of its length.

    The teacher has seen the whole reviews with their labels and is nearly certain of them; of
    the pieces it has not, so its answers say more there. Pieces also show the student shorter
    texts, and what stands beyond token 512 of the long ones. Returns (review index, piece).
    """
    rng = random.Random(seed)
    pieces: list[tuple[int, str]] = []
    for index, text in enumerate(texts):
        cut = text.find(" ", int(len(text) * rng.uniform(0.3, 0.7)))
        pieces += [(index, part) for part in (text[:cut], text[cut:]) if cut > 0 and part.strip()]
    return pieces


# --- cut ------------------------------------------------------------------------------------


def keep_pieces(tokenizer: Tokenizer, texts: Sequence[str], size: int) -> list[str]:
    """The `size` wordpieces to keep, in their old order.

    Kept whatever their count: the special tokens, and the one-character pieces (bare and `##`)
    that are ASCII, so that every English word stays spellable. Then the most used on `texts`.
    """
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    counts: Counter[int] = Counter()
    for start in range(0, len(texts), 1000):
        for encoding in tokenizer.encode_batch_fast(texts[start : start + 1000]):
            counts.update(encoding.ids)
    kept = {piece for piece in vocabulary if piece in SPECIAL or _ascii_character(piece)}
    by_use = sorted(vocabulary, key=lambda piece: (-counts[vocabulary[piece]], vocabulary[piece]))
    for piece in by_use:
        if len(kept) >= size or counts[vocabulary[piece]] == 0:
            break
        kept.add(piece)
    covered = sum(counts[vocabulary[piece]] for piece in kept) / counts.total()
    print(f"{len(kept):,} of {len(vocabulary):,} pieces, {covered:.4%} of the tokens", flush=True)
    return sorted(kept, key=vocabulary.__getitem__)


def _ascii_character(piece: str) -> bool:
    return len(piece.removeprefix("##")) == 1 and piece.isascii()


def cut(encoder: Path, archive: Path, out: Path, layers: Sequence[int], pieces: int) -> None:
    """Write `layers` of `encoder`, with `pieces` of its vocabulary and a new head, into `out`."""
    text = (encoder / "tokenizer.json").read_text(encoding="utf-8")
    description: dict[str, Any] = json.loads(text)
    # The encoder's file asks for padding and truncation at 128; ours is to do neither unasked.
    description["truncation"] = description["padding"] = None
    whole = Tokenizer.from_str(json.dumps(description))
    reviews = read_reviews(archive, "train")
    kept = keep_pieces(whole, [review.text for review in reviews], pieces)
    old = whole.get_vocab(with_added_tokens=True)
    new = {piece: index for index, piece in enumerate(kept)}
    description["model"]["vocab"] = new
    for token in description["added_tokens"]:
        token["id"] = new[token["content"]]
    for name, token in description["post_processor"]["special_tokens"].items():
        token["ids"] = [new[name]]

    torch.manual_seed(0)  # for the new head
    base = BertModel.from_pretrained(encoder, dtype=torch.float32)
    config = BertConfig.from_pretrained(
        encoder,
        vocab_size=len(kept),
        num_hidden_layers=len(layers),
        id2label=dict(enumerate(LABELS)),
        label2id={name: index for index, name in enumerate(LABELS)},
        problem_type="single_label_classification",
        architectures=["BertForSequenceClassification"],
    )
    model = BertForSequenceClassification(config)
    state = {}
    for name, tensor in base.state_dict().items():
        if name == "embeddings.word_embeddings.weight":
            state[name] = tensor[[old[piece] for piece in kept]]
        elif not name.startswith("encoder.layer."):
            state[name] = tensor
        elif (number := int(name.split(".")[2])) in layers:
            rest = name.split(".", 3)[3]
            state[f"encoder.layer.{list(layers).index(number)}.{rest}"] = tensor
    model.bert.load_state_dict(state)
    save(model, description, out)


def save(model: BertForSequenceClassification, tokenizer: dict[str, Any], out: Path) -> None:
    """Write a float16 model and its tokenizer, a plain folder for `from_pretrained`."""
    out.mkdir(parents=True, exist_ok=True)
    # The path the weights came from is no property of the model.
    model.config._name_or_path = ""
    model.half().save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)  # it is written for its owner alone
    (out / "tokenizer.json").write_text(
        json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": MAX_LENGTH,
        **{f"{token.strip('[]').lower()}_token": token for token in SPECIAL},
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


# --- batches --------------------------------------------------------------------------------


def encode(folder: Path, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Token ids of each text, cut at `max_length`, by the tokenizer of the model in `folder`."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return [
        encoding.ids
        for start in range(0, len(texts), 1000)
        for encoding in tokenizer.encode_batch_fast(list(texts[start : start + 1000]))
    ]


def pad(ids: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, both [batch, longest]; padding has id 0."""
    shape = len(ids), max(map(len, ids))
    tokens, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    for row, sequence in enumerate(ids):
        tokens[row, : len(sequence)] = torch.tensor(sequence)
        mask[row, : len(sequence)] = 1
    return {"input_ids": tokens, "attention_mask": mask}


def sorted_batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Indices in batches of at most `token_budget` padded tokens, the longest texts first."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > token_budget:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def grouped_batches(lengths: Sequence[int], size: int, rng: random.Random) -> list[list[int]]:
    """Random batches of `size` texts of similar length: sorted within pools of 50 batches."""
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches = []
    for start in range(0, len(order), 50 * size):
        pool = sorted(order[start : start + 50 * size], key=lambda i: -lengths[i])
        batches += [pool[i : i + size] for i in range(0, len(pool), size)]
    rng.shuffle(batches)
    return batches


# --- teach ----------------------------------------------------------------------------------


def answers(
    model: BertForSequenceClassification, ids: Sequence[Sequence[int]], say: Callable[[str], None]
) -> tuple[NDArray[np.float32], NDArray[np.float16]]:
    """Logits [texts, classes] and last hidden state of `[CLS]` [texts, hidden] of each text."""
    model.eval()
    logits = np.zeros((len(ids), model.config.num_labels), np.float32)
    states = np.zeros((len(ids), model.config.hidden_size), np.float16)
    lengths = [len(sequence) for sequence in ids]
    total, done, spoken, start = sum(lengths), 0, 0.0, time.monotonic()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for batch in sorted_batches(lengths, 8192):
            output = model.bert(**pad([ids[i] for i in batch]))
            logits[batch] = model.classifier(output.pooler_output).float().numpy()
            states[batch] = output.last_hidden_state[:, 0].float().numpy()
            done += sum(lengths[i] for i in batch)
            elapsed = time.monotonic() - start
            if elapsed - spoken > 30:
                spoken = elapsed
                say(f"{done:,}/{total:,} tokens, ETA {elapsed * (total - done) / done:.0f} s")
    say(f"{len(ids):,} texts, {total:,} tokens in {time.monotonic() - start:.0f} s")
    return logits, states


def inputs_of(name: str, texts: Sequence[str]) -> tuple[list[int], list[str]]:
    """What is taught and trained on under a name, and of which review each text is."""
    if name == "full":
        return list(range(len(texts))), list(texts)
    pieces = spans(texts, seed=0)
    return [index for index, _ in pieces], [piece for _, piece in pieces]


def teach(teacher: Path, archive: Path, out: Path, names: Sequence[str]) -> None:
    """Write the teacher's answers on the train reviews (`full`), on their `spans`, as .npz files."""
    reviews = read_reviews(archive, "train")
    model = AutoModelForSequenceClassification.from_pretrained(teacher, dtype=torch.float32)
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        owners, texts = inputs_of(name, [review.text for review in reviews])
        logits, states = answers(model, encode(teacher, texts, MAX_LENGTH), say)
        gold = np.array([reviews[owner].label for owner in owners])
        say(f"{name}: the teacher agrees with {(logits.argmax(1) == gold).mean():.4f} of the labels")
        np.savez(out / f"{name}.npz", logits=logits, states=states)


# --- train ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Examples:
    """What one pass reads: token ids, gold labels, the teacher's logits and `[CLS]` states."""

    ids: list[list[int]]
    labels: torch.Tensor
    logits: torch.Tensor
    states: torch.Tensor
    gold_weight: float


@dataclass(frozen=True)
class Lessons:
    """All that a training reads: examples by pass, batches in order, and the held-out reviews.

    `ends` are the step counts after which a pass is over.
    """

    sets: dict[str, Examples]
    plan: list[tuple[str, list[int]]]
    ends: set[int]
    dev_ids: list[list[int]]
    dev_labels: NDArray[np.int64]


def prepare(arguments: argparse.Namespace) -> Lessons:
    """Read, hold out, tokenise and order; a function of the arguments alone."""
    reviews = read_reviews(arguments.archive, "train")
    texts = [review.text for review in reviews]
    train_rows, dev_rows = split_dev(reviews, arguments.dev, seed=0)
    if arguments.limit:
        train_rows = sorted(random.Random(arguments.seed).sample(train_rows, arguments.limit))
    in_train = set(train_rows)

    def examples(one_pass: str) -> Examples:
        name, _, length = one_pass.partition("@")
        owners, inputs = inputs_of(name, texts)
        rows = [row for row, owner in enumerate(owners) if owner in in_train]
        targets = np.load(arguments.targets / f"{name}.npz")
        return Examples(
            encode(arguments.model, [inputs[row] for row in rows], int(length or MAX_LENGTH)),
            torch.tensor([reviews[owners[row]].label for row in rows]),
            torch.from_numpy(targets["logits"][rows]),
            torch.from_numpy(targets["states"][rows]).float(),
            arguments.gold if name == "full" else 0.0,
        )

    passes = arguments.passes.split(",")
    sets = {name: examples(name) for name in dict.fromkeys(passes)}
    rng = random.Random(arguments.seed)
    plan: list[tuple[str, list[int]]] = []
    ends = set()
    for name in passes:
        lengths = [len(ids) for ids in sets[name].ids]
        plan += [(name, batch) for batch in grouped_batches(lengths, arguments.batch, rng)]
        ends.add(len(plan))
    say(f"train {len(train_rows):,} reviews, dev {len(dev_rows):,}; {len(plan):,} steps")
    dev_ids = encode(arguments.model, [texts[i] for i in dev_rows], MAX_LENGTH)
    return Lessons(sets, plan, ends, dev_ids, np.array([reviews[i].label for i in dev_rows]))


class Student:
    """The model in training, with all that a checkpoint holds."""

    def __init__(self, folder: Path, steps: int, learning_rate: float) -> None:
        self.model = BertForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
        # Drawing dropout masks takes a quarter of a step on a CPU; only two of them are kept,
        # after the embeddings and before the classifier.
        for name, module in self.model.named_modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.1 if name in ("bert.embeddings.dropout", "dropout") else 0.0
        plain = [p for p in self.model.parameters() if p.ndim < 2]
        decayed = [p for p in self.model.parameters() if p.ndim >= 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
            lr=learning_rate,
            fused=True,
        )
        warmup = max(1, round(0.06 * steps))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda step: min((step + 1) / warmup, max(0.0, (steps - step) / (steps - warmup))),
        )

    def step(self, chosen: Examples, batch: list[int], arguments: argparse.Namespace) -> list[float]:
        """Learn from one batch; returns its loss and its accuracy."""
        self.model.train()
        with torch.autocast("cpu", torch.bfloat16):
            output = self.model.bert(**pad([chosen.ids[i] for i in batch]))
            pooled = self.model.dropout(output.pooler_output)
            logits = self.model.classifier(pooled).float()
        loss = distance(logits, output.last_hidden_state[:, 0].float(), chosen, batch, arguments)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        right = (logits.argmax(1) == chosen.labels[batch]).float().mean()
        return [loss.item(), right.item()]

    def write(self, path: Path, step: int) -> None:
        """Keep everything, whole or not at all."""
        state = {"step": step, "model": self.model.state_dict()}
        state |= {"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}
        torch.save(state, path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)

    def read(self, path: Path) -> int:
        """Take up a checkpoint; returns the number of steps done."""
        state = torch.load(path)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        return int(state["step"])


def train(arguments: argparse.Namespace) -> None:
    """Train a cut encoder by distillation and save it in float16; see the options for the recipe."""
    lessons = prepare(arguments)
    plan = lessons.plan
    student = Student(arguments.model, len(plan), arguments.learning_rate)
    arguments.out.mkdir(parents=True, exist_ok=True)
    checkpoint = arguments.out / "checkpoint.pt"
    first = student.read(checkpoint) if arguments.resume and checkpoint.exists() else 0

    tokens = np.array([sum(len(lessons.sets[n].ids[i]) for i in batch) for n, batch in plan])
    means, start = np.zeros(2), time.monotonic()
    for step, (name, batch) in enumerate(plan[first:], start=first + 1):
        # Dropout is a function of the step alone, so that a resumed run is the same run.
        torch.manual_seed(arguments.seed * 1_000_003 + step - 1)
        keep = min(0.99, 1 - 1 / (step - first))
        means = keep * means + (1 - keep) * np.array(student.step(lessons.sets[name], batch, arguments))
        if step % 50 == 0:
            speed = tokens[first:step].sum() / (time.monotonic() - start)
            say(
                f"step {step:,}/{len(plan):,} {name} loss {means[0]:.4f} train {means[1]:.4f} "
                f"{speed:,.0f} tokens/s ETA {tokens[step:].sum() / speed / 60:.1f} min"
            )
        if step % 500 == 0 or step in lessons.ends:
            student.write(checkpoint, step)
        if step in lessons.ends:
            found, _ = answers(student.model, lessons.dev_ids, lambda line: None)
            accuracy = (found.argmax(1) == lessons.dev_labels).mean()
            say(f"step {step:,} dev accuracy {accuracy:.4f}")
    tokenizer = json.loads((arguments.model / "tokenizer.json").read_text(encoding="utf-8"))
    save(student.model, tokenizer, arguments.out / "model")
    size = sum(file.stat().st_size for file in (arguments.out / "model").iterdir())
    say(f"saved {arguments.out / 'model'}, {size:,} bytes")


def distance(
    logits: torch.Tensor,
    states: torch.Tensor,
    examples: Examples,
    batch: Sequence[int],
    arguments: argparse.Namespace,
) -> torch.Tensor:
    """The loss of one batch, a scalar.

    `g` x cross-entropy with the gold labels + (1 - g) x T^2 x KL from the teacher's answers at
    temperature T + `b` x mean squared distance between the last `[CLS]` states of student and
    teacher. On spans g is 0: a piece of a review need not share the verdict of the whole.
    """
    rows, heat = list(batch), arguments.temperature
    soft = functional.kl_div(
        functional.log_softmax(logits / heat, dim=-1),
        functional.log_softmax(examples.logits[rows] / heat, dim=-1),
        log_target=True,
        reduction="batchmean",
    )
    gold = functional.cross_entropy(logits, examples.labels[rows])
    states_apart = functional.mse_loss(states, examples.states[rows])
    weight = examples.gold_weight
    mixed = weight * gold + (1 - weight) * heat**2 * soft + arguments.states * states_apart
    return torch.as_tensor(mixed)


# --- evaluate -------------------------------------------------------------------------------


def evaluate(folder: Path, archive: Path, split: str, dtype: str) -> None:
    """Print the accuracy of the model in `folder` on all reviews of a split, at most 512 tokens."""
    reviews = read_reviews(archive, split)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer([review.text for review in reviews], truncation=True)["input_ids"]
    predicted = np.zeros(len(reviews), np.int64)
    start = time.monotonic()
    with torch.inference_mode():
        for batch in sorted_batches([len(sequence) for sequence in ids], 8192):
            predicted[batch] = model(**pad([ids[i] for i in batch])).logits.argmax(-1).numpy()
    gold = np.array([review.label for review in reviews])
    right = int((predicted == gold).sum())
    say(
        f"{folder} on {split}, {dtype}: {right:,} of {len(reviews):,} right, accuracy "
        f"{right / len(reviews):.5f}; {sum(map(len, ids)):,} tokens in "
        f"{time.monotonic() - start:.0f} s"
    )


def say(line: str) -> None:
    """Print with the time of day, at once: the output is usually a log file."""
    print(time.strftime("%H:%M:%S"), line, flush=True)


def main() -> None:
    """Read the command line and do one of the four steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--threads", type=int, default=2)
    commands = parser.add_subparsers(dest="command", required=True)

    one = commands.add_parser("cut", help="layers and vocabulary of an encoder")
    one.add_argument("encoder", type=Path)
    one.add_argument("archive", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--layers", default="0,2,4", help="which layers, from 0")
    one.add_argument("--pieces", type=int, default=10_240, help="wordpieces to keep")

    one = commands.add_parser("teach", help="the teacher's answers on the train split")
    one.add_argument("teacher", type=Path)
    one.add_argument("archive", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--of", default="full", help="full, spans, or both with a comma")

    one = commands.add_parser("train", help="the cut encoder, by distillation")
    one.add_argument("model", type=Path, help="what `cut` wrote")
    one.add_argument("targets", type=Path, help="what `teach` wrote")
    one.add_argument("archive", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument(
        "--passes",
        default="full@256,full,full",
        help="what each epoch reads, full or spans, and to which length if not 512",
    )
    one.add_argument("--batch", type=int, default=16)
    one.add_argument("--learning-rate", type=float, default=1e-4)
    one.add_argument("--temperature", type=float, default=2.0)
    one.add_argument("--gold", type=float, default=0.5, help="weight of the gold labels")
    one.add_argument("--states", type=float, default=1.0, help="weight of the [CLS] states")
    one.add_argument("--dev", type=int, default=2000, help="held-out reviews, whole films")
    one.add_argument("--limit", type=int, default=0, help="train on so many reviews only")
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--resume", action="store_true")

    one = commands.add_parser("evaluate", help="accuracy of a saved model")
    one.add_argument("model", type=Path)
    one.add_argument("archive", type=Path)
    one.add_argument("--split", choices=("train", "test"), default="test")
    one.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")

    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    if a.command == "cut":
        cut(a.encoder, a.archive, a.out, [int(n) for n in a.layers.split(",")], a.pieces)
    elif a.command == "teach":
        teach(a.teacher, a.archive, a.out, a.of.split(","))
    elif a.command == "train":
        train(a)
    else:
        evaluate(a.model, a.archive, a.split, a.dtype)


if __name__ == "__main__":
    main()
