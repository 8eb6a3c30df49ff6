"""Which word pieces are masked, how, and what naming them costs."""

import clinical  # noqa: F401
from clinical.errors import ConfigError
from clinical.modalities.wordpiece import SPECIAL, build
from clinical.objectives.tokens import MaskedTokens

import pytest
import torch
from tokenizers import Tokenizer
from torch import nn


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class SizedModel:
    """Sizes alone, and a table to share where one is given."""

    width = 16
    frozen = ()
    encoder_widths = {"notes": 8}  # noqa: RUF012

    def __init__(self, sizes: dict[str, dict[str, int]], table: nn.Embedding | None) -> None:
        self.sizes, self._table = sizes, table

    def embedding_table(self, modality: str) -> nn.Embedding | None:
        return self._table


def test_special_pieces_and_padding_are_never_chosen(synthetic):
    batch = synthetic.make_batch(60)
    masked, hidden = MaskedTokens(synthetic.make_model(), share=1.0).hide(batch, draws())
    notes = batch.inputs["notes"]
    words = notes.mask & (notes.ids >= 5)
    assert torch.equal(hidden.chosen, words)
    assert torch.equal(masked.inputs["notes"].ids[~words], notes.ids[~words])


def test_most_of_the_chosen_are_masked_some_random_and_some_kept(synthetic):
    batch = synthetic.make_batch(3000)
    masked, hidden = MaskedTokens(synthetic.make_model()).hide(batch, draws())
    notes = batch.inputs["notes"]
    words = notes.mask & (notes.ids >= 5)
    ids = masked.inputs["notes"].ids[hidden.chosen]
    was = notes.ids[hidden.chosen]
    assert float(hidden.chosen.sum() / words.sum()) == pytest.approx(0.15, abs=0.01)
    assert float((ids == 4).float().mean()) == pytest.approx(0.8, abs=0.03)
    # One random word in 35 is the word itself.
    assert float((ids == was).float().mean()) == pytest.approx(0.1 + 0.1 / 35, abs=0.02)
    random = ids[(ids != 4) & (ids != was)]
    assert random.min() == 5
    assert random.max() == 39


def test_what_phrases_say_does_not_reach_the_loss(synthetic):
    model = synthetic.make_model()
    objective = MaskedTokens(model)
    masked, hidden = objective.hide(synthetic.make_batch(20), draws())
    notes = masked.inputs["notes"]
    other = masked.replace(notes=notes.replace(phrases=notes.phrases + 5.0))
    losses = [objective.loss(model(batch), hidden).total for batch in (masked, other)]
    assert losses[0] == losses[1]


def test_the_loss_is_the_mean_surprise_at_the_chosen_pieces(synthetic):
    model = synthetic.make_model()
    objective = MaskedTokens(model)
    masked, hidden = objective.hide(synthetic.make_batch(), draws())
    outputs = model(masked)
    table = model.embedding_table("notes") or objective.own_embedding
    surprises = []
    for row, place in torch.nonzero(hidden.chosen).tolist():
        state = outputs.encodings["notes"].states[row, place]
        logits = table.weight @ objective.transform(objective.norm(state)) + objective.bias
        surprises.append(-logits.log_softmax(0)[hidden.ids[row, place]])
    assert len(surprises) > 1
    torch.testing.assert_close(objective.loss(outputs, hidden).total, torch.stack(surprises).mean())


def test_words_are_named_by_the_encoders_own_table_where_there_is_one(synthetic):
    table = nn.Embedding(40, 8)
    objective = MaskedTokens(SizedModel(synthetic.SIZES, table))
    assert "own_embedding.weight" not in objective.state_dict()
    assert all(parameter is not table.weight for parameter in objective.parameters())
    own = MaskedTokens(SizedModel(synthetic.SIZES, None))
    assert own.own_embedding.weight.shape == (40, 8)


def test_shares_that_add_to_more_than_one_are_refused(synthetic):
    with pytest.raises(ConfigError, match="add to more than 1"):
        MaskedTokens(synthetic.make_model(), random=0.6, kept=0.5)


PIECES = [
    *SPECIAL.values(),
    *(f"w{number}" for number in range(15)),
    *(f"##c{number}" for number in range(19)),
    ".",
]
"""40 pieces: 5 of no text, 15 that begin a word, 19 that continue one, and a full stop."""


def told(model, **options) -> MaskedTokens:
    """The objective, told of 40 pieces of which half continue a word."""
    objective = MaskedTokens(model, **options)
    tokenizer: Tokenizer = build({piece: number for number, piece in enumerate(PIECES)})
    statistics = {"tokenizer": tokenizer.to_str(), "special_pieces": [0, 1, 2, 3, 4, 9]}
    objective.use_statistics({"notes": statistics})
    return objective


def words_by_hand(ids: list[int]) -> list[list[int]]:
    """The places of each word of a row of ids; piece 9 is no text here."""
    found: list[list[int]] = []
    previous = 0
    for place, piece in enumerate(ids):
        if piece >= 5 and piece != 9:
            goes_on = 20 <= piece < 39 and previous >= 5 and previous not in (9, 39)
            found[-1].append(place) if goes_on else found.append([place])
        previous = piece
    return found


def test_the_pieces_of_a_word_are_hidden_together(synthetic):
    batch = synthetic.make_batch(300)
    objective = told(synthetic.make_model(), share=0.4)
    masked, hidden = objective.hide(batch, draws())
    notes = batch.inputs["notes"]
    several = 0
    for row in range(len(notes.ids)):
        length = int(notes.mask[row].sum())
        ids, chosen = notes.ids[row, :length], hidden.chosen[row, :length]
        now = masked.inputs["notes"].ids[row, :length]
        words = words_by_hand(ids.tolist())
        assert set(torch.nonzero(chosen)[:, 0].tolist()) <= {p for word in words for p in word}
        for word in words:
            assert len(set(chosen[word].tolist())) == 1
            # One fate: all masked, all random, or all as they were.
            masks = now[word] == 4
            assert bool(masks.all()) or not bool(masks.any())
            several += len(word) > 1 and bool(chosen[word].all())
    assert several > 50


def test_the_share_is_of_the_pieces_in_expectation_however_long_the_words(synthetic):
    batch = synthetic.make_batch(4000)
    _, hidden = told(synthetic.make_model()).hide(batch, draws())
    notes = batch.inputs["notes"]
    text = notes.mask & (notes.ids >= 5) & (notes.ids != 9)
    assert not hidden.chosen[~text].any()
    assert float(hidden.chosen.sum() / text.sum()) == pytest.approx(0.15, abs=0.012)


def test_random_pieces_are_text(synthetic):
    masked, hidden = told(synthetic.make_model(), share=1.0, random=1.0, kept=0.0).hide(
        synthetic.make_batch(300), draws()
    )
    drawn = set(masked.inputs["notes"].ids[hidden.chosen].tolist())
    assert drawn == set(range(5, 40)) - {9}


def test_what_is_hidden_hangs_on_the_generator_alone(synthetic):
    objective, batch = told(synthetic.make_model()), synthetic.make_batch(60)
    torch.manual_seed(1)
    one = objective.hide(batch, draws(5))[0].inputs["notes"].ids
    torch.manual_seed(2)
    same = objective.hide(batch, draws(5))[0].inputs["notes"].ids
    other = objective.hide(batch, draws(6))[0].inputs["notes"].ids
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_notes_that_were_encoded_before_are_refused(synthetic):
    batch = synthetic.make_batch()
    notes = batch.inputs["notes"]
    encoded = batch.replace(notes=notes.replace(encoded=torch.zeros(len(notes.ids), 3)))
    with pytest.raises(ConfigError, match="were encoded before"):
        MaskedTokens(synthetic.make_model()).hide(encoded, draws())


def test_a_frozen_encoder_of_notes_is_refused(synthetic):
    model = SizedModel(synthetic.SIZES, None)
    model.frozen = ("notes",)
    with pytest.raises(ConfigError, match="notes is frozen and learns nothing"):
        MaskedTokens(model)
