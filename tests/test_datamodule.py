import clinical  # noqa: F401
from clinical.datamodule import BucketSampler, StoreDataset, make_loader
from clinical.preparation import prepare

import importlib.util
import pickle
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

_spec = importlib.util.spec_from_file_location(
    "small_hospital", Path(__file__).with_name("small_hospital.py")
)
hospital = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hospital)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("hospital")
    return hospital.configure(hospital.build(root / "extract"), root / "run")


@pytest.fixture(scope="module")
def store(config):
    return prepare(config, config.out / "store")


def loader(store, config, rows=None, **changes):
    rows = np.arange(store.n_samples) if rows is None else rows
    given = {"batch_size": 8, "workers": 0, "shuffle_seed": None, **changes}
    return make_loader(store.folder, config, rows, **given)


def order(batches):
    return torch.cat([batch.row for batch in batches]).tolist()


def same(one, other):
    return all(
        torch.equal(a, b) if isinstance(a := getattr(one, f.name), torch.Tensor) else a == b
        for f in fields(one)
        if (b := getattr(other, f.name)) is not None
    )


@pytest.mark.parametrize("shuffle_seed", [None, 0, 5])
def test_every_sample_comes_once_an_epoch(store, config, shuffle_seed):
    rows = np.arange(3, store.n_samples)[::-1]
    batches = list(loader(store, config, rows, shuffle_seed=shuffle_seed))
    assert sorted(order(batches)) == sorted(rows.tolist())
    assert len(batches) == len(loader(store, config, rows)) == -(-len(rows) // 8)
    assert sorted(len(batch) for batch in batches)[1:] == [8] * (len(batches) - 1)


def test_the_order_is_a_function_of_seed_and_epoch(store, config):
    def epochs(seed):
        made = loader(store, config, shuffle_seed=seed)
        found = []
        for epoch in (0, 1, 0):
            made.sampler.set_epoch(epoch)
            found.append(order(made))
        return found

    first, second, again = epochs(1)
    assert first == again
    assert first != second
    assert epochs(1) == [first, second, first]
    assert epochs(2)[0] != first


def test_loading_leaves_the_global_generators_alone(store, config):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (the global generator is what is watched)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    list(loader(store, config, shuffle_seed=1))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_batches_hold_samples_of_similar_length():
    lengths = np.random.default_rng(0).permutation(1000)
    sampler = BucketSampler(np.arange(1000), lengths, batch_size=10, seed=0)
    spread = [np.ptp(lengths[batch]) for batch in sampler]
    assert np.mean(spread) < 40  # of 1,000; at random it would be about 800
    plain = list(BucketSampler(np.arange(1000), lengths, batch_size=10, seed=None))
    assert np.concatenate([lengths[batch] for batch in plain]).tolist() == list(range(1000))


def test_no_rows_give_no_batches(store, config):
    assert list(loader(store, config, np.array([], dtype=np.int64), shuffle_seed=1)) == []


def test_a_sample_is_the_same_alone_and_in_a_batch(store, config):
    dataset = StoreDataset(store.folder, config)
    rows = np.array([7, 0, 12])
    together = dataset[rows]
    for place, row in enumerate(rows):
        alone = dataset[np.array([row])]
        events, several = alone.inputs["events"], together.inputs["events"]
        steps = int(events.mask.sum())
        assert int(several.mask[place].sum()) == steps
        for name in ("variable", "value", "time_hours"):
            a, b = getattr(events, name)[0, :steps], getattr(several, name)[place, :steps]
            assert torch.equal(a, b)
        assert torch.equal(events.summary[0], several.summary[place])
        assert torch.equal(alone.inputs["static"].value[0], together.inputs["static"].value[place])
        images, all_images = alone.inputs["images"], together.inputs["images"]
        assert torch.equal(images.pixels, all_images.pixels[all_images.sample == place])
        for relation in config.graph.relations:
            a, b = alone.neighbours[relation], together.neighbours[relation]
            assert torch.equal(a.rows[0], b.rows[place])
            assert torch.equal(a.weight[0], b.weight[place])


def test_presence_agrees_with_the_samples_table(store, config):
    batch = StoreDataset(store.folder, config)[np.arange(store.n_samples)]
    for name, container in batch.inputs.items():
        assert container.present.tolist() == store.samples[f"present.{name}"].to_list()


def test_targets_are_the_labels_and_unknown_ones_are_masked(store, config, monkeypatch):
    dataset = StoreDataset(store.folder, config)
    labels = store.samples["label.death"].to_numpy().copy()
    batch = dataset[np.arange(store.n_samples)]
    assert batch.targets["death"].value.tolist() == labels.tolist()
    assert batch.targets["death"].observed.all()
    labels[2] = np.nan
    monkeypatch.setitem(dataset.__dict__, "_labels", {"death": labels[:, None]})
    masked = dataset[np.array([1, 2])].targets["death"]
    assert masked.observed.tolist() == [True, False]
    assert masked.value[1] == 0


def test_a_data_set_travels_as_its_folder(store, config):
    dataset = StoreDataset(store.folder, config)
    dataset[np.arange(4)]
    sent = pickle.dumps(dataset)
    assert len(sent) < 5000
    again = pickle.loads(sent)  # noqa: S301  (our own)
    assert same(again[np.arange(4)].inputs["events"], dataset[np.arange(4)].inputs["events"])


def test_workers_read_the_same_batches(store, config):
    inside = list(loader(store, config, shuffle_seed=4))
    outside = list(loader(store, config, shuffle_seed=4, workers=2))
    assert order(inside) == order(outside)
    for a, b in zip(inside, outside, strict=True):
        for name in a.inputs:
            assert same(a.inputs[name], b.inputs[name])
        for name in a.neighbours:
            assert same(a.neighbours[name], b.neighbours[name])


def test_tensors_may_be_written_without_touching_the_store(store, config):
    dataset = StoreDataset(store.folder, config)
    before = dataset[np.array([0])].inputs["events"].value.clone()
    dataset[np.array([0])].inputs["events"].value.fill_(9)
    dataset[np.array([0])].neighbours["similar"].rows.fill_(9)
    assert torch.equal(dataset[np.array([0])].inputs["events"].value, before)


def test_training_loops_find_the_order_by_the_sampler(store, config):
    # Lightning looks for `set_epoch` on the loader's sampler.
    assert isinstance(loader(store, config, shuffle_seed=1).sampler, BucketSampler)
