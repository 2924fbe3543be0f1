"""The model and the reviews that `attnstore run` uses when it is given no others. See `model/README.md`."""

from pathlib import Path

#: A small BERT fine-tuned on the IMDb train split.
MODEL = Path(__file__).parent / "model"
#: 220 film reviews of our own writing, about films that don't exist.
REVIEWS = Path(__file__).parent / "reviews.jsonl"
