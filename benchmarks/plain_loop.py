"""A plain transformers loop over the IMDb test set, to hold a store's predictions against.

It shares nothing with attnstore: it reads the archive itself, pads length-sorted batches, and calls the model as its
documentation says. With --store it lists the reviews on which the store's predictions differ.

    python benchmarks/plain_loop.py MODEL aclImdb_v1.tar.gz --dtype float32 --store imdb.attn
"""

import argparse
import json
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


def predict(model_path: str, texts: list[str], dtype: torch.dtype, batch_tokens: int) -> torch.Tensor:
    """(documents, classes) probabilities, cut at 512 tokens, in the order of `texts`."""
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForSequenceClassification.from_pretrained(model_path, dtype=dtype).eval()
    ids = tokenizer(texts, truncation=True, max_length=512)["input_ids"]
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    found = torch.zeros(len(ids), model.config.num_labels)
    done, began, start = 0, time.monotonic(), 0
    while start < len(order):
        count = max(1, batch_tokens // len(ids[order[start]]))
        rows = order[start : start + count]
        batch = tokenizer.pad({"input_ids": [ids[i] for i in rows]}, return_tensors="pt")
        with torch.inference_mode():
            found[rows] = model(**batch).logits.float().softmax(-1)
        start += count
        done += sum(len(ids[i]) for i in rows)
        print(f"\r{start:,} reviews, {done / (time.monotonic() - began):,.0f} tokens/s", end="", flush=True)
    print()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("archive", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--batch-tokens", type=int, default=8192)
    parser.add_argument("--store", type=Path)
    parser.add_argument("-o", "--output", type=Path, help="keep the probabilities here, as JSON by id")
    parser.add_argument(
        "--known", type=Path, help="take the probabilities from such a file instead of computing"
    )
    options = parser.parse_args()

    ids, texts = reviews(options.archive, options.split)
    if options.known:
        known = json.loads(options.known.read_text())
        probabilities = torch.tensor([known[i] for i in ids])
    else:
        probabilities = predict(options.model, texts, getattr(torch, options.dtype), options.batch_tokens)
    if options.output:
        options.output.write_text(json.dumps(dict(zip(ids, probabilities.tolist(), strict=True))))
    predicted = ["pos" if p else "neg" for p in probabilities.argmax(-1).tolist()]
    correct = sum(p == i.split("/")[1] for p, i in zip(predicted, ids, strict=True))
    print(f"{correct:,} of {len(ids):,} correct: accuracy {correct / len(ids):.5f}")
    if options.store:
        import duckdb

        rows = duckdb.execute(
            "select id, prediction, probabilities from read_parquet(?, hive_partitioning = true) order by document",
            [f"{options.store}/documents/**/*.parquet"],
        ).fetchall()
        print("same ids in the same order:", [r[0] for r in rows] == ids)
        differing = [
            (r, p) for r, p, q in zip(rows, probabilities.tolist(), predicted, strict=True) if r[1] != q
        ]
        print(f"{len(differing)} predictions differ:")
        for (key, prediction, stored), own in differing:
            print(f"  {key}: store {prediction} {stored[1]:.4f}, loop {own[1]:.4f} (probability of pos)")


if __name__ == "__main__":
    main()
