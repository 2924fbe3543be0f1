"""Small reviews in words that the tiny models know."""

import random
from pathlib import Path


def write_reviews(path: Path, count: int, seed: int = 0) -> Path:
    """A CSV file of `count` small reviews with id, label, group and text; every tenth is empty or long."""
    import tiny  # imports transformers, which a process that only distributes tests does not need

    generator = random.Random(seed)
    words = [w for w in tiny.WORDS if not w.startswith("##") and w.isalpha()]
    lines = ["id,label,group,text"]
    for number in range(count):
        length = {3: 0, 7: 90}.get(number % 10, generator.randint(1, 25))
        text = " ".join(generator.choices(words, k=length))
        lines.append(f"r{number},{'pos' if generator.random() < 0.5 else 'neg'},film{number % 7},{text}")
    path.write_text("\n".join(lines) + "\n")
    return path
