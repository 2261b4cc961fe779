"""The other variants of GCM: which networks their rows are, which one the committed run is, and what is said of them."""

from places import ROOT
from report_helpers import write_study

import mdw
from mdw.experiments import studies
from mdw.models.context import GCM_C, GCM_S
from mdw.report.pages import people
from mdw.report.pages.people import PeoplePage
from mdw.training.runs import Run


def starts(row: studies.Row) -> tuple[set[str], set[str]]:
    """Where the gates of GCM_C and of GCM_S begin in the network of a row."""
    modules = list(mdw.create_model(row.model, **row.options).modules())
    spatial = {gate.gate_start for module in modules if isinstance(module, GCM_S) for gate in module.gates}
    return {module.gate_start for module in modules if isinstance(module, GCM_C)}, spatial


def test_the_rows_are_the_networks_that_they_say():
    ours, *others = studies.STUDIES["lspet_variants"]
    assert others == [studies.FROM_ONE, studies.GCM_C_FROM_ONE, studies.PARALLEL] and ours.options == {}
    assert starts(ours) == ({"half"}, {"half"}) == starts(studies.PARALLEL)
    assert starts(studies.FROM_ONE) == ({"one"}, {"one"}) and starts(studies.GCM_C_FROM_ONE) == ({"one"}, {"half"})
    assert mdw.create_model(studies.PARALLEL.model, **studies.PARALLEL.options).stage0[0].layers[0].order == "parallel"
    committed = Run(ROOT / "runs" / "mdw_hrnet_18-lspet-lspet_small-s0-7a6c0223")
    assert committed.spec["options"] == {"gate": "double"} == studies.GCM_C_FROM_ONE.options


def test_each_reading_is_said_as_what_it_is(tmp_path):
    def told(**values) -> str:
        write_study(tmp_path, "lspet_variants", "lspet_small", values)
        page = PeoplePage("lspet_small", [0, 1], tmp_path)
        return people.variants_in_words(page.variant_runs, page.noise)

    half, one, channel = "MDW-HRNet-18", studies.FROM_ONE.label, studies.GCM_C_FROM_ONE.label
    assert told() == told(**{half: (48.0, 49.0)}) == ""
    words = told(**{half: (48.0, 49.0), channel: (15.0, 15.5)})
    assert (
        "MDW-HRNet-18 with GCM_C's gates beginning at one and GCM_S's at one half reaches 2" in words
        and "(2 seeds), −" in words
    )
    assert "against both beginning at one half: contradicted." in words
    assert words.endswith("Not run: with gates that begin at one and with GCM in parallel, PSA's own form.")
    words = told(**{half: (48.0, 49.0), channel: (15.0, 15.5), one: (80.0, 81.0), studies.PARALLEL.label: (48.0, 49.0)})
    assert "with gates that begin at one reaches 7" in words and "against gates that begin at one half: holds." in words
    assert "against one gate behind the other: undecided." in words and "Not run" not in words
