"""Tiny random classifiers of every family, with a real WordPiece tokenizer, saved as folders for tests."""

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = (
    "the a film movie was is not good bad great awful plot actor i it and but of to very never boring fun "
    "end start unwatch ##able lov ##ed ##ing ##s hat ##e ! . , ? ' < > / br"
).split()
CHARACTERS = [c for letter in "abcdefghijklmnopqrstuvwxyz0123456789" for c in (letter, f"##{letter}")]
VOCABULARY = {token: i for i, token in enumerate(dict.fromkeys([*SPECIAL, *WORDS, *CHARACTERS]))}

#: The names of the sizes in each family's config, if they differ from BERT's.
_RENAMED = {
    "distilbert": {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"},
    "xlm": {"hidden_size": "emb_dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"},
}
_EXTRA = {
    "albert": {"embedding_size": 16},
    "distilbert": {"hidden_dim": 64},
    "mobilebert": {"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "modernbert": {"local_attention": 8, "global_attn_every_n_layers": 3, "num_hidden_layers": 4},
    "eurobert": {"num_key_value_heads": 2},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "roc_bert": {"enable_pronunciation": False, "enable_shape": False},
    "rembert": {"input_embedding_size": 16},
    "deberta": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8},
    "roformer": {"embedding_size": 32},
}

ROUTED = [
    *(
        "bert",
        "roberta",
        "xlm-roberta",
        "camembert",
        "distilbert",
        "electra",
        "albert",
        "modernbert",
        "mobilebert",
    ),
    *(
        "ernie",
        "nomic_bert",
        "eurobert",
        "gte",
        "jina_embeddings_v3",
        "roberta-prelayernorm",
        "xmod",
        "roc_bert",
    ),
    "data2vec-text",
]
UNROUTED = ["deberta", "deberta-v2", "mpnet", "megatron-bert", "rembert", "roformer", "xlm"]


def tokenizer(max_length: int = 64) -> transformers.PreTrainedTokenizerFast:
    """An uncased WordPiece tokenizer that frames a text in [CLS] … [SEP], like BERT's."""
    backend = Tokenizer(models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(t, VOCABULARY[t]) for t in ("[CLS]", "[SEP]")]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_length,
    )


def settings(family: str, **changes: object) -> transformers.PretrainedConfig:
    sizes: dict[str, object] = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 80,
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "id2label": {0: "neg", 1: "pos"},
        "label2id": {"neg": 0, "pos": 1},
    }
    sizes |= _EXTRA.get(family, {}) | changes
    renamed = {_RENAMED.get(family, {}).get(name, name): value for name, value in sizes.items()}
    return transformers.AutoConfig.for_model(family, **renamed)


def save(folder: Path, family: str = "bert", *, seed: int = 0, **changes: object) -> Path:
    """Save a random classifier of a family, with weights so large that attention is far from uniform."""
    torch.manual_seed(seed)
    # MobileBERT has no layer norm to limit the effect of large weights: its scores would overflow the exponential.
    spread = 0.03 if family == "mobilebert" else 0.3
    model = transformers.AutoModelForSequenceClassification.from_config(settings(family, **changes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "norm" not in name.lower():
                parameter.normal_(0.0, spread)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
