import numpy as np
import pytest

from subbyte.allocation.samples import split_samples
from subbyte.errors import DataError
from subbyte.ingest.data import Preprocess
from tests.allocation.small import classifier, images


def split(data, **changes):
    return split_samples(data, classifier(), **{"limit": 1000, "seed": 0, **changes})


def keys(feeds):
    return {float(x.sum()) for x in feeds["image"]}


def test_no_judged_sample_is_fitted():
    x = images(97)
    found = split(x)
    assert len(found.fit["image"]) == 48
    assert found.count == 49
    assert keys(found.fit) | keys(found.judged) == {float(i.sum()) for i in x}
    assert not keys(found.fit) & keys(found.judged)


def test_at_most_256_are_fitted_and_the_limit_holds():
    found = split(images(900), limit=800)
    assert len(found.fit["image"]) == 256
    assert found.count == 544


def test_labels_stay_with_their_samples():
    x = images(60)
    labels = np.arange(60)
    found = split(x, labels=labels, limit=50)
    for sample, label in zip(found.judged["image"], found.labels, strict=True):
        assert np.array_equal(sample, x[label])


def test_labels_of_a_file(tmp_path):
    x = images(40)
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(40))
    found = split(tmp_path / "data.npz", seed=3)
    for sample, label in zip(found.judged["image"], found.labels, strict=True):
        assert np.array_equal(sample, x[label])


def test_preprocessing_happens_once():
    found = split(images(40), preprocess=Preprocess(scale=2.0))
    assert np.isclose(max(np.abs(f["image"]).max() for f in (found.fit, found.judged)), 2 * np.abs(images(40)).max())


def test_too_few():
    with pytest.raises(DataError) as caught:
        split(images(15))
    assert "12.5 points" in caught.value.rule
    assert "512" in caught.value.remedy


def test_few_samples_say_what_they_imply():
    found = split(images(100))
    assert "2.0 points" in found.caution(96.0)
    assert "86.5 to 98.9 %" in found.caution(96.0)
    assert split(images(600)).caution(96.0) == ""


@pytest.mark.parametrize("labels", [np.arange(39), np.zeros(40), np.zeros((40, 1), int)])
def test_bad_labels(labels):
    with pytest.raises(DataError, match="labels are"):
        split(images(40), labels=labels)
