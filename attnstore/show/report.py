"""A store's report: one self-contained page that shows a whole data set without a table to read first.

It says what was run, what the model predicted, which words draw attention, where attention goes, and which documents
to look at. Its files are `templates/report.html`, `report.css` and `report.js`. The embedded JSON is plain data, which
the script puts into the page as text.
"""

import math
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

import attnstore
from attnstore.ask.answer import Connect, ask
from attnstore.ask.excerpts import (
    certain_documents,
    contexts_of,
    documents_with_tokens,
    typical_documents,
    words_of_one_class,
)
from attnstore.ask.faithful import best_score
from attnstore.ask.glossary import signed_scores
from attnstore.ask.pool import Pool, Work
from attnstore.ask.questions import Question, find_questions
from attnstore.ask.values import as_text
from attnstore.errors import UsageError
from attnstore.messages import counted
from attnstore.show import captions, p_values
from attnstore.show.markup import render, script, source
from attnstore.show.plot import Plot, javascript, plot, themes
from attnstore.show.segments import stretches
from attnstore.show.shading import FULL_LIFT, ShadedDocument
from attnstore.store.faithfulness import faithfulness_files
from attnstore.store.frames import NOTHING
from attnstore.store.store import Store
from attnstore.visible import visible, visible_line

#: What the first section says about the words of each side, and about attention, which has no sides.
_SAID = {None: "Attended to most", "for": "Most certain to support the prediction", "against": "To oppose it"}
#: How many words of each kind the first section names for each class.
_IN_SHORT = 8
#: How many words get a card with contexts and layers: the leading ones of those shown.
_CARDS = 240
#: How many classes have their documents shown: those with most documents.
_CLASSES_WITH_DOCUMENTS = 8


@dataclass(frozen=True, slots=True)
class Figure:
    """A question of the report: its chart, or the reason why it has no answer here.

    `lines` are below the title: what the answer is based on, and notes. `warning` says how not to read it.
    """

    name: str
    title: str
    warning: str
    command: str
    sql: str
    lines: tuple[str, ...]
    drawn: Plot | None


def report(store: Store, asked: Callable[[str], None] = lambda _name: None) -> str:
    """The page. `asked` hears of each question before it is asked, since a large store takes its time.

    Raises:
        UsageError: vl-convert is not installed.
        StoreError: the store can't be read.
    """
    code = javascript()  # before the work is done
    # One database for all questions: opening one takes as long as an answer over a small store.
    with closing(Pool(store)) as pool:
        return _page(store, code, Work(pool).connect, asked)


def _page(store: Store, code: str, connect: Connect, asked: Callable[[str], None]) -> str:
    attention = store.manifest.attention
    reduction = None if attention is None else attention.name
    predictions = _answered(store, "predictions", {}, connect, asked)
    overall = predictions.drawn.table.slice(0, 1).to_pylist() if predictions.drawn else []
    labelled = bool(overall and overall[0]["labelled"])
    sections = _sections(store, reduction, labelled, predictions, connect, asked)
    figures = [figure for _, _, inner in sections for figure in inner if figure.drawn is not None]
    asked("words")
    alone = words_of_one_class(store, 15, connect) if reduction and len(store.manifest.labels) <= 20 else {}
    lonely = [word for those in alone.values() for word, _, _ in those]
    words = _words(store, reduction, [*dict.fromkeys([*lonely, *_leading(figures)])][:_CARDS], connect)
    asked("documents")
    groups = _groups(store, reduction, labelled, connect)
    page = {
        "themes": themes(),
        "figures": {figure.name: _embedded(figure) for figure in figures},
        "words": words,
        "classes": [visible_line(label) for label in store.manifest.labels],
        "store": store.path.name,
        "documents": _documents(store, groups, connect),
        "reductions": [
            {
                "name": r.name,
                "meaning": r.meaning,
                "layers": store.manifest.layers if r.per_layer else 1,
                "signed": r.signed,
                "whole": r.total == 1.0,
            }
            for r in store.manifest.reductions
            if not r.per_head
        ],
        "full": FULL_LIFT,
        "p": {"columns": p_values.NAMES, "least": p_values.LEAST, "too_small": p_values.TOO_SMALL},
        "share": attention is not None and attention.total == 1.0,
    }
    return render(
        "report.html",
        title=store.path.name,
        version=attnstore.__version__,
        facts=list(_facts(store, overall, labelled)),
        details=list(_details(store)),
        labelled=labelled,
        labels_are_models=store.manifest.labels_are_models,
        sections=sections,
        reduction=attention,
        alone=alone,
        short=_in_short(figures),
        groups=groups,
        data=page,
        css=source("report.css"),
        scripts=[script(code), script(source("charts.js")), script(source("report.js"))],
    )


def _sections(
    store: Store,
    reduction: str | None,
    labelled: bool,
    predictions: Figure,
    connect: Connect,
    asked: Callable[[str], None],
) -> list[tuple[str, str, list[Figure]]]:
    """(anchor, title, figures) of every section with questions."""
    has_labels = _has_labels(store, connect)
    several = (
        sum(len(r.columns(store.manifest.layers)) for r in store.manifest.reductions if not r.per_head) > 1
    )
    by_head = next((r.name for r in store.manifest.reductions if r.per_head), None)
    measured = bool(faithfulness_files(store))
    of = {"reduction": reduction}
    wanted: dict[tuple[str, str], list[tuple[str, Mapping[str, Any], bool]]] = {
        ("predictions", "Predictions"): [
            ("confusion", {}, has_labels),
            ("calibration", {}, labelled),
            ("truncation", {}, True),
        ],
        ("words", "Words"): [
            ("top_words_by_class", of, True),
            ("for_and_against", {}, store.manifest.evidence is not None),
            ("distinctive_words", of, True),
            ("attention_vs_frequency", of, True),
            ("errors", of, labelled),
            ("layer_profile", of, True),
        ],
        ("attention", "Where attention goes"): [
            ("sinks", of, True),
            ("concentration", of, True),
            ("position_profile", of, True),
            ("layer_agreement", {}, several),
            ("heads", {"reduction": by_head}, by_head is not None),
        ],
        ("faithfulness", "Whether it matters"): [("faithfulness", {}, measured)],
    }
    found = []
    for (anchor, title), questions in wanted.items():
        figures = [predictions] if anchor == "predictions" else []
        figures += [
            _answered(store, name, given, connect, asked)
            for name, given, fits in questions
            if fits and (given is not of or reduction is not None) and name in find_questions()
        ]
        if figures:
            found.append((anchor, title, figures))
    return found


def _answered(
    store: Store, name: str, given: Mapping[str, Any], connect: Connect, asked: Callable[[str], None]
) -> Figure:
    asked(name)
    question = find_questions()[name]
    lines: tuple[str, ...] = ()
    drawn = None
    try:
        drawn = plot(
            store, question, given, answered=lambda this, with_: ask(store, this, with_, connect=connect)
        )
        lines = drawn.lines
        if name == "faithfulness":
            lines = (*lines, *_best(store))
    except UsageError as error:  # this store can't answer it, but it can answer the others
        lines = (f"Can't be answered here: {error}",)
    parameters = "".join(f" -p {shlex.quote(f'{key}={as_text(value)}')}" for key, value in given.items())
    return Figure(
        name=name,
        title=question.summary,
        warning=how_not_to_read(question),
        command=f"attnstore plot {shlex.quote(store.path.name)} {name}{parameters}",
        sql="\n".join(line for line in question.sql.splitlines() if not line.startswith("--")).strip(),
        lines=lines,
        drawn=drawn,
    )


def _best(store: Store) -> list[str]:
    """The score that did best, in one sentence; empty if no documents have measurements of all scores."""
    try:
        return [str(best_score(store))]
    except UsageError:
        return []


def how_not_to_read(question: Question) -> str:
    """What a question's documentation says under "How not to read it", on one line; empty if there is no such part."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in question.documentation.split("\n\n"))
    return next((p.removeprefix("How not to read it: ") for p in paragraphs if p.startswith("How not")), "")


def _embedded(figure: Figure) -> dict[str, Any]:
    """A figure for the page's script: the chart without its data, and the answer by column."""
    assert figure.drawn is not None  # noqa: S101 - those without are left out
    spec = {name: value for name, value in figure.drawn.spec.items() if name not in ("title", "data")}
    rows = figure.drawn.spec["data"]["values"]
    columns = figure.drawn.table.column_names
    return {
        "spec": spec,
        "columns": columns,
        "values": [[_short(row[column]) for row in rows] for column in columns],
    }


def _short(value: Any) -> Any:
    """Seven digits of a number: more than are certain in an answer, and half the space."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share of `total` documents; `total` is above 0.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    z = 1.959964
    share, square = hits / total, z * z / total
    middle = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / total + square / (4 * total)) / (1 + square)
    return middle - half, middle + half


def _facts(store: Store, overall: Sequence[Mapping[str, Any]], labelled: bool) -> Iterator[tuple[str, str]]:
    """What was run, in a few lines."""
    manifest = store.manifest
    yield "Model", f"{manifest.model}, {manifest.layers} layers of {manifest.heads} heads"
    yield "Data", manifest.all_data
    of = "" if manifest.sealed else f" of {manifest.documents:,}: the run is not finished"
    yield "Documents", f"{store.rows('documents'):,}{of}"
    yield "Tokens", f"{store.rows('tokens'):,}"
    if overall:
        longer = (
            "cut"
            if manifest.long == "cut"
            else f"longer than {manifest.max_length} tokens, read by {manifest.long}"
        )
        yield (
            "Cut" if longer == "cut" else "Not wholly read",
            f"{counted(overall[0]['truncated'], 'document')} at {manifest.max_length} tokens",
        )
    yield (
        "Classes",
        ", ".join(manifest.labels[:20])
        + (f" and {len(manifest.labels) - 20} more" if len(manifest.labels) > 20 else ""),
    )
    if labelled:
        correct, total = overall[0]["correct"], overall[0]["labelled"]
        low, high = wilson(correct, total)
        yield (
            "Accuracy",
            f"{correct / total:.4f} ({correct:,} of {total:,}), 95 % interval {low:.3f} to {high:.3f}",
        )
    elif not manifest.labels_are_models:
        yield "Accuracy", "not reported: the data has no labels, or they are not the model's classes"
    else:
        yield "Accuracy", "none: no document has a label"


def _details(store: Store) -> Iterator[tuple[str, str]]:
    """The run's identifying details."""
    manifest = store.manifest
    yield "created", manifest.created
    yield "sealed", manifest.sealed or "not yet"
    for reduction in manifest.reductions:
        yield f"reduction {reduction.name}", reduction.meaning
    for name, value in manifest.fingerprint.items():
        yield f"fingerprint {name}", str(value)
    for name, value in manifest.versions.items():
        yield f"version {name}", value
    for reason, count in manifest.rejected.items():
        yield "left out", f"{reason}: {counted(count, 'row')}"
    for note in manifest.notes:
        yield "note", note
    for addition in manifest.additions:
        yield "appended", f"{counted(addition.documents, 'document')} of {addition.data}, {addition.sealed}"
        for reason, count in addition.rejected.items():
            yield "left out", f"{reason}: {counted(count, 'row')} of {addition.data}"
        for note in addition.notes:
            yield "note", f"{addition.data}: {note}"


def _in_short(figures: Sequence[Figure]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """By class: (description, words), for the words attended to most, for and against, as far as they were asked."""
    found: dict[str, dict[str, list[str]]] = {}
    for figure in figures:
        if figure.drawn is None or figure.name not in ("top_words_by_class", "for_and_against"):
            continue
        for row in figure.drawn.table.to_pylist():
            said = _SAID[row.get("side")]
            words = found.setdefault(str(row["class"]), {}).setdefault(said, [])
            if len(words) < _IN_SHORT:
                words.append(row["word"])
    return [(name, list(of.items())) for name, of in list(found.items())[:_CLASSES_WITH_DOCUMENTS]]


def _has_labels(store: Store, connect: Connect) -> bool:
    confusion = ask(store, find_questions()["confusion"], connect=connect)
    return any(label is not None for label in confusion.column("label").to_pylist())


def _words(
    store: Store, reduction: str | None, shown: Sequence[str], connect: Connect
) -> list[tuple[str, Any]]:
    """(word, card) for these words: counts and lifts by class and layer, signed scores by class, and contexts.

    A list, because a word may be the name of a property that objects already have.
    """
    if reduction is None or not shown:
        return []
    profile = ask(
        store,
        find_questions()["layer_profile"],
        {"words": list(shown), "reduction": reduction},
        connect=connect,
    )
    cards: dict[str, dict[str, Any]] = {word: {"classes": {}, "contexts": [], "scores": []} for word in shown}
    for row in profile.to_pylist():
        of_class = cards[row["word"]]["classes"].setdefault(
            visible_line(row["class"]), [row["documents"], row["occurrences"], []]
        )
        of_class[2].append([_three(row["lift"]), _three(row["low"]), _three(row["high"])])
    for row in contexts_of(store, shown, {"reduction": reduction}, each=2, connect=connect):
        left, right = (" ".join(visible(row[side]).split()) for side in ("left", "right"))
        cards[row["word"]]["contexts"].append(
            [
                visible_line(row["class"]),
                visible_line(row["id"]),
                left,
                visible_line(row["keyword"]),
                right,
                _three(row["lift"]),
            ]
        )
    with connect(store, NOTHING, ()) as connection:
        scores = signed_scores(store, connection, shown)
    for word, by_class in scores.items():
        cards[word]["scores"] = [
            (column, [_three(by_class.get(name, {}).get(column)) for name in store.manifest.labels])
            for column in next(iter(by_class.values()))
        ]
    return [
        (visible_line(word), {**card, "classes": list(card["classes"].items())})
        for word, card in cards.items()
    ]


def _leading(figures: Sequence[Figure]) -> list[str]:
    """The words of the figures: the first word of each class of each figure first, and so on."""
    ranked: dict[str, int] = {}
    for figure in figures:
        table = figure.drawn.table if figure.drawn else pa.table({})
        if "word" not in table.column_names or not {"class", "label"} & set(table.column_names):
            continue
        of = "class" if "class" in table.column_names else "label"
        places: dict[Any, int] = {}
        for row in table.select([of, "word"]).to_pylist():
            place = places[row[of]] = places.get(row[of], 0) + 1
            if row["word"] is not None and place <= 60:
                ranked[row["word"]] = min(place, ranked.get(row["word"], place))
    return sorted(ranked, key=lambda word: ranked[word])


def _three(value: float | None) -> float | None:
    """Three digits."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.3g}")


def _groups(
    store: Store, reduction: str | None, labelled: bool, connect: Connect
) -> list[tuple[str, str, list[int]]]:
    """(title, how they were chosen, numbers) for the documents to look at."""
    of = {} if reduction is None else {"reduction": reduction}
    groups = []
    if reduction is not None and labelled:
        wrong = certain_documents(store, sort="certain", outcome="wrong", limit=6, connect=connect, **of)
        groups.append(("Most confident mistakes", "predicted wrongly with the largest margin", wrong))
    if reduction is not None:
        least = certain_documents(store, sort="uncertain", outcome="any", limit=4, connect=connect, **of)
        groups.append(("Least certain", "the two most likely classes are almost equally likely", least))
    middle = "not predicted wrongly, and nearest to the middle in length and probability"
    typical = list(typical_documents(store, 3, connect).items())
    order = {label: place for place, label in enumerate(store.manifest.labels)}
    typical.sort(key=lambda item: order[item[0]])
    groups += [
        (f"Typical, predicted {name}", middle, numbers) for name, numbers in typical[:_CLASSES_WITH_DOCUMENTS]
    ]
    return [group for group in groups if group[2]]


def _documents(
    store: Store, groups: Sequence[tuple[str, str, list[int]]], connect: Connect
) -> list[tuple[int, dict[str, Any]]]:
    """(number, what the page draws) for every document in the groups."""
    numbers = sorted({number for _, _, those in groups for number in those})
    return [
        (row["document"], _document(store, row, tokens))
        for row, tokens in documents_with_tokens(store, numbers, connect)
    ]


def _document(store: Store, row: Mapping[str, Any], tokens: pa.Table) -> dict[str, Any]:
    """A document in paragraphs: (the line above, 1 if the model did not read it, pieces of text with their tokens).

    `values`: per reduction and layer, every token's lift, attention × length, or its value if signed.
    """
    none = pa.nulls(tokens.num_rows, pa.float64())
    bare = tokens.append_column("attention", none).append_column("lift", none)
    shaded = ShadedDocument(
        id=row["id"], text=row["text"], label=row["label"], prediction=row["prediction"],
        probability=row["probability"], reduction="", layer="", truncated=row["truncated"], tokens=bare,
        labels_are_models=store.manifest.labels_are_models, text_pair=row["text_pair"],
    )  # fmt: skip
    rows = bare.to_pylist()
    values = [
        [
            [
                None if value is None else _three(value if reduction.signed else value * row["length"])
                for value in tokens.column(column).to_pylist()
            ]
            for column in reduction.columns(store.manifest.layers)
        ]
        for reduction in store.manifest.reductions
        if not reduction.per_head
    ]
    return {
        "id": visible_line(row["id"]),
        "label": None if row["label"] is None else visible_line(row["label"]),
        "prediction": visible_line(row["prediction"]),
        "probability": _three(row["probability"]),
        "length": row["length"],
        "truncated": row["truncated"],
        "paragraphs": [
            [
                captions.above(stretch, number),
                int(stretch.unread),
                [[visible(piece.text), list(piece.rows)] for piece in stretch.segments],
            ]
            for number in range(len(shaded.texts))
            for stretch in stretches(shaded, rows, number)
        ],
        "tokens": [visible_line(token) for token in tokens.column("token").to_pylist()],
        "words": [None if word is None else visible_line(word) for word in tokens.column("word").to_pylist()],
        "special": [number for number, special in enumerate(tokens.column("special").to_pylist()) if special],
        "values": values,
    }
