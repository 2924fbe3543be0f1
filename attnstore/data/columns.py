"""Which columns of a table hold the text, the label, the id, the group and the split.

Columns are found by the names that the user gives, else by usual names, else, in a table without a header, by their
content. Each guess is reported; an ambiguous table is refused, naming the option that settles it.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from attnstore.config import SourceConfig
from attnstore.errors import UsageError
from attnstore.messages import listed, one_line, quoted, similar

TEXT_COLUMNS = (
    "text", "review", "sentence", "body", "content", "comment", "document", "review_text", "review_body",
    "comment_text", "message", "tweet", "tweet_text", "post", "article", "description",
)  # fmt: skip
#: Names before numbers: data sets with both have the names in `label_text`.
LABEL_COLUMNS = (
    "label_text", "label_name", "label", "sentiment", "class", "category", "target", "stars", "rating", "polarity",
    "labels", "annotation",
)  # fmt: skip
ID_COLUMNS = ("id", "idx", "guid", "uid", "doc_id", "document_id", "review_id", "text_id")
GROUP_COLUMNS = ("group",)
#: What an annotator answers in Prodigy.
_ANSWERS = frozenset(("accept", "reject", "ignore"))
#: Names of the two texts of a pair.
_PAIRS = (
    ("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"), ("text1", "text2"),
    ("sentence_a", "sentence_b"), ("text_a", "text_b"), ("query", "passage"), ("question", "passage"),
    ("question", "sentence"), ("query", "document"), ("headline", "body"),
)  # fmt: skip
#: Names of the two texts of a pair of which only the second looks like the text.
_PARTNERS = {
    "question": "sentence",
    "query": "document",
    "title": "text",
    "context": "sentence",
    "headline": "body",
}
#: Characters of scripts without spaces between words: Chinese, Japanese, Thai, Lao, Burmese, Khmer.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
USUAL_COLUMNS = frozenset((*TEXT_COLUMNS, *LABEL_COLUMNS, *ID_COLUMNS, *GROUP_COLUMNS))


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns to read. Several `texts` are joined with a space, in this order, or are a pair.

    `kept` are those whose values are stored with the documents.
    """

    texts: tuple[str, ...]
    label: str | None
    id: str | None
    group: str | None
    answer: str | None  # Prodigy's: whether the annotator accepted the row
    split: str | None
    kept: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[str | None]:
        return iter((*self.texts, self.label, self.id, self.group, self.answer, self.split, *self.kept))


Values = tuple[object, ...]  # in the order of `Columns`


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows from a table's beginning, as texts. `headed`: its columns have names."""

    rows: Sequence[Sequence[str | None]]
    headed: bool = True

    def column(self, place: int) -> list[str]:
        """The cells of a column that are not empty."""
        return [cell for row in self.rows if place < len(row) and (cell := row[place]) and cell.strip()]


def is_number(cell: str) -> bool:
    """Whether a cell is a number."""
    try:
        return math.isfinite(float(cell)) and "_" not in cell
    except ValueError:
        return False


def words_in(text: str) -> int:
    """About how many words a text has; in scripts without spaces between words, two characters count as one."""
    return max(len(text.split()), len(_UNSPACED.findall(text)) // 2 if not text.isascii() else 0)


def is_prose(cells: Sequence[str]) -> bool:
    """Whether most cells are running text: several words, mostly of letters, and hardly any twice."""
    if not cells:
        return False
    running = sum(
        words_in(cell) >= 4 and sum(map(str.isalpha, cell)) >= 0.6 * len("".join(cell.split()))
        for cell in cells
    )
    return running >= len(cells) / 2 and len(set(cells)) >= len(cells) / 2


def choose_columns(
    name: str,
    found: Sequence[str],
    config: SourceConfig,
    notes: list[str],
    *,
    taken: bool = False,
    sample: Sample,
    classes: frozenset[str] = frozenset(),
) -> Columns:
    """Which of the columns `found` in the table `name` to read; each guess is added to `notes`.

    `taken`: the table's split is known without a column; `classes` are columns whose numbers are classes according to
    the data set. Raises UsageError if a named column does not exist, or if no column looks like the text.
    """
    choice = _Choice(name, list(found), config, sample, notes)
    texts = choice.pair() if config.pair else choice.texts()
    label, id_, group = map(choice.option, ("label", "id", "group"))
    if sample.headed:
        texts = texts or (_text_by_content(choice, [label, id_, group]),)
        label = label if label is not None else _usual_label(choice, texts, classes)
        id_ = id_ if id_ is not None else choice.usual("id", ID_COLUMNS)
        group = group if group is not None else choice.usual("group", GROUP_COLUMNS)
    else:
        texts = texts or (_text_by_content(choice, [label, id_, group]),)
        label, id_ = _label_and_id_by_content(choice, texts, label, id_)
    if label in texts:
        raise UsageError(
            f"the column {quoted(str(label))} can't be both the text and the label (--label-column)"
        )
    if label is None:
        notes.append(_no_label(choice, [*texts, id_, group]))
    used = [*texts, label, id_, group]
    taken = taken or not sample.headed or any(same([each], "split") for each in used if each)
    split = None if taken else choice.usual("split", ("split",))
    kept = tuple(choice.named("keep", wanted) for wanted in config.keep)
    if config.text_column is None:
        notes += _texts_left_out(choice, texts, [*used, split, *kept])
    return Columns(texts, label, id_, group, _answer(choice), split, kept)


@dataclass(frozen=True, slots=True)
class _Choice:
    """The basis of the choice: a table's columns, what the user says about them, and a sample of their cells."""

    name: str
    found: list[str]
    config: SourceConfig
    sample: Sample
    notes: list[str]

    def cells(self, column: str) -> list[str]:
        return self.sample.column(self.found.index(column))

    def named(self, what: str, wanted: str) -> str:
        """A column by its name, else by its position, from 1."""
        fitting = [each for each in self.found if each == wanted] or same(self.found, wanted)
        if not fitting and wanted.strip().isdecimal() and 1 <= int(wanted) <= len(self.found):
            fitting = [self.found[int(wanted) - 1]]
        if not fitting:
            raise UsageError(
                f"{one_line(self.name)} has no column {quoted(wanted)} (--{what}-column), it has {listed(self.found)}"
                f"{similar(wanted, self.found)}"
            )
        return self._only(fitting)

    def usual(self, what: str, names: Sequence[str]) -> str | None:
        """The column with the most usual of these names."""
        flat = [each for each in self.found if not self.is_object(each)]
        fitting = next(filter(None, (same(flat, each) for each in names)), None)
        if fitting is None and what in ("text", "label"):
            fitting = self.inside(names)
        if fitting is None:
            return None
        self.notes.append(f"{what} column detected: {quoted(fitting[0])}")
        return self._only(fitting)

    def is_object(self, column: str) -> bool:
        """Whether a column has only objects, whose keys are columns, too."""
        below = (f"{column}.", f"{column}[].")
        return any(each.startswith(below) for each in self.found) and not self.cells(column)

    def option(self, what: str) -> str | None:
        """The column that the user names."""
        wanted: str | None = getattr(self.config, f"{what}_column")
        return None if wanted is None else self.named(what, wanted)

    def texts(self) -> tuple[str, ...]:
        """The text columns that the user names, or that have a usual name; empty if there are none."""
        wanted = self.config.text_column
        if wanted is None:
            text = self.usual("text", TEXT_COLUMNS) if self.sample.headed else None
            return () if text is None else (text,)
        parts = [wanted] if wanted in self.found or "," not in wanted else wanted.split(",")
        return tuple(self.named("text", part) for part in parts)

    def pair(self) -> tuple[str, ...]:
        """The two columns that the user names. Raises UsageError if they are not two."""
        if self.config.text_column is None:
            likely = _likely_pair(self)
            hint = f": they may be --text-column {','.join(likely)}" if likely else ""
            raise UsageError(
                f"--pair reads two columns: name them with --text-column A,B; {one_line(self.name)} has"
                f" {listed(self.found)}{hint}"
            )
        texts = self.texts()
        if len(texts) != 2 or texts[0] == texts[1]:
            named = f"the column {quoted(texts[0])} twice" if len(set(texts)) < len(texts) else listed(texts)
            raise UsageError(f"--pair reads two columns, and --text-column names {named}: name two, as A,B")
        for text in texts:
            if any(same([text], name) for name in LABEL_COLUMNS):
                self.notes.append(
                    f"the column {quoted(text)} is read as a text of the pair, not as the label"
                )
        return texts

    def inside(self, names: Sequence[str]) -> list[str] | None:
        """The only path into an object whose last key is one of these names; None if there are two or none."""
        paths = [each for each in self.found if "." in each and "[]" not in each]
        for name in names:
            if fitting := [each for each in paths if same([each.rpartition(".")[2]], name)]:
                return fitting if len(fitting) == 1 else None
        if "label" not in names:
            return None
        # An object or a list of objects with such a name: one of its keys has the value.
        for name in names:
            fitting = [each for each in paths if same([each.partition(".")[0]], name)]
            if len(fitting) == 1:
                return fitting
        # Label Studio's, which keeps the choices of each annotator; doccano's first version; Prodigy's choices.
        for name in ("[].value.choices", "annotations[].label"):
            fitting = [each for each in self.found if each.endswith(name)]
            if len(fitting) == 1 and not any(each.endswith("[].start_offset") for each in self.found):
                return fitting
        return same(self.found, "accept") if same(self.found, "options") and _answer(self) else None

    def _only(self, fitting: Sequence[str]) -> str:
        if len(fitting) > 1:
            raise UsageError(
                f"{one_line(self.name)} has {len(fitting)} columns called {quoted(fitting[0])}: rename one"
            )
        return fitting[0]


def _text_by_content(choice: _Choice, known: Sequence[str | None]) -> str:
    """The only column with running text, or by far the longest one. Raises UsageError if there are two or none."""
    free = [each for each in choice.found if each not in known]
    prose = [each for each in free if is_prose(choice.cells(each))]
    if len(prose) < 2:
        prose = list(_named_pair(free)) or prose
    if len(prose) > 1:
        also = "with --pair beside that" if len(prose) == 2 else "with --text-column A,B --pair"
        raise UsageError(
            f"{one_line(choice.name)} has {len(prose)} columns that hold texts ({listed(prose)}): name one with"
            f" --text-column, or join them with --text-column {','.join(prose)}; {also} the model reads two as a"
            " pair"
        )
    sizes = {
        each: sum(map(len, cells)) / max(1, len(cells))
        for each in free
        if (cells := choice.cells(each)) or True
    }
    longest = prose or sorted(free, key=lambda each: -sizes[each])
    is_clear = prose or len(longest) == 1 or (longest and sizes[longest[0]] >= 2 * sizes[longest[1]])
    if not is_clear or (choice.sample.headed and not prose and len(choice.found) > 1):
        raise UsageError(
            f"{one_line(choice.name)} has no column that looks like text (it has {listed(choice.found)}):"
            " use --text-column"
        )
    text = longest[0]
    choice.notes.append(
        f"text column detected: {quoted(text)}, the only one with running text"
        if choice.sample.headed
        else f"{one_line(choice.name)} has no header: its column {text} was taken for the text"
    )
    return text


def _named_pair(columns: Sequence[str]) -> tuple[str, ...]:
    """The two columns with usual names for the two texts of a pair; empty if there are none."""
    for names in _PAIRS:
        first, second = (same(columns, name) for name in names)
        if first and second:
            return first[0], second[0]
    return ()


def _likely_pair(choice: _Choice) -> tuple[str, ...]:
    """Two columns that may be a pair: by their names, else the only two with running text."""
    if named := _named_pair(choice.found):
        return named
    prose = tuple(each for each in choice.found if is_prose(choice.cells(each)))
    return prose if len(prose) == 2 else ()


def _usual_label(choice: _Choice, texts: Sequence[str], classes: frozenset[str]) -> str | None:
    """The column with a label's usual name, unless it has many different numbers."""
    label = choice.usual("label", [each for each in LABEL_COLUMNS if not same(texts, each)])
    if label is None or label in classes or _may_be_labels(choice.cells(label), len(choice.sample.rows)):
        return label
    choice.notes[-1] = (
        f"column {quoted(label)} holds fractions, or too many different numbers for classes: it was not taken for the"
        f" label; --label-column {label} reads it anyway"
    )
    return None


def _label_and_id_by_content(
    choice: _Choice, texts: Sequence[str], label: str | None, id_: str | None
) -> tuple[str | None, str | None]:
    """For a table without a header: the only column whose values repeat, and the only one whose values never do."""
    rest = [each for each in choice.found if each not in (*texts, label, id_)]
    classes = _class_like(choice, rest)
    if label is None and len(classes) == 1:
        label = classes[0]
        choice.notes.append(f"its column {label} was taken for the label")
    rows = len(choice.sample.rows)
    unique = [
        each for each in rest
        if each not in classes and rows > 1 and len(set(choice.cells(each))) == rows
        and sum(len(cell.split()) > 1 for cell in choice.cells(each)) < rows / 10  # a title is not an id
    ]  # fmt: skip
    if id_ is None and len(unique) == 1:
        id_ = unique[0]
        choice.notes.append(f"its column {id_} was taken for the id")
    return label, id_


def _class_like(choice: _Choice, columns: Sequence[str]) -> list[str]:
    """The columns with few different values, each of which may be a class."""
    found = []
    for column in columns:
        cells = choice.cells(column)
        different = len(set(cells))
        most = len(cells) / (2 if _are_counted(cells) else 4)
        if 1 < different <= max(2, most) and different < len(cells):
            found += [column] if _may_be_labels(cells, len(choice.sample.rows)) else []
    return found


def _are_counted(cells: Sequence[str]) -> bool:
    """Whether the cells are the whole numbers from 0 or 1 on, without gaps."""
    if not all(cell.strip().isdecimal() for cell in cells):
        return False
    numbers = {int(cell) for cell in cells}
    return numbers in (set(range(len(numbers))), set(range(1, len(numbers) + 1)))


def _may_be_labels(cells: Sequence[str], rows: int) -> bool:
    """Whether a column may have classes: words, or few whole numbers."""
    numbers = {float(cell) for cell in cells if is_number(cell)}
    if not cells or len(numbers) < len(set(cells)) / 2:
        return True
    return all(number.is_integer() for number in numbers) and len(numbers) <= max(20, rows / 10)


def _no_label(choice: _Choice, others: Sequence[str | None]) -> str:
    likely = _class_like(choice, [each for each in choice.found if each not in others])
    hint = f"; --label-column {' or '.join(likely[:3])} may name it" if likely else ""
    return f"no column looks like the label (there are {listed(choice.found)}): the documents have none{hint}"


def _texts_left_out(choice: _Choice, texts: Sequence[str], used: Sequence[str | None]) -> list[str]:
    """The note, if any, that other columns also have texts."""
    chosen = [text.strip().casefold() for text in texts]
    others = [
        each for each in choice.found
        if each not in used
        and (
            is_prose(choice.cells(each)) or _PARTNERS.get(each.strip().casefold(), "") in chosen
            or (not choice.sample.headed and _are_titles(choice.cells(each)))
        )
    ]  # fmt: skip
    if not others:
        return []
    hold, are = ("holds", "is") if len(others) == 1 else ("hold", "are")
    joined = ",".join([others[0], *texts])
    pair = ", and with --pair the model reads both as a pair" if len(others) == 1 else ""
    return [
        f"{listed(others)} {hold} texts, too, and {are} not read: --text-column {joined} joins columns{pair}"
    ]


def _are_titles(cells: Sequence[str]) -> bool:
    """Whether most cells are a few words, and hardly any occurs twice."""
    words = sum(words_in(cell) > 1 and sum(map(str.isalpha, cell)) >= 0.6 * len(cell) for cell in cells)
    return words >= max(1, len(cells) / 2) and len(set(cells)) >= len(cells) / 2


def _answer(choice: _Choice) -> str | None:
    """Prodigy's column with the annotator's answer."""
    answers = same(choice.found, "answer")
    cells = choice.cells(answers[0]) if answers else []
    return answers[0] if cells and set(cells) <= _ANSWERS else None


def same(names: Sequence[str], name: str) -> list[str]:
    """The `names` that equal `name` except for case and outer blanks."""
    return [each for each in names if each.strip().casefold() == name.strip().casefold()]
