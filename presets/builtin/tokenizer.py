"""The tokenizer: byte-level BPE, digits one by one, trained on the corpus."""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from chatml import END_OF_TEXT, IM_END, IM_START, TEMPLATE

# A space joins the small or capitalised word that follows, but never capitals, digits or other signs: a code such as
# KX-42 has the same tokens wherever it stands, which makes copying it easy.
SPLIT = (r"'(?:s|t|re|ve|m|ll|d)(?!\p{L})| ?\p{Lu}?[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|\p{Lu}+|\p{L}|\p{N}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def texts(corpus: Path, limit: int):
    with corpus.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number >= limit:
                return
            entry = json.loads(line)
            if "text" in entry:
                yield entry["text"]
            for message in entry.get("messages", []):
                yield message["role"] + "\n" + message["content"]


def train(corpus: Path, size: int, limit: int = 60_000) -> Tokenizer:
    """All 256 bytes are entries, so that any text survives the round trip."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[END_OF_TEXT, IM_START, IM_END], min_frequency=3,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(texts(corpus, limit), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True,
                                             normalized=False) for t in (END_OF_TEXT, IM_START, IM_END)])
    return tokenizer


def check(tokenizer: Tokenizer):
    """Any UTF-8 text comes back unchanged, and digits stand alone."""
    for text in ["", " ", "  two  spaces\n\n\ttab\r\n", "CANARY_OK x9k2", "naïve café – „quotes“ 数字 中文 🙂👩‍🚀 e\u0301",
                 "a\u0000b", "{\"a\": [1, 2]}",
                 "".join(map(chr, range(1, 0x250))), "ß ſ ﬁ İ \u2028 \ufeff"]:
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text, text
    assert [tokenizer.decode([i]) for i in tokenizer.encode("4711").ids] == list("4711")


def write_config(folder: Path, tokenizer: Tokenizer, positions: int):
    """tokenizer_config.json and chat_template.jinja, the template in both."""
    special = {str(tokenizer.token_to_id(t)): {"content": t, "lstrip": False, "normalized": False, "rstrip": False,
                                               "single_word": False,
                                               "special": True} for t in (END_OF_TEXT, IM_START, IM_END)}
    config = {"add_bos_token": False, "add_prefix_space": False, "added_tokens_decoder": special,
              "additional_special_tokens": [IM_START, IM_END], "bos_token": None, "chat_template": TEMPLATE,
              "clean_up_tokenization_spaces": False, "eos_token": IM_END, "model_max_length": positions,
              "pad_token": END_OF_TEXT,
              "tokenizer_class": "PreTrainedTokenizerFast", "unk_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
