"""Facts about each architecture, stated once: its positions, what can be left out after its last attention, where its
attention's output goes, and what follows its linear layers. Families that are not listed also work, in one of the
slower ways.
"""

from typing import Any

import numpy as np
from torch import nn

#: Families whose learned positions start after the padding index, as in fairseq. A test compares the list with the
#: sources of transformers, because no field of a config says it.
BEHIND_PADDING = frozenset(
    ("camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet",
     "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod")
)  # fmt: skip

_BERT_LAYER = "encoder.layer.*.attention.output"

#: The module of a packable family, below its base model, whose inputs in the last layer (`*`: the last of a list) can
#: be cut to the rows that the head reads: the first module after the attention that gets everything that continues from
#: there.
CUT = {
    "bert": _BERT_LAYER,
    "roberta": _BERT_LAYER,
    "xlm-roberta": _BERT_LAYER,
    "camembert": _BERT_LAYER,
    "electra": _BERT_LAYER,
    "ernie": _BERT_LAYER,
    "albert": "encoder.albert_layer_groups.*.albert_layers.*.attention.LayerNorm",
    "distilbert": "transformer.layer.*.sa_layer_norm",
    "modernbert": "final_norm",
}

#: The endings of the names of a family's output projections, the linear layers that read the heads' outputs side by
#: side. Then those of the linear layers that make the values, for models that compute attention themselves and so do
#: not expose values.
PROJECTIONS = {
    **dict.fromkeys(
        ("bert", "roberta", "xlm-roberta", "camembert", "electra", "ernie", "roc_bert", "data2vec-text", "xmod",
         "roberta-prelayernorm", "mobilebert", "megatron-bert", "rembert", "roformer", "deberta-v2"),
        "attention.output.dense",
    ),
    **dict.fromkeys(("nomic_bert", "gte", "jina_embeddings_v3", "eurobert"), "self_attn.o_proj"),
    "albert": "attention.dense",
    "distilbert": "attention.out_lin",
    "modernbert": "attn.Wo",
    "mpnet": "attn.o",
    "xlm": "out_lin",
}  # fmt: skip
VALUES = {
    **dict.fromkeys(("megatron-bert", "rembert", "roformer"), "self.value"),
    "deberta-v2": "self.value_proj",
    "mpnet": "attn.v",
    "xlm": "v_lin",
}

#: Within one module, by the name of a linear layer: the name of the activation that gets only its output.
ACTIVATIONS = {"dense": "intermediate_act_fn", "lin1": "activation", "ffn": "activation"}


def first_position(settings: Any) -> int:
    """The position of a document's first token, from the model's config."""
    if settings.model_type == "mpnet":
        return 2  # whatever the config's padding index is
    return int(settings.pad_token_id) + 1 if settings.model_type in BEHIND_PADDING else 0


def positions_of(ids: np.ndarray, settings: Any) -> np.ndarray:
    """(n,) int64: the position of each token of a document with these ids (n,).

    If positions start after the padding index, a padding token written in a text has padding's own position, and is
    not counted.
    """
    first = first_position(settings)
    if first == 0:
        return np.arange(len(ids))
    there = ids != first - 1
    return np.where(there, np.cumsum(there) + first - 1, first - 1)


def usable_positions(settings: Any) -> int | None:
    """How many tokens of a document have a position; None for a model without a position table."""
    table = getattr(settings, "max_position_embeddings", None)
    if not isinstance(table, int) or table <= 0:
        return None
    if settings.model_type == "esm" and settings.position_embedding_type == "rotary":
        return table
    return table - first_position(settings)


def reads_mean(settings: Any) -> bool:
    """Whether the head reads the mean of a document's states instead of that of [CLS]."""
    return getattr(settings, "classifier_pooling", "cls") == "mean"


def linears_called(model: nn.Module, ending: str) -> list[nn.Linear]:
    """The linear layers below `model` whose dotted names have these endings."""
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and f".{name}".endswith(f".{ending}")
    ]


def submodule(module: nn.Module, path: str) -> nn.Module:
    """The module at `path` below another; `*` is the last of a list."""
    for name in path.split("."):
        module = list(module.children())[-1] if name == "*" else module.get_submodule(name)
    return module
