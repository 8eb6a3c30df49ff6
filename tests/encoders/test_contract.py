"""What every encoder of the menu promises."""

import clinical  # noqa: F401
from clinical.config import keywords
from clinical.encoders import ENCODERS
from clinical.errors import ConfigError

import inspect
from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn


def assert_same(one, other, *, atol=1e-5):
    torch.testing.assert_close(one, other, rtol=0, atol=atol)


def everything(encoding) -> Tensor:
    """A scalar in which every output counts, each place differently."""
    draws = torch.Generator().manual_seed(1)
    parts = (encoding.summary, encoding.tokens, encoding.states)
    return sum((part * torch.randn(part.shape, generator=draws)).sum() for part in parts)


def loss_and_gradients(encoder, container) -> None:
    encoder.zero_grad()
    everything(encoder(container)).backward()


def test_shapes_and_types(case):
    encoder, container = case.encoder(), case.container()
    encoding = encoder(container)
    assert encoder.width == 16
    assert encoding.summary.shape == (5, 16)
    assert encoding.tokens.shape[::2] == (5, 16)
    assert encoding.token_mask.shape == encoding.tokens.shape[:2]
    assert encoding.token_mask.dtype == torch.bool
    assert encoding.states.shape[-1] == 16
    parts = {f.name: getattr(encoding, f.name) for f in fields(encoding)}
    read = parts.pop("read_linearly")
    assert all(part.isfinite().all() for part in (*parts.values(), *read.values()))
    assert torch.equal(encoding.token_mask.any(1), container.present)


def test_what_linear_layers_read_reaches_the_summary_as_it_is(case):
    encoder, container = case.encoder(), case.container()
    encoding = encoder(container)
    absent = ~container.present
    for name, layer in encoder.linear_layers().items():
        read = encoding.read_linearly[name]
        assert read.shape == (5, layer.in_features)
        assert not read[absent].any()
        change = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            layer.weight += change
            after = encoder(container).summary
            layer.weight -= change
        assert_same(after - encoding.summary, read @ change.T, atol=1e-4)


def test_padding_does_not_change_the_summary(case):
    encoder, container = case.encoder(), case.container()
    assert_same(encoder(case.padded(container, 4)).summary, encoder(container).summary)


def test_permuting_the_batch_permutes_the_encoding(case):
    encoder, container = case.encoder(), case.container()
    order = torch.tensor([3, 0, 4, 1, 2])
    permuted, plain = encoder(case.take(container, order)), encoder(container)
    assert_same(permuted.summary, plain.summary[order])
    assert torch.equal(permuted.token_mask, plain.token_mask[order])
    mask = permuted.token_mask
    assert_same(permuted.tokens[mask], plain.tokens[order][mask])


def test_a_sample_is_encoded_the_same_alone_and_in_a_batch(case):
    encoder, container = case.encoder(), case.container()
    together = encoder(container).summary
    alone = [encoder(case.take(container, torch.tensor([i]))).summary[0] for i in range(5)]
    assert_same(torch.stack(alone), together)


def test_samples_are_told_apart(case):
    summary = case.encoder()(case.container()).summary
    assert (torch.pdist(summary) > 1e-3).all()


@pytest.mark.parametrize("gone", [[0], [1, 4], [0, 1, 2, 3, 4]])
def test_an_absent_sample_is_finite_and_changes_no_other(case, gone):
    encoder, container = case.encoder(), case.container()
    absent = torch.zeros(5, dtype=torch.bool)
    absent[gone] = True
    encoding = encoder(container.drop(absent))
    assert encoding.summary.isfinite().all()
    assert encoding.states.isfinite().all()
    assert not encoding.token_mask[absent].any()
    assert_same(encoding.summary[~absent], encoder(container).summary[~absent])


@pytest.mark.parametrize("gone", [[0], [0, 1, 2, 3, 4]])
def test_absent_samples_give_finite_gradients(case, gone):
    encoder, container = case.encoder().train(), case.container()
    absent = torch.zeros(5, dtype=torch.bool)
    absent[gone] = True
    loss_and_gradients(encoder, container.drop(absent))
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_a_batch_in_which_nobody_has_anything_is_encoded_and_trained_on(case):
    encoder, container = case.encoder().train(), case.emptied(case.container())
    encoding = encoder(container)
    assert encoding.summary.shape == (5, encoder.width)
    assert encoding.summary.isfinite().all()
    assert not encoding.token_mask.any()
    loss_and_gradients(encoder, container)


def test_what_may_not_be_read_is_not_read(case):
    encoder, container = case.encoder(), case.container()
    before, after = encoder(container), encoder(case.garbled(container))
    assert torch.equal(before.summary, after.summary)
    assert after.states.isfinite().all()
    loss_and_gradients(encoder, case.garbled(container))
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.requires_grad)


def test_inputs_are_not_written_to(case):
    encoder, container = case.encoder().train(), case.container()
    before = {name: tensor.clone() for name, tensor in case.tensors(container).items()}
    loss_and_gradients(encoder, container)
    assert all(torch.equal(before[k], tensor) for k, tensor in case.tensors(container).items())


def test_every_parameter_learns(case):
    encoder = case.encoder()
    loss_and_gradients(encoder, case.container())
    idle = {
        name
        for name, parameter in encoder.named_parameters()
        # A softmax cancels the bias of a key; BERT has one all the same.
        if not name.endswith("key.bias")
        and parameter.requires_grad
        and (parameter.grad is None or not parameter.grad.any())
    }
    assert idle == set()


def test_evaluation_is_deterministic_and_training_drops_out(case):
    encoder, container = case.encoder(), case.container()
    assert torch.equal(encoder(container).summary, encoder(container).summary)
    encoder.train()
    assert not torch.equal(encoder(container).summary, encoder(container).summary)


def test_the_same_seed_gives_the_same_weights(case):
    one, other = case.encoder().state_dict(), case.encoder().state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_state_dict_brings_the_encoder_back(case):
    encoder, container = case.encoder(), case.container()
    other = case.encoder()
    for parameter in other.parameters():
        nn.init.uniform_(parameter)
    assert not torch.equal(other(container).summary, encoder(container).summary)
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other(container).summary, encoder(container).summary)


def test_one_sample_trains(case):
    encoder = case.encoder().train()
    loss_and_gradients(encoder, case.container(1))
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())


def test_mixed_precision_trains_and_stays_near(case):
    encoder, container = case.encoder(), case.container()
    exact = encoder(container).summary
    with torch.autocast("cpu", torch.bfloat16):
        encoding = encoder(container)
    everything(encoding).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in encoder.parameters())
    assert (encoding.summary.float() - exact).norm() < 0.1 * exact.norm()


def test_it_overfits_eight_samples(case):
    encoder, container = case.encoder(), case.container(8)
    truth = torch.tensor([0.0, 1, 1, 0, 1, 0, 0, 1])
    head = nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=5e-3)
    for _ in range(40):
        optimizer.zero_grad()
        logits = head(encoder.train()(container).summary)[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, truth)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        logits = head(encoder.eval()(container).summary)[:, 0]
    assert nn.functional.binary_cross_entropy_with_logits(logits, truth) < 0.1


def test_its_keys_are_plain_and_have_defaults(case):
    known = keywords(case.entry)
    assert "width" in known
    assert all(p.default is not inspect.Parameter.empty for p in known.values())
    assert list(inspect.signature(case.entry).parameters) == ["sizes", *known]


def test_weights_that_do_not_fit_are_refused(case, tmp_path):
    with pytest.raises(ConfigError, match="missing"):
        case.encoder().load_weights(tmp_path / "missing")


def test_reading_the_menu_imports_no_model_library():
    import subprocess
    import sys

    code = (
        "import clinical, sys; from clinical.encoders import ENCODERS; "
        "assert not {'transformers', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_entry_of_the_menu_is_tested_here(described):
    assert described == set(ENCODERS)
