"""The kernel of a report: the Python that publishes it, which notes what the report was made from.

So a notebook need not say which runs it uses, and cannot forget one. `python -m mdw.report.site.kernel NOTES` is ipykernel that
writes to NOTES, after every cell, the files of this package that are loaded and what `mdw.report.runs` was asked for.
"""

import json
import os
import sys
import warnings
from pathlib import Path

LOG, NOTES = "kernel.log", "notes.json"
QUIET = ("--HistoryManager.enabled=False", "--InteractiveShellApp.ignore_cwd=True")  # neither a history nor modules from here
PACKAGE = Path(__file__).resolve().parents[2]


def manager(scratch: Path, report: Path, threads: int | None = None) -> type:
    """A kernel manager class whose kernel is this very Python: an installed kernelspec may point to another one.

    scratch: a folder for its own files, among them LOG, the last words of a process that dies, and NOTES. report: the folder
    that the notebook's code learns from MDW_REPORT. threads: of its backend; None is torch's choice.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    # a profile folder of its own: two kernels that start together must not write the same one
    own = {"IPYTHONDIR": str(scratch / "ipython"), "MDW_REPORT": str(report), "PYTHONHASHSEED": "0"}
    own["PYTHONSAFEPATH"] = "1"  # a random.py in the working folder is not the library's
    own |= {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    # -P: a random.py or a folder named mdw where the report is made must not stand in for the modules of that name
    command = [sys.executable, "-P", "-m", "mdw.report.site.kernel", str(scratch / NOTES)]

    class OwnPython(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(
                argv=[
                    *command,
                    "-f",
                    "{connection_file}",
                    "--HistoryManager.enabled=False",
                    "--InteractiveShellApp.ignore_cwd=True",
                ],
                env=own,
                display_name="Python",
                language="python",
            )

        async def start_kernel(self, **options: object) -> None:  # type: ignore[override]  # KernelManager's own is not async
            with open(scratch / LOG, "wb") as log:
                await super().start_kernel(stdout=log, stderr=log, **options)

        @default("connection_file")
        def _connection_file(self) -> str:
            return str(scratch / "kernel.json")

        @default("transport")
        def _transport(self) -> str:  # sockets are files in `scratch`: two kernels cannot be given the same port
            short = len(os.fsencode(scratch / "kernel.json-ipc-5")) < 100  # a socket's name has at most 107 bytes
            return "ipc" if os.name == "posix" and short else "tcp"

    return OwnPython


def noted(scratch: Path) -> dict[str, list[str]]:
    """The notes of `scratch`'s kernel, as `notes`; empty lists where it never ended a cell."""
    path = scratch / NOTES
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"code": [], "runs": [], "folders": []}


def notes() -> dict[str, list[str]]:
    """What this process has loaded and asked for -> "code", files of this package; "runs" and "folders", absolute paths."""
    files = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    asked = getattr(sys.modules.get("mdw.report.runs"), "NOTED", {"runs": [], "folders": []})
    told = {kind: [os.path.abspath(path) for path in paths] for kind, paths in asked.items()}
    return {"code": [file for file in files if file.startswith(str(PACKAGE))]} | told


if __name__ == "__main__":
    path = Path(sys.argv.pop(1))
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's advice to who watches a notebook; nobody does

    import matplotlib
    from ipykernel.kernelapp import IPKernelApp

    matplotlib.rcdefaults()  # a style of the user's, or one that lies in the working folder, is not the report's

    def write(*_: object) -> None:
        path.write_text(json.dumps(notes()), encoding="utf-8")

    application = IPKernelApp.instance()
    application.initialize(sys.argv[1:])
    assert application.shell is not None, "initialize has made it"
    application.shell.events.register("post_run_cell", write)
    application.start()
