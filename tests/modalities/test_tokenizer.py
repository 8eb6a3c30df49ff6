from clinical.errors import ConfigError
from clinical.modalities.tokenizer import (
    continues,
    leading,
    parse,
    plain,
    special_ids,
    special_pieces,
)
from clinical.modalities.wordpiece import SPECIAL, build, train

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, models

COUNTS = {"dyspnea": 40, "dyspneic": 30, "edema": 25, "mild": 20, "no": 60, "ödem": 2}


def test_what_looks_like_a_special_piece_in_a_note_is_text() -> None:
    trained = train(COUNTS, vocabulary=400)
    for tokenizer in (trained, parse(trained.to_str(), where="x")):
        special = special_ids(tokenizer)
        ids = tokenizer.encode("[MASK] [SEP] [PAD]").ids
        assert special["mask"] not in ids
        assert special["pad"] not in ids
        assert ids.count(special["sep"]) == 1


def test_a_declared_special_piece_of_given_weights_is_text_as_well(tmp_path) -> None:
    tokenizer = build({piece: number for number, piece in enumerate(SPECIAL.values())})
    tokenizer.add_special_tokens(["[MASK]"])
    assert special_ids(tokenizer)["mask"] in tokenizer.encode("[MASK]").ids
    parsed = parse(tokenizer.to_str(), where="tokenizer.json")
    assert special_ids(parsed)["mask"] not in parsed.encode("[MASK]").ids


def test_special_pieces_of_a_trained_tokenizer_come_first() -> None:
    tokenizer = train(COUNTS, vocabulary=400)
    roles = special_ids(tokenizer)
    assert roles == {"pad": 0, "unknown": 1, "cls": 2, "sep": 3, "mask": 4}
    assert special_pieces(tokenizer, roles) == [0, 1, 2, 3, 4]
    assert leading([0, 1, 2, 3, 4]) == 5


def test_special_pieces_may_stand_anywhere_and_bear_other_names() -> None:
    names = ["<s>", "<pad>", "</s>", "pain", "<unk>", "<mask>", "[unused7]", "<extra>", "[unused]"]
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    tokenizer.add_special_tokens([AddedToken("<extra>", special=True)])
    roles = special_ids(tokenizer)
    assert roles == {"pad": 1, "unknown": 4, "cls": 0, "sep": 2, "mask": 5}
    assert special_pieces(tokenizer, roles) == [0, 1, 2, 4, 5, 6, 7]
    assert special_pieces(tokenizer, roles, size=11) == [0, 1, 2, 4, 5, 6, 7, 9, 10]
    assert leading([0, 1, 2, 4, 5, 6, 7]) == 3
    assert leading([5, 6]) == 0
    assert special_ids(tokenizer, names={"cls": "<extra>"})["cls"] == 7


def test_a_piece_after_two_hashes_continues_its_word() -> None:
    names = [*SPECIAL.values(), "pain", "##s", "##", "#", "."]
    tokenizer = build({name: i for i, name in enumerate(names)})
    assert np.flatnonzero(continues(tokenizer)).tolist() == [names.index("##s")]
    assert continues(tokenizer, size=64).shape == (64,)


@pytest.mark.parametrize("text", ["Mild dyspnoea,\nno oedema (12/8); café.", "pains\tand aches"])
def test_words_of_bytes_begin_with_a_blank_or_a_mark(byte_level, text) -> None:
    encoded = byte_level.encode(text, add_special_tokens=False)
    table = continues(byte_level)
    starts = [0, *(i for i, number in enumerate(encoded.ids) if i and not table[number])]
    begun = [encoded.offsets[i][0] for i in starts]
    # Every blank and every mark begins something; within a word nothing does.
    marks = [i for i, c in enumerate(text) if not c.isalnum()]
    assert set(begun) <= {0, *marks, *(i + 1 for i in marks)}
    assert {i for i in marks if not text[i].isspace()} <= {*begun, *(i + 1 for i in begun)}
    assert not table[
        [i for i, t in byte_level.get_added_tokens_decoder().items() if t.special]
    ].any()


def test_a_piece_is_read_without_its_marks() -> None:
    assert [plain(piece) for piece in ("##12", "Ġ12", "▁12", "12")] == ["12"] * 4


def test_a_tokenizer_that_is_none_or_not_bert_like_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"statistics.json: is not a tokenizer"):
        parse("{}", where="statistics.json")
    with pytest.raises(ConfigError, match=r"lacks \[CLS\], \[SEP\]"):
        build({"[PAD]": 0, "[UNK]": 1, "[MASK]": 2})
