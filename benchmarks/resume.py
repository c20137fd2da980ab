"""Every posterior, a run of 20 epochs stopped and resumed after each of them: are all files those of the run never stopped?

Data are those of the tests (EMT, three atoms). Exits with 1 when a file differs.
"""

import sys
import tempfile
from pathlib import Path

from common import arguments, report

from race_calc.posterior.base import names

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "train"))
from resumed import differing_epochs, small_run_of

given = arguments(__doc__, epochs=20, frames=12)
results, different = {}, 0
for posterior in names():
    with tempfile.TemporaryDirectory() as folder:
        config, prepared = small_run_of(Path(folder), posterior, given.epochs, given.frames)
        stops = list(differing_epochs(config, prepared, Path(folder)))
    other = {epoch: files for epoch, files in stops if files}
    different += len(other)
    results[posterior] = f"{len(stops) - len(other)} of {len(stops)} identical" + (f"; {other}" if other else "")
    print(posterior, results[posterior], flush=True)
report(given, results)
sys.exit(1 if different else 0)
