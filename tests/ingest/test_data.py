"""Calibration and evaluation data: every source gives the same checked batches, bad data a four-part error."""

from __future__ import annotations

import gc
import io
import os
import tempfile
import tracemalloc

import numpy as np
import pytest

from subbyte.errors import DataError
from subbyte.graph.ir import FloatType, Graph
from subbyte.ingest.data import Preprocess, batches, labelled, take

SPEC = {"image": (None, 4, 5, 3)}
TWO = {"a": (None, 2), "b": (None, 3)}


@pytest.fixture
def x(rng):
    return rng.normal(size=(23, 4, 5, 3)).astype(np.float32)


def rows(data, name="image"):
    """All samples, sorted by their bytes: order does not matter, nothing may be lost or doubled."""
    everything = np.concatenate([batch[name] for batch in data])
    return sorted(row.tobytes() for row in everything)


def same(x):
    return sorted(row.tobytes() for row in x)


def refused(data, spec=SPEC, **options):
    with pytest.raises(DataError) as caught:
        list(batches(data, spec, **options))
    error = caught.value
    assert all([error.seen, error.rule, error.remedy, error.place])
    return error


class MapStyle:
    """What a torch data set looks like."""

    def __init__(self, x):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], index % 10


class Loader:
    """What a torch data loader looks like: batches as lists, iterable any number of times."""

    def __init__(self, x):
        self.x = x

    def __iter__(self):
        for start in range(0, len(self.x), 7):
            yield [self.x[start : start + 7], np.arange(len(self.x[start : start + 7]))]


def sources(x, folder):
    np.savez(folder / "x.npz", x=x, y=np.arange(len(x)))
    np.savez_compressed(folder / "named.npz", image=x)
    np.save(folder / "x.npy", x)
    for kind in ("samples", "batches"):
        (folder / kind).mkdir()
    for i, row in enumerate(x):
        np.save(folder / "samples" / f"{i:03}.npy", row)
    for i in range(0, len(x), 10):
        np.save(folder / "batches" / f"{i}.npy", x[i : i + 10])
    return {
        "array": x,
        "float64": x.astype(np.float64),
        "dict": {"image": x},
        "dict x": {"x": x, "y": np.arange(23)},
        "tuple": (x, np.arange(23)),
        "npz": folder / "x.npz",
        "npz by name": str(folder / "named.npz"),
        "npy": folder / "x.npy",
        "folder of samples": folder / "samples",
        "folder of batches": folder / "batches",
        "list of samples": list(x),
        "list of batches": [x[:10], x[10:11], x[11:]],
        "list of pairs": [(x[:10], np.zeros(10)), (x[10:], np.zeros(13))],
        "list of dicts": [{"image": row} for row in x],
        "map style": MapStyle(x),
        "loader": Loader(x),
        "generator of batches": (x[i : i + 5] for i in range(0, 23, 5)),
        "generator of samples": iter(list(x)),
        "generator of dicts": ({"image": x[i : i + 4]} for i in range(0, 23, 4)),
    }


def test_every_source_gives_all_samples_in_every_pass(x, tmp_path):
    for name, source in sources(x, tmp_path).items():
        data = batches(source, SPEC, batch_size=8)
        assert (data.samples, len(data)) == (23, 3), name
        first, second = list(data), list(data)
        assert [len(b["image"]) for b in first] == [8, 8, 7], name
        assert all(b["image"].dtype == np.float32 and b["image"].flags.c_contiguous for b in first), name
        assert rows(first) == same(x), name
        assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(first, second, strict=True)), name


def test_torch_tensors_and_loaders(x):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(x.copy()).requires_grad_()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(x)), batch_size=6)
    for source in (tensor, [tensor[:3], tensor[3:]], loader, torch.utils.data.TensorDataset(torch.from_numpy(x))):
        assert rows(batches(source, SPEC)) == same(x)
    low = torch.from_numpy(x).to(torch.bfloat16)
    assert rows(batches(low, SPEC)) == same(low.float().numpy())


def test_a_graph_says_what_its_inputs_are(x):
    graph = Graph(name="g", inputs=("image",), outputs=("image",), types={"image": FloatType(shape=SPEC["image"])})
    assert rows(batches(x, graph)) == same(x)


def test_several_inputs(rng):
    a, b = (rng.normal(size=(9, k)).astype(np.float32) for k in (2, 3))
    for source in ({"b": b, "a": a}, (a, b), (a, b, np.zeros(9)), [(p, q) for p, q in zip(a, b, strict=True)]):
        for batch in batches(source, TWO, batch_size=4):
            for p, q in zip(batch["a"], batch["b"], strict=True):  # still the same sample
                index = int(np.flatnonzero((a == p).all(1))[0])
                np.testing.assert_array_equal(b[index], q)


def test_limit_is_a_seeded_random_subset_of_sorted_data():
    x = np.repeat(np.arange(10, dtype=np.float32), 100)[:, None]  # sorted by class
    picked = [take(batches(x, {"x": (None, 1)}, limit=50, seed=seed), 50)["x"] for seed in (0, 0, 1)]
    assert np.array_equal(picked[0], picked[1])
    assert not np.array_equal(picked[0], picked[2])
    assert np.unique(picked[0]).size == 10
    first_few = take(batches(x, {"x": (None, 1)}), 20)["x"]  # the order is random without a limit, too
    assert np.unique(first_few).size >= 5


def test_limit_reads_no_more_of_a_stream_than_it_needs():
    read = []

    def endless():
        while True:
            read.append(1)
            yield np.full((4, 2), len(read), np.float32)

    data = batches(endless(), {"x": (None, 2)}, limit=10)
    assert (data.samples, len(read)) == (10, 3)
    assert np.concatenate([b["x"] for b in data]).max() == 3


def test_a_single_sample_without_a_batch_axis(x):
    assert rows(batches(x[0], SPEC)) == same(x[:1])


def test_bytes_are_cast_as_they_are():
    data = take(batches(np.arange(60, dtype=np.uint8).reshape(1, 4, 5, 3), SPEC), 1)
    assert data["image"].max() == 59


def test_stream_keeps_memory_flat(tmp_path):
    size = (64, 1000)

    def stream(count):
        for i in range(count):
            yield np.full(size, i, np.float32)

    def peak(count):
        tracemalloc.start()
        try:
            data = batches(stream(count), {"x": (None, 1000)}, batch_size=64)
            total = sum(float(b["x"].sum()) for _ in range(2) for b in data)
            assert total == 2 * 64 * 1000 * sum(range(count))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)
    few, many = peak(4), peak(40)
    assert many < few + 64 * 1000 * 4  # one batch of slack; 40 batches are 10 MB


def test_array_on_disk_is_not_read_whole(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((5000, 1000), np.float32))
    tracemalloc.start()
    try:
        for _ in batches(tmp_path / "x.npy", {"x": (None, 1000)}, batch_size=16):
            pass
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()


def test_spool_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    data = batches(iter([np.zeros((3, 2))]), {"x": (None, 2)})
    assert list(tmp_path.iterdir()) == [] or os.name == "nt"
    list(data)
    del data
    gc.collect()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("kind", [np.asarray, list, iter, MapStyle])
def test_values_that_are_not_finite_are_refused_with_the_sample(bad, kind):
    x = np.zeros((23, 4, 5, 3), np.float64)
    x[17, 1, 2, 0] = bad
    error = refused(kind(x), batch_size=5)
    assert "sample 17" in error.seen
    assert "[1, 2, 0]" in error.seen


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (np.zeros((0, 4, 5, 3)), "no samples"),
        ([], "no samples"),
        (iter([]), "no samples"),
        (iter([np.zeros((0, 4, 5, 3))]), "no samples"),
        (np.zeros((5, 4, 5, 2)), "[4, 5, 2]"),
        (np.zeros((5, 60)), "[60]"),
        (np.float32(3), "one number"),
        (np.array(["a", "b"]), "dtype"),
        (np.zeros((2, 4, 5, 3), complex), "complex"),
        ([[1.0, 2.0], [1.0]], "shape"),
        ([np.zeros((4, 5, 3)), np.zeros((4, 5, 2))], "differ"),
        ({"picture": np.zeros((2, 4, 5, 3)), "mask": np.zeros(2)}, "'picture', 'mask'"),
        (3.5, "float"),
        (None, "NoneType"),
        ([None], "NoneType"),
    ],
)
def test_bad_data(data, words):
    assert words in refused(data).seen


def test_bad_data_for_several_inputs():
    assert "{'a': 2, 'b': 3}" in refused({"a": np.zeros((2, 2)), "b": np.zeros((3, 3))}, TWO).seen
    assert "'a', 'b'" in refused({"a": np.zeros((2, 2))}, TWO).rule
    assert "1 arrays" in refused(np.zeros((2, 2)), TWO).seen


@pytest.mark.parametrize(("spec", "layout"), [((None, 3, 4, 5), "nhwc->nchw"), ((None, 5, 3, 4), "nchw->nhwc")])
def test_wrong_layout_names_the_remedy(x, spec, layout):
    assert layout in refused(x, {"image": spec}).remedy
    fixed = take(batches(x, {"image": spec}, preprocess=Preprocess(layout=layout)), 23)
    assert fixed["image"].shape[1:] == spec[1:]


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"limit": 0}])
def test_bad_numbers(x, options):
    refused(x, **options)


def damaged(folder):
    good = io.BytesIO()
    np.savez(good, x=np.zeros((3, 4, 5, 3)))
    files = {
        "missing.npz": None,
        "empty.npz": b"",
        "truncated.npz": good.getvalue()[:-30],
        "noise.npy": b"noise" * 40,
        "text.txt": b"1 2 3",
        "empty.csv": b"",
        "lines.csv": b"path,label\nnowhere.png,1\n",
    }
    for name, content in files.items():
        if content is not None:
            (folder / name).write_bytes(content)
    np.save(folder / "objects.npy", np.array([{}, []], object), allow_pickle=True)
    np.savez(folder / "no_samples.npz", y=np.zeros(3))
    np.savez(folder / "labels.npz", x=np.zeros((3, 4, 5, 3)), y=np.zeros(2))
    np.savez(folder / "one_hot.npz", x=np.zeros((3, 4, 5, 3)), y=np.eye(3))
    (folder / "hollow").mkdir()
    return [*files, "objects.npy", "no_samples.npz", "labels.npz", "one_hot.npz", "hollow"]


def test_damaged_files_are_refused_by_name(tmp_path):
    for name in damaged(tmp_path):
        with pytest.raises(DataError) as caught:
            list(labelled(tmp_path / name).batches(SPEC))
        assert caught.value.place.startswith(str(tmp_path / name)), name


def images(folder, mode="RGB"):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog", "ant"):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            pixels = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
            image.fromarray(pixels).convert(mode).save(folder / name / f"{i}.png")
    return folder


def test_folder_of_images_per_class(tmp_path):
    folder = images(tmp_path / "set")
    data = labelled(folder)
    assert data.classes == ("ant", "cat", "dog")
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    pre = Preprocess(layout="nhwc->nchw", scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    found = list(data.batches({"x": (None, 3, 4, 5)}, batch_size=4, preprocess=pre))
    assert [y.tolist() for _, y in found] == [[0, 0, 0, 1], [1, 1, 2, 2], [2]]
    from PIL import Image

    pixels = np.asarray(Image.open(folder / "cat" / "1.png"))
    wanted = ((pixels / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]).transpose(2, 0, 1)
    np.testing.assert_allclose(found[1][0]["x"][0], wanted, rtol=1e-5, atol=1e-5)
    assert batches(folder, {"x": (None, 4, 5, 3)}).samples == 9


def test_grey_images_for_a_model_of_one_channel(tmp_path):
    folder = images(tmp_path / "set", "RGBA")
    assert take(batches(folder, {"x": (None, 4, 5, 1)}), 2)["x"].shape == (2, 4, 5, 1)
    error = refused(folder, {"x": (None, 8, 8, 3)})
    assert "[4, 5, 3]" in error.seen


def test_damaged_image_is_named(tmp_path):
    folder = images(tmp_path / "set")
    (folder / "cat" / "1.png").write_bytes((folder / "cat" / "1.png").read_bytes()[:40])
    assert "1.png" in refused(folder).place


def test_csv_of_paths_and_labels(tmp_path):
    images(tmp_path / "set")
    (tmp_path / "list.csv").write_text("path,label\nset/cat/0.png,wild\nset/dog/2.png,tame\nset/ant/1.png,wild\n")
    data = labelled(tmp_path / "list.csv")
    assert (data.classes, data.labels.tolist()) == (("tame", "wild"), [1, 0, 1])
    (tmp_path / "numbers.csv").write_text("set/cat/0.png, 7\nset/dog/2.png, 3\n")
    assert labelled(tmp_path / "numbers.csv").labels.tolist() == [7, 3]
    assert batches(tmp_path / "list.csv", SPEC).samples == 3


def test_labelled_arrays_limits_and_missing_labels(x, tmp_path):
    y = np.arange(23) % 7
    np.savez(tmp_path / "x.npz", x=x, y=y)
    np.save(tmp_path / "x.npy", x)
    for data in (labelled(tmp_path / "x.npz"), labelled((x, y))):
        found = list(data.batches(SPEC, batch_size=10))
        np.testing.assert_array_equal(np.concatenate([b["image"] for b, _ in found]), x)
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]), y)
        (few, labels), *rest = data.batches(SPEC, limit=5, seed=3)
        assert not rest
        for row, label in zip(few["image"], labels, strict=True):
            assert label == y[np.flatnonzero((x == row).all((1, 2, 3)))[0]]
    assert all(labels is None for _, labels in labelled(tmp_path / "x.npy").batches(SPEC))


def test_nothing_of_torch_is_loaded_for_arrays():
    import subprocess
    import sys

    code = (
        "import sys, numpy; from subbyte.ingest.data import batches; "
        "list(batches(numpy.zeros((3, 2)), {'x': (None, 2)})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
