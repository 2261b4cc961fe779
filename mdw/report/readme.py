"""What README and docs/ say of the committed records: `python -m mdw.report.readme` writes it, and two images."""

from pathlib import Path

import numpy as np
import pandas as pd

from mdw.data import coco
from mdw.experiments import studies
from mdw.report import plots, speed, stats, tables
from mdw.report.claims.outcome import NOT_RUN
from mdw.report.names import signed
from mdw.report.pages import fig5, people, practitioner, study
from mdw.training import recipes
from mdw.util.errors import MdwError
from mdw.util.files import write_text

RECIPE, SEEDS = studies.ON_PEOPLE, studies.SEEDS
BEGIN, END = "<!-- written by `python -m mdw.report.readme` -->", "<!-- until here -->"
FIGURE, POSES = "lspet.svg", "poses.jpg"  # in docs/


def answer(runs: str | Path = "runs") -> str:
    """The part of the README that the records decide, as Markdown: what was found, and the images."""
    page = people.PeoplePage(RECIPE, SEEDS, runs)
    return (
        f"**Is MDW-HRNet better?** {people.lead(page.tested)} The article's figures on COCO and MPII are {NOT_RUN}, so they "
        "are neither confirmed nor contradicted. [All figures, and what they mean](docs/study.md).\n\n"
        f"{practitioner.in_words(practitioner.records(runs))}\n\n"
        f"![{people.UNIT} on LSPET over parameters, a mark for each run](docs/{FIGURE})\n\n"
        f"![Poses found by the shipped network on twelve bundled photos](docs/{POSES})\n\n"
        "Found by the network that comes with the package: a row each of the best, the middle and the worst. Photos from COCO, "
        "CC BY and CC BY-SA, [one by one](mdw/photos/ATTRIBUTION.md)."
    )


def hours(runs: str | Path = "runs") -> str:
    """How long the article's training on COCO takes, by the records of the bench, as Markdown; of a GPU maybe not measured."""
    recipe, found = recipes.paper(), speed.records(runs)
    samples = recipe.epochs * coco.PUBLIC_COUNTS["train"]["persons"]
    if len(found):
        found = found[found["model"].eq("mdw_hrnet_18") & found["size"].eq("256x192")].dropna(subset=["train_images_per_s"])
    words = []
    for kind, where in (("cuda", "on a GPU"), ("cpu", "on a CPU")):
        known = found[found["device"].str.startswith(kind)] if len(found) else found
        if known.empty:
            words.append(f"{where}: not measured")
            continue
        best = known.loc[known["train_images_per_s"].idxmax()]
        speed_of, place = best["train_images_per_s"], f"{best['hardware']}, {best['mode']}"
        words.append(f"{where}: {samples / speed_of / 3600:,.0f} hours at {speed_of:.1f} images a second ({place})")
    return f"MDW-HRNet-18 at 256x192, {recipe.epochs} epochs of {samples // recipe.epochs:,} persons: {'; '.join(words)}."


def study_block(runs: str | Path = "runs") -> str:
    """The part of docs/study.md that the records decide, as Markdown: what was found, the table, the questions.

    A network is in the table once, whatever tables it belongs to.
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
        f"{people.variants_in_words(page.variant_runs, noise)}".rstrip(),
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
    return "\n\n".join([words[0], "\n".join(lines), *words[1:]])


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


def replaced(text: str, block: str, name: str = "README.md") -> str:
    """`text`, of the file `name`, with `block` between its two marks. Raises MdwError where it does not have both."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise MdwError(f"{name} needs the two lines {BEGIN} and {END}, each once")
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


BLOCKS = {"README.md": answer, "docs/study.md": study_block, "docs/coco.md": hours}


def main() -> None:
    """Write the blocks, docs/lspet.svg and docs/poses.jpg, from the project's folder."""
    from mdw.inference.draw import write_image

    texts = {name: replaced(Path(name).read_text(encoding="utf-8"), block(), name) for name, block in BLOCKS.items()}
    write_text(Path("docs") / FIGURE, figure())
    write_image(Path("docs") / POSES, poses())
    for name, text in texts.items():
        write_text(Path(name), text)


if __name__ == "__main__":
    main()
