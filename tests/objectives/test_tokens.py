"""Which word pieces are masked, how, and what naming them costs."""

import clinical  # noqa: F401
from clinical.errors import ConfigError
from clinical.objectives.tokens import MaskedTokens

import pytest
import torch
from torch import nn


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class SizedModel:
    """Sizes alone, and a table to share where one is given."""

    width = 16
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
