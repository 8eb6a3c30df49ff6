import clinical  # noqa: F401
from clinical.cohort.fitted import Fitted, code_hash, sample_hashes, subject_hashes
from clinical.errors import BundleError

import numpy as np
import pytest


@pytest.fixture
def fitted():
    return Fitted(
        statistics={"events": {"vocabulary": ["HR", "Größe"]}},
        parameters={"similar": {"mean": np.arange(3.0)}, "same/unit": {}},
        reference={"similar": {"key": np.ones((2, 4)).T}, "same/unit": {}},
        reference_subject=np.array([2**62, -5]),
        reference_sample=np.array([1, 2]),
        modality_sizes={"events": {"variables": 2}},
        salt="s",
        dataset_name="d",
        consistent_calendar=True,
    )


def test_what_was_learned_survives_a_round_trip(tmp_path, fitted):
    fitted.write(tmp_path)
    read = Fitted.read(tmp_path)
    assert read.statistics == fitted.statistics
    assert read.modality_sizes == fitted.modality_sizes
    assert set(read.parameters) == set(fitted.parameters)
    assert np.array_equal(read.reference["similar"]["key"], fitted.reference["similar"]["key"])
    assert np.array_equal(read.parameters["similar"]["mean"], np.arange(3.0))
    assert read.reference["same/unit"] == {}
    assert read.reference_subject.tolist() == [2**62, -5]
    assert (read.salt, read.dataset_name, read.consistent_calendar) == ("s", "d", True)


@pytest.mark.parametrize("name", ["statistics.json", "reference.safetensors"])
def test_a_damaged_file_is_a_bundle_error(tmp_path, fitted, name):
    fitted.write(tmp_path)
    (tmp_path / name).write_bytes(b"{")
    with pytest.raises(BundleError, match="missing or damaged"):
        Fitted.read(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BundleError, match="missing or damaged"):
        Fitted.read(tmp_path)


def test_subjects_are_told_apart_by_number_data_set_and_salt():
    subjects = np.array([1, 2, 1, 11])
    hashed = subject_hashes(subjects, "d", "s")
    assert hashed[0] == hashed[2]
    others = [subject_hashes(subjects[:1], *given)[0] for given in (("e", "s"), ("d", "t"))]
    assert len({*hashed.tolist(), *others}) == 5


def test_a_sample_hash_needs_both_subject_and_time():
    hashed = sample_hashes(np.array([1, 1, 2, 1]), np.array([5, 6, 5, 5]), "s")
    assert hashed[0] == hashed[3]
    assert len(set(hashed.tolist())) == 3


def test_no_code_has_the_hash_that_stands_for_none():
    assert code_hash("UNIT//1") != code_hash("UNIT//2")
    assert code_hash("UNIT//1") != 0
