"""The kernel of a report: the Python that publishes it, with an ear for what it reads.

So a notebook need not say which runs it uses, and cannot forget one. `python -m mdw.report.kernel NOTES RUNS ...` is ipykernel
that appends to NOTES, a line each, the paths below this package or the folder RUNS that it meets: a file that is opened, a
folder that is looked through, or a run that `runs.folder` is asked for, there or not.
"""

import os
import sys
import warnings
from pathlib import Path

LOG, NOTES = "kernel.log", "reads.txt"
PACKAGE = Path(__file__).resolve().parents[1]
EVENTS = {"open", "os.scandir", "os.listdir", "mdw.run"}


def manager(scratch: Path, report: Path, runs: str, threads: int | None = None) -> type:
    """A kernel manager class whose kernel is this very Python: an installed kernelspec may point to another one.

    scratch: a folder for its own files, among them LOG, the last words of a process that dies, and NOTES. report: the folder
    that the notebook's code learns from MDW_REPORT. runs: the folder of training runs. threads: of its
    computation; None is torch's choice.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    # a profile folder of its own: two kernels that start together must not write the same one
    own = {"IPYTHONDIR": str(scratch / "ipython"), "MDW_REPORT": str(report), "PYTHONHASHSEED": "0"}
    own |= {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "mdw.report.kernel", str(scratch / NOTES), os.path.abspath(runs)]

    class OwnPython(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(
                argv=[*command, "-f", "{connection_file}", "--HistoryManager.enabled=False"],
                env=own,
                display_name="Python",
                language="python",
            )

        async def start_kernel(self, **options: object) -> None:
            with open(scratch / LOG, "wb") as log:
                await super().start_kernel(stdout=log, stderr=log, **options)

        @default("connection_file")
        def _connection_file(self) -> str:
            return str(scratch / "kernel.json")

        @default("transport")
        def _transport(self) -> str:  # sockets are files in `scratch`: two kernels cannot be given the same port
            return "ipc" if os.name == "posix" else "tcp"

    return OwnPython


def noted(scratch: Path) -> list[str]:
    """The paths that the kernel of `scratch` has met; none where it never started."""
    path = scratch / NOTES
    return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if path.exists() else []


def listen(notes: str, *roots: str) -> None:
    """Append to the file `notes` every path below `roots` that this process has imported, and from now on meets, once each."""
    lines, seen = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), set()

    def note(path: str) -> None:
        if path not in seen and path.startswith(roots):
            seen.add(path)
            os.write(lines, f"{path}\n".encode("utf-8", "surrogateescape"))

    def hear(event: str, arguments: tuple) -> None:
        if event in EVENTS and isinstance(arguments[0], str | bytes | os.PathLike):  # a number is a file opened before
            note(os.path.abspath(os.fsdecode(arguments[0])))

    for module in list(sys.modules.values()):
        note(getattr(module, "__file__", None) or "")
    sys.addaudithook(hear)


if __name__ == "__main__":
    notes, runs = sys.argv[1:3]
    sys.argv[1:3] = []
    listen(notes, runs, str(PACKAGE))
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's advice to who watches a notebook; nobody does

    from ipykernel.kernelapp import launch_new_instance

    launch_new_instance()
