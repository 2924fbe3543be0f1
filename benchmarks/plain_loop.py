"""A plain transformers loop over the IMDb test set, to compare a store's predictions with.

It shares no code with attnstore: it reads the archive itself, pads length-sorted batches, and calls the model as its
documentation says. With --store it lists the reviews with other predictions in the store. With --near 0.1 it computes
only the reviews whose stored probability is within 0.1 of a tie, and trusts the store for the others: minutes instead
of a quarter of an hour.

    python benchmarks/plain_loop.py MODEL aclImdb_v1.tar.gz --dtype float32 --store imdb.attn
"""

import argparse
import tarfile
import time
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


def reviews(archive: Path, split: str) -> tuple[list[str], list[str]]:
    """Ids and texts of a split, in the archive's order."""
    ids, texts = [], []
    with tarfile.open(archive) as members:
        for member in members:
            parts = member.name.split("/")
            if (
                len(parts) == 4
                and parts[1] == split
                and parts[2] in ("neg", "pos")
                and parts[3].endswith(".txt")
            ):
                file = members.extractfile(member)
                assert file is not None  # noqa: S101 - a text is a file
                ids.append("/".join(parts[1:]).removesuffix(".txt"))
                texts.append(file.read().decode("utf-8"))
    return ids, texts


def predict(
    model_path: str, texts: list[str], dtype: torch.dtype, batch_tokens: int, device: str = "cpu"
) -> torch.Tensor:
    """(documents, classes) probabilities, cut at 512 tokens, in the order of `texts`."""
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForSequenceClassification.from_pretrained(model_path, dtype=dtype).eval().to(device)
    ids = tokenizer(texts, truncation=True, max_length=512)["input_ids"]
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    found = torch.zeros(len(ids), model.config.num_labels)
    done, began, start = 0, time.monotonic(), 0
    while start < len(order):
        count = max(1, batch_tokens // len(ids[order[start]]))
        rows = order[start : start + count]
        batch = tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt").to(device)
        with torch.inference_mode():
            found[rows] = model(**batch).logits.float().softmax(-1).cpu()
        start += count
        done += sum(len(ids[i]) for i in rows)
        print(f"\r{start:,} reviews, {done / (time.monotonic() - began):,.0f} tokens/s", end="", flush=True)
    print()
    return found


def stored_probabilities(store: Path) -> dict[str, float]:
    """The probability of pos by id, in the order of the store's documents."""
    import duckdb

    query = "select id, probabilities[2] from read_parquet(?, hive_partitioning = true) order by document"
    return dict(duckdb.execute(query, [f"{store}/documents/**/*.parquet"]).fetchall())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("archive", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda")
    parser.add_argument("--store", type=Path)
    parser.add_argument("--near", type=float, help="only compute reviews this near to a tie in the store")
    options = parser.parse_args()

    ids, texts = reviews(options.archive, options.split)
    stored = stored_probabilities(options.store) if options.store else {}
    if options.store:
        print("same ids in the same order:", list(stored) == ids)
    chosen = list(range(len(ids)))
    if options.near is not None:
        chosen = [i for i in chosen if abs(stored[ids[i]] - 0.5) < options.near]
        print(f"{len(chosen):,} reviews within {options.near} of a tie in the store")
    computed = predict(
        options.model,
        [texts[i] for i in chosen],
        getattr(torch, options.dtype),
        options.batch_tokens,
        options.device,
    )
    positive = dict(stored) | {ids[i]: float(p[1]) for i, p in zip(chosen, computed, strict=True)}
    correct = sum((positive[i] > 0.5) == (i.split("/")[1] == "pos") for i in ids)
    print(f"{correct:,} of {len(ids):,} correct: accuracy {correct / len(ids):.5f}")
    if stored:
        own = sum((stored[i] > 0.5) == (i.split("/")[1] == "pos") for i in ids)
        print(f"the store: {own:,} correct, accuracy {own / len(ids):.5f}")
        differing = [i for i in ids if (positive[i] > 0.5) != (stored[i] > 0.5)]
        print(f"{len(differing)} predictions differ (probability of pos):")
        for i in differing:
            print(f"  {i}: store {stored[i]:.4f}, loop {positive[i]:.4f}")


if __name__ == "__main__":
    main()
