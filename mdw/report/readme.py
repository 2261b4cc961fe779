"""The README's figures: `python -m mdw.report.readme` writes them, its table and two pictures, from the committed records."""

from pathlib import Path

import numpy as np
import pandas as pd

from mdw.experiments import studies
from mdw.report import plots, stats, tables
from mdw.report.claims.outcome import NOT_RUN
from mdw.report.names import signed
from mdw.report.pages import fig5, people, practitioner, study
from mdw.util.errors import MdwError
from mdw.util.files import write_text

RECIPE, SEEDS = studies.ON_PEOPLE, studies.SEEDS
BEGIN, END = "<!-- written by `python -m mdw.report.readme` -->", "<!-- until here -->"
FIGURE, POSES = "lspet.svg", "poses.jpg"  # in docs/


def block(runs: str | Path = "runs") -> str:
    """The part of the README that the records decide, as Markdown: what was found, the table, the pictures.

    A network is in the table once, whatever tables it belongs to; imports torch to count what networks cost.
    """
    page, metric = people.PeoplePage(RECIPE, SEEDS, runs), people.UNIT
    everything, judged, noise = page.everything, page.tested, page.noise
    always = [row.label for name in ("lspet", "table5") for row in studies.STUDIES[name] if row not in studies.POOLING]
    first = everything[everything["status"].eq("finished") | everything["label"].isin(always)]
    known = stats.intervals(first.drop_duplicates(["path"]), noise)
    cost = pd.concat([study.costs(name, labels=set(known["label"])) for name in studies.ASKED])
    cost = cost.drop_duplicates("label").set_index("label")
    lines = [
        f"| network | parameters | multiply-adds, 256x192 | {metric} | 95 % interval | seeds |",
        "|---|---|---|---|---|---|",
        *(_line(row, cost.loc[row["label"]]) for row in known.sort_values("mean", ascending=False).to_dict("records")),
    ]
    words = [
        f"{people.in_short(judged, page.study)} {tables.shared_recipe(page.study)}",
        f"{study.noise_in_words(first, noise)} {study.ceiling(everything)} {study.length(everything)} "
        f"{people.readings_in_words(page.other_readings, noise)}".rstrip(),
        practitioner.in_words(practitioner.records(runs)),
        f"The questions of the study, as `mdw/experiments/studies.py` lists them. {study.how_judged(judged, metric)} "
        f"{study.confound(RECIPE)}",
        "\n".join(
            [
                f"| | question | effect, {metric} | adjusted interval | detectable | verdict |",
                "|---|---|---|---|---|---|",
                *(_answer(row) for row in judged.to_dict("records")),
            ]
        ),
    ]
    shown = (
        f"![{metric} on LSPET over parameters, a mark for each run](docs/{FIGURE})\n\n"
        f"![Poses found by the shipped network on twelve bundled photos](docs/{POSES})\n\n"
        "Found by the network that comes with the package, the largest person of each photo: a row each of the best, the "
        "middle and the worst. Photos from COCO, CC BY and CC BY-SA, [one by one](mdw/photos/ATTRIBUTION.md)."
    )
    return "\n\n".join([words[0], "\n".join(lines), *words[1:], shown])


def _line(row: dict, cost: pd.Series) -> str:
    done = row["n"] > 0
    interval = f"{row['low']:.1f} to {row['high']:.1f}" if done and pd.notna(row["low"]) else "unknown" if done else ""
    cells = [
        row["label"],
        f"{cost['params M']:.3f} M",
        f"{cost['executed M']:.1f} M",
        f"{row['mean']:.1f}" if done else NOT_RUN,
        interval,
        str(row["n"]) if done else "",
    ]
    return f"| {' | '.join(cells)} |"


def _answer(row: dict) -> str:
    """One line of the table of questions."""
    known, sure = pd.notna(row["difference"]), pd.notna(row["low"])
    cells = [
        row["id"],
        row["claim"],
        signed("{:+.1f}", row["difference"]) if known else "",
        f"{signed('{:+.1f}', row['low'])} to {signed('{:+.1f}', row['high'])}" if sure else "unknown" if known else "",
        signed("{:.1f}", row["detectable"]) if sure else "",
        row["outcome"],
    ]
    return f"| {' | '.join(cells)} |"


def figure(runs: str | Path = "runs") -> str:
    """Fig. 5 of the measured runs alone, as an SVG file's text. Raises MdwError where no run of the study is finished."""
    trained = study.rows("lspet", RECIPE, SEEDS, runs)
    measured = fig5.measured(trained)
    if measured.empty:
        raise MdwError(
            f"{runs} holds no finished run of the recipe {RECIPE}; `mdw reproduce lspet --preset {RECIPE}` makes them"
        )
    fig, ax = plots.new(height=3.6)
    name = fig5.accuracy(trained)
    plots.complexity_accuracy(ax, measured, fig5.PARAMETERS, name, log=True)
    return plots.svg(fig, "lspet", f"{measured['label'].nunique()} networks by {fig5.PARAMETERS} and {name}.")[0]


def replaced(text: str, block: str) -> str:
    """`text` with `block` between its two marks. Raises MdwError where it does not have both."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise MdwError(f"README.md needs the two lines {BEGIN} and {END}, each once")
    return f"{text[: text.index(BEGIN)]}{BEGIN}\n{block}\n{text[text.index(END) :]}"


def poses() -> np.ndarray:
    """A sheet of twelve bundled photos, RGB uint8: best, middle and worst by OKS, of each photo the largest person.

    Of those with five labelled joints, which OKS needs to say anything.
    """
    from mdw.inference.draw import sheet
    from mdw.models.weights import shipped
    from mdw.report.pages import qualitative

    people = qualitative.find(shipped(), least=5)
    largest = {person.photo: person for person in sorted(people, key=lambda person: person.box[2] * person.box[3])}
    groups = qualitative.chosen([person for person in people if person is largest[person.photo]], 4)
    return sheet([qualitative.drawn(person) for group in groups.values() for person in group], 4, (192, 256))


def main() -> None:
    """Write README.md's block, docs/lspet.svg and docs/poses.jpg, from the project's folder."""
    from mdw.inference.draw import write_image

    readme = Path("README.md")
    text = replaced(readme.read_text(encoding="utf-8"), block())
    write_text(Path("docs") / FIGURE, figure())
    write_image(Path("docs") / POSES, poses())
    write_text(readme, text)


if __name__ == "__main__":
    main()
