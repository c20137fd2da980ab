"""The version, the compiled kernels and the shipped models, for setuptools; everything else about the package is in pyproject.toml.

One shared library is built where a C compiler (gcc, clang) is; where none is, the installation goes on without it. It holds
every file of KERNELS for both number types and for several kinds of processor, and the package chooses among them when it
runs. It uses nothing of Python: no headers are needed, and ctypes loads it.
"""

import runpy
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, product
from pathlib import Path
from sysconfig import get_platform

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools_scm import ScmVersion

NEXT = "0.2.0"  # the release that is being developed; a commit with the tag v0.2.0 is that release
FOLDER = Path("race_calc/model/kernels")
# compiled for each type of number and kind of processor
KERNELS = [
    "messages.c",
    "products.c",
    "linear.c",
    "geometry.c",
    "layer.c",
    "powers.c",
    "readout.c",
    "heads.c",
    "reader.c",
    "checks.c",
    "model.c",
    "memory.c",
    "passes.c",
    "step.c",
    "stages.c",
]
ONCE = ("library", "arrays", "symmetric", "race", "race_load", "race_stages", "race_structure", "race_uncertainty", "blake2b")
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq"]
HASWELL, SKYLAKE = "-mtune=haswell", "-mtune=skylake-avx512"  # run elsewhere too; without them `backward` takes up to 1.24 times as long
VARIANTS = {"baseline": (16, [])}  # → bytes of a vector, flags; library.c knows what each needs of the processor
if get_platform() == "linux-x86_64":
    VARIANTS |= {"avx2": (32, [*AVX2, HASWELL]), "avx512": (64, [*AVX512, SKYLAKE])}
FLAGS = ["-O3", "-g0", "-ffp-contract=fast"]


class BuildKernels(build_ext):
    """Compiles KERNELS for each number type and variant; setuptools compiles `sources` and links."""

    def build_extension(self, ext: Extension) -> None:
        def compiled(job: tuple[str, str]) -> list[str]:
            real, variant = job
            vector, flags = VARIANTS[variant]
            return self.compiler.compile(
                [str(FOLDER / name) for name in KERNELS],
                output_dir=f"{self.build_temp}/{real}-{variant}",
                macros=[("REAL", real), ("VARIANT", variant), ("VECTOR", str(vector))],
                extra_postargs=[*FLAGS, *flags],
            )

        with ThreadPoolExecutor() as pool:
            ext.extra_objects = list(chain.from_iterable(pool.map(compiled, product(("float", "double"), VARIANTS))))
        super().build_extension(ext)
        path = Path(self.get_ext_fullpath(ext.name))
        path.write_bytes(build["sealed"](path.read_bytes()))


class CopyModels(build_py):
    """The models of the repository become data of the package; where it runs from the repository, they stay where they are."""

    def run(self) -> None:
        super().run()
        for file in () if self.editable_mode else sorted(Path("models").glob("*/*")):
            self.mkpath(str(Path(self.build_lib, "race_calc", file.parent)))
            self.copy_file(str(file), str(Path(self.build_lib, "race_calc", file)))


def version_of(found: ScmVersion) -> str:
    """The tag of a release; between releases that of the next with the number of commits, and then comes the hash of the last."""
    return found.format_with("{tag}") if found.exact else f"{NEXT}.dev{found.distance or 0}"


build = runpy.run_path(str(FOLDER / "build.py"))
library = Extension(
    f"race_calc.model.kernels.{build['NAME']}",
    sources=[str(FOLDER / f"{name}.c") for name in ONCE],
    depends=["setup.py", *(str(path) for path in sorted(FOLDER.glob("*.[ch]")))],
    define_macros=[("SOURCE", f'"{build["source_hash"](FOLDER)}"')] + [("VARIANTS", "1")] * (len(VARIANTS) > 1),
    extra_compile_args=FLAGS,
    extra_link_args=["-pthread"],
    optional=True,
)
setup(
    ext_modules=[library],
    cmdclass={"build_ext": BuildKernels, "build_py": CopyModels},
    use_scm_version={"version_scheme": version_of, "fallback_version": f"{NEXT}.dev0"},  # the latter: where there is no git
)
