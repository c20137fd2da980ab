from pathlib import Path

import numpy as np
import pytest

from race_calc.data.dataset import read_dataset
from race_calc.data.npz import KCAL_PER_MOL


def write_npz(path, layout):
    rng = np.random.default_rng(0)
    z, r, e, f = np.array([8, 1, 1]), rng.random((4, 3, 3)), rng.random(4), rng.random((4, 3, 3))
    if layout == "split":
        arrays = dict(Z=z, R_train=r, E_train=e, F_train=f, R_test=r[:2], E_test=e[:2] + 1, F_test=f[:2])
    else:
        arrays = dict(nuclear_charges=z, coords=r, energies=e, forces=f)
    np.savez(path, **arrays)
    return r, e, f


def test_npz_with_parts(tmp_path):
    path = tmp_path / "m.npz"
    r, e, f = write_npz(path, "split")
    data = read_dataset(f"{path}#train")
    assert data.elements == (1, 8) and data.stress == (None,) * 4
    np.testing.assert_array_equal(data.energy, e)
    np.testing.assert_array_equal(data.forces, f)
    np.testing.assert_array_equal(data.structures[3].positions, r[3])
    np.testing.assert_array_equal(read_dataset(f"{path}#test").energy, e[:2] + 1)
    np.testing.assert_array_equal(read_dataset(f"{path}#train", "1:3").energy, e[1:3])
    np.testing.assert_array_equal(read_dataset(f"{path}#train", -1).energy, e[3:])
    with pytest.raises(ValueError, match="write #train or #test"):
        read_dataset(f"{path}#valid")
    with pytest.raises(ValueError, match="index 9 does not fit"):
        read_dataset(f"{path}#train", 9)


def test_a_part_is_chosen_not_taken(tmp_path):
    path = tmp_path / "m.npz"
    write_npz(path, "split")
    with pytest.raises(
        ValueError, match=r"m.npz has parts, and none is chosen: write .*m.npz#train \(4 frames\) or .*m.npz#test \(2 frames"
    ):
        read_dataset(path)


def test_published_npz_is_converted(tmp_path):
    path = tmp_path / "rmd17.npz"
    r, e, f = write_npz(path, "published")
    data = read_dataset(path)
    np.testing.assert_allclose(data.energy, e * KCAL_PER_MOL, rtol=1e-15)
    np.testing.assert_allclose(data.forces[2], f[2] * KCAL_PER_MOL, rtol=1e-15)
    np.testing.assert_array_equal(data.structures[2].positions, r[2])
    assert pytest.approx(4184 / (6.02214076e23 * 1.602176634e-19), rel=1e-12) == KCAL_PER_MOL
    with pytest.raises(ValueError, match="has no parts: remove '#test'"):
        read_dataset(f"{path}#test")


def test_bad_npz(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK not a zip")
    with pytest.raises(ValueError, match="cannot read"):
        read_dataset(tmp_path / "bad.npz")
    np.savez(tmp_path / "keys.npz", R=np.zeros(3))
    with pytest.raises(ValueError, match=r"has the keys \['R'\]: expected"):
        read_dataset(tmp_path / "keys.npz")
    np.savez(
        tmp_path / "shapes.npz", nuclear_charges=np.ones(2), coords=np.zeros((4, 3, 3)), energies=np.zeros(4), forces=np.zeros((4, 3, 3))
    )
    with pytest.raises(ValueError, match="shapes do not fit"):
        read_dataset(tmp_path / "shapes.npz")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"energies": np.ones(4, dtype=complex)}, "energies holds complex128"),
        ({"nuclear_charges": np.array(["O", "H", "H"])}, "nuclear_charges holds <U1"),
        ({"nuclear_charges": np.array([8.5, 1.0, 1.0])}, "nuclear_charges holds atomic numbers that are no whole numbers"),
    ],
)
def test_npz_of_other_types(tmp_path, change, message):
    path = tmp_path / "rmd17.npz"
    write_npz(path, "published")
    np.savez(path, **(dict(np.load(path)) | change))
    with pytest.raises(ValueError, match=message):
        read_dataset(path)


def test_a_damaged_npz_gives_a_short_message(tmp_path):
    path = tmp_path / "rmd17.npz"
    write_npz(path, "published")
    content = path.read_bytes()
    path.write_bytes(content[:26] + b"\xff\x03" + content[28:])  # the name of the first array has 1,023 bytes
    with pytest.raises(ValueError, match=r"cannot read .*rmd17.npz") as error:
        read_dataset(path)
    assert len(str(error.value)) < 600


def test_pickled_objects_are_never_read(tmp_path):
    """Reading one would run whatever it says."""

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    path = tmp_path / "trap.npz"
    np.savez(path, Z=np.array([1]), R_train=np.array([Trap()]), E_train=np.zeros(1), F_train=np.zeros((1, 1, 3)))
    (tmp_path / "ran").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="npz file of plain arrays"):
        read_dataset(path)
    assert not (tmp_path / "ran").exists()
