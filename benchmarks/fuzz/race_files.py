"""Mutated files of `race-calc export c`, most with a hash that fits: each is refused with a message, or read and evaluated without a crash.

python benchmarks/fuzz/race_files.py --n 2000 --seed 0 [--log FILE: resume from it]

What lists of indices say is checked when a file is read, so a file may hold wrong numbers but nothing that points outside of it. Exits
with 1 for crashes, cases that hang and refusals without a message.
"""

import ctypes
import hashlib
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(Path(__file__).resolve().parent), str(ROOT / "tests" / "kernels")]
from mutations import cut, doubled, flip  # noqa: E402
from workers import arguments, run_cases, table  # noqa: E402

MODELS = ("version-9-ensemble", "version-5-ensemble", "version-3-llpr")  # of tests/old_checkpoints
GROUPS = ("file", "entry", "integers", "bytes")
BAD = ("crash", "hang", "refused, no message")
HEAD, ENTRY = 64, 64  # bytes before the block, and of an entry; the block begins with 24 bytes of its own
STRANGE = (-1, 0, 1, 2, 3, 7, 100, 127, 4096, 32767, 2**20, 2**31 - 1, -(2**31), 2**40, 2**62, -(2**63))


def rehashed(block: bytes, real: int) -> bytes:
    return struct.pack("<8sqqq32s", b"RACEFILE", 1, real, len(block), hashlib.blake2b(block, digest_size=32).digest()) + block


def mutated(group: str, content: bytes, random: np.random.Generator) -> tuple[bytes, str]:
    """The file, and what was done to it."""
    if group == "file":
        kind = [cut, doubled, flip][random.integers(3)]
        return kind(content, random), kind.__name__
    real, block = struct.unpack_from("<q", content, 16)[0], bytearray(content[HEAD:])
    count = struct.unpack_from("<q", block, 8)[0]
    entry = 24 + ENTRY * int(random.integers(count))
    name, at, size = struct.unpack_from("<48sqq", block, entry)
    told = name.rstrip(b"\0").decode()
    if group == "entry":  # where an array is, how long, how it is called; or how many there are
        place = [8, entry + int(random.integers(48)), entry + 48, entry + 56][random.integers(4)]
        struct.pack_into("<q", block, min(place, len(block) - 8), int(random.choice(np.array(STRANGE))))
        return rehashed(bytes(block), real), f"entry of {told}"
    if not size:
        return rehashed(bytes(block), real), "nothing"
    if group == "integers":  # as int32 or int64, whatever it is
        width = int(random.choice([4, 8]))
        place = at + width * int(random.integers(max(size // width, 1)))
        value = int(random.choice(np.array(STRANGE))) if random.random() < 0.5 else int(random.integers(-3, 40))
        written = value.to_bytes(8, "little", signed=True)[:width]
        block[place : place + width] = written
        return rehashed(bytes(block), real), f"{value} in {told}"
    for _ in range(random.integers(1, 5)):
        block[at + int(random.integers(size))] ^= 1 << int(random.integers(8))
    return rehashed(bytes(block), real), f"bits of {told}"


def try_file(case: dict) -> tuple[str, str]:
    import torch
    from ase import Atoms
    from in_c import OK, Model

    from race_calc.interfaces.export import export
    from race_calc.posterior.checkpoint import load_checkpoint

    random = np.random.default_rng([case["seed"], case["number"]])
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.race"
        checkpoint = load_checkpoint(ROOT / "tests" / "old_checkpoints" / MODELS[case["number"] % len(MODELS)], calibration=False)
        export(checkpoint, path, [torch.float32, torch.float64][random.integers(2)])
        content, fault = mutated(case["group"], path.read_bytes(), random)
        path.write_bytes(content)
        model = Model(path)
        if model.status != OK:
            return ("refused" if model.message else "refused, no message"), f"{fault}: {model.message}"
        numbers = np.ctypeslib.as_array(model.info.elements, (int(model.info.n_elements),))
        atoms = Atoms(numbers=numbers[random.integers(len(numbers), size=6)] % 100, positions=3.0 * random.random((6, 3)))
        if not 0 < model.info.cutoff < 20:  # whoever asks for pairs that far has many
            model.info.cutoff = ctypes.c_double(4.0)
        status, message, _ = model.evaluate(atoms, of_members=bool(random.integers(2)))
        if status != OK:
            return ("refused" if message else "refused, no message"), f"{fault}: {message}"
    return "accepted", fault


if __name__ == "__main__":
    given = arguments(__doc__, 2000)
    cases = [(group, {"group": group, "seed": given.seed, "number": k}) for k in range(given.n) for group in [GROUPS[k % len(GROUPS)]]]
    sys.exit(table(run_cases(try_file, cases, given.log), BAD, GROUPS))
