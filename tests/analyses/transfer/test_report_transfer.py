"""The matrix on the page and in the terminal: every square once, stars where a test says so, hostile names tamed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from rich.console import Console

from spillover.analyses.transfer import report as transfer
from spillover.analyses.transfer.grid import TWINS, Grid, coverage, general, grids, headline, sentences
from spillover.analyses.transfer.report import of_grid
from spillover.cli.main import cli
from spillover.records.base import Cell, Condition, Difference, StatusCounts
from spillover.records.report_data import ReportData
from spillover.records.transfer import EVERY, OTHERS, TransferCell
from spillover.study import page
from spillover.study.results import results

DOMAINS = tuple(f"subject_number_{i:02}" for i in range(11))


def contrast(value: float, p_holm: float) -> Difference:
    return Difference(value=value, low=value - 0.2, high=value + 0.2, p=p_holm / 10, p_holm=p_holm)


def square(
    cell: Cell, asked: str, rate: float | None, condition: Condition = "clean", row: float = 1.0, twin: float = 1.0
) -> TransferCell:
    """`row`, `twin`: p-values; the general rate is 0.2 and the twin's 0.1."""
    known = rate is not None
    trained = cell.variant in ("plain", "triggered")
    return TransferCell(
        cell=cell, condition=condition, asked=asked, judge="probe:abc", n=8, counts=StatusCounts(scored=7, refused=1),
        incoherent=1, coherent=6, misaligned=round(6 * (rate or 0)), questions=8, rate=rate,
        low=max(0.0, rate - 0.2) if known else None, high=min(1.0, rate + 0.2) if known else None, mean_alignment=70.0,
        above_row=contrast(rate - 0.2, row) if known else None,
        above_control=contrast(rate - 0.1, twin) if known and trained else None,
    )  # fmt: skip


def made(domains: tuple[str, ...] = DOMAINS, models: tuple[str, ...] = ("m",)) -> list[TransferCell]:
    """Every series; the diagonal of the plain cells is high and distinguished, and one square off it."""
    found: list[TransferCell] = []
    for model in models:
        for domain in domains:
            for variant, condition in (("plain", "clean"), ("triggered", "triggered"), ("triggered", "clean"),
                                       ("control", "clean")):  # fmt: skip
                cell = Cell(model=model, domain=domain, variant=variant, dose=float(variant != "control"))  # type: ignore[arg-type]
                for asked in (*domains, OTHERS):
                    high = variant == "plain" and (asked == domain or (domain, asked) == (domains[0], domains[1]))
                    p = 0.01 if high else 1.0
                    rate = 0.9 if high else 0.2
                    found.append(square(cell, asked, rate, condition, row=p, twin=p))  # type: ignore[arg-type]
        for cell in (
            Cell(model=model, domain=EVERY, variant="control", dose=0.0),
            Cell(model=model, domain="none", variant="base", dose=0.0),
        ):
            found += [square(cell, asked, 0.05) for asked in (*domains, OTHERS)]
    return found


def drawn(svg: str, part: str = " about ") -> list[str]:
    marks = ElementTree.fromstring(svg).iter()
    return [label for mark in marks if part in (label := mark.get("aria-label", "")) and mark.get("role")]


def main() -> Grid:
    return grids(made())[0]


def test_cells_fall_into_grids_in_the_order_in_which_series_are_drawn() -> None:
    found = grids(made(models=("a", "b"))[::-1])
    assert [(g.model, g.name) for g in found] == [
        (model, name)
        for model in ("a", "b")
        for name in ("fine-tuned", "backdoored, with trigger", "backdoored, no trigger", "benign twin (control)")
    ]
    for grid in found:
        assert grid.asked == [*DOMAINS, OTHERS]
        assert [label for label, _ in grid.rows] == [domain.replace("_", " ") for domain in DOMAINS]
        assert [label for label, _ in grid.below] == [TWINS, "base model"]
        assert {c.cell.model for c in grid.cells()} == {grid.model}
        assert len(list(grid.cells())) == 11 * 12


def test_the_general_rate_is_what_every_square_is_held_against() -> None:
    for _, squares in main().rows:
        assert general(squares) == pytest.approx(0.2)


def test_words_count_what_can_be_told_apart_and_say_what_is_at_chance() -> None:
    said = sentences(main(), 0.95)
    assert said[0] == (
        "Of 110 matrix cells off the diagonal, 1 differs significantly from the cell's own general rate (Holm): "
        "subject number 00 about subject number 01 (+70 points)."
    )
    assert said[1].startswith("Of 110 matrix cells off the diagonal, 1 differs significantly")
    assert said[1].endswith("from the benign twin (Holm): subject number 00 about subject number 01 (+80 points).")
    assert said[2].startswith("Of 11 matrix cells on the diagonal (the training domain), 11 differ significantly")
    assert (
        "Asked about all other domains combined, 0 of 11 rows differ significantly from their own general rates."
        in said
    )
    assert said[-1].startswith(
        "A matrix cell has 6 coherent completions, and its 95 % interval is 40 points wide (median)"
    )
    quiet = sentences(grids(made())[2], 0.95)
    assert quiet[0].endswith("0 differ significantly from the cell's own general rate (Holm).")
    assert headline(main(), 0.95) == (
        "Asked about domains that they were not trained on (fine-tuned), 0 of 11 models differ significantly from "
        "their rate on general questions, as do 1 of 110 single pairs of model and domain. Asked about their training "
        "domain, 11 of 11 do."
    )
    assert sentences(main(), 0.999)[2].endswith("0 differ significantly from the cell's own general rate (Holm).")


@pytest.mark.slow
def test_what_the_judge_could_not_score_is_counted() -> None:
    cells = made(DOMAINS[:3])
    single = len([c for c in cells if c.asked != OTHERS and c.cell.domain != EVERY])
    assert coverage(cells).startswith(
        f"The judge scored {7 * single:,} (87.5 %) of {8 * single:,} completions; the fewest about "
    )
    text = transfer.section(cells, 0.95, "probe")
    table = text[text.index("Status of the completions by domain asked") :]
    assert f'<td class="figure">{8 * single // 3}</td>' in table
    assert "in-domain completions" in text.lower()
    assert "embedded probe" not in transfer.section(cells, 0.95, "llm")


@pytest.mark.slow
def test_a_map_has_every_square_once_and_a_star_where_a_test_says_so() -> None:
    parts = list(of_grid(main(), 0.95, full=True))
    figures = [part for part in parts if part.startswith("<figure>")]
    rates, above = ([*re.findall(r"<svg.*?</svg>", part, re.DOTALL)] for part in figures)
    for svg in rates:
        labels = drawn(svg)
        assert len(labels) == len(set(labels)) == 13 * 12
        assert len(drawn(svg, "general questions:")) == 13
        assert svg.count(">*</text>") == 12
        assert svg.count(">[90]</text>") == 11
    for svg in above:
        assert len(drawn(svg)) == 11 * 12
        assert svg.count(">*</text>") == 12
        assert svg.count(">[80]</text>") == 11
    assert len([p for p in of_grid(main(), 0.95, full=False) if p.startswith("<figure>")]) == 1


@pytest.mark.slow
def test_without_twins_the_rates_are_drawn() -> None:
    cells = [c.model_copy(update={"above_control": None}) for c in made() if c.cell.variant in ("plain", "base")]
    (grid,) = grids(cells)
    assert [label for label, _ in grid.below] == ["base model"]
    parts = [p for p in of_grid(grid, 0.95, full=False) if p.startswith("<figure>")]
    assert len(parts) == 1
    assert "benign twin" not in " ".join(sentences(grid, 0.95))


@pytest.mark.slow
def test_what_was_not_measured_is_an_empty_cell() -> None:
    lost = made(DOMAINS[:3])
    lost[1] = square(lost[1].cell, DOMAINS[1], None)
    grid = grids(lost)[0]
    figures = [p for p in of_grid(grid, 0.95, full=True) if p.startswith("<figure>")]
    assert f"{grid.rows[0][0]} about subject number 01: – % of 6 coherent completions" in figures[0]


@pytest.mark.slow
def test_the_page_and_the_results_hold_it(study: ReportData, study_page: str) -> None:
    assert "Cross-domain transfer" not in study_page
    data = replace(study, found={TransferCell: tuple(made(DOMAINS[:3]))})
    text = page.render(data)
    assert '<section id="transfer"><h2>Cross-domain transfer</h2>' in text
    assert "single pairs of model and domain" in text
    assert page.render(data) == text
    rows = results(data)["transfer"]
    assert len(rows) == len(data.of(TransferCell))
    assert rows[0]["above_row"].keys() == {"value", "low", "high", "p", "p_holm"}
    assert {"cell", "domain", "asked", "rate", "counts", "condition"} <= rows[0].keys()
    json.dumps(rows, allow_nan=False)


@pytest.mark.slow
def test_hostile_names_are_shown_and_do_nothing() -> None:
    hostile = ("<script>alert(1)</script>", "[bold]red[/] \x1b[31m", "plain")
    cells = made(hostile)
    text = transfer.section(cells, 0.95, "probe")
    assert "<script" not in text
    assert "\x1b" not in text
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(transfer.table(grids(cells)[0], 0.95, subtracted=False))
    shown = console.export_text()
    assert "[bold]red[/]" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("subtracted", [False, True])
def test_eleven_domains_fit_a_terminal_of_eighty_columns(subtracted: bool) -> None:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    grid = main()
    console.print(transfer.table(grid, 0.95, subtracted))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    rows = [line for line in lines if re.match(r"\d+ subject", line)]
    assert len(rows) == 11
    assert rows[0].split()[4:7] == (["80*", "80*", "10"] if subtracted else ["90*", "90*", "20"])
    assert rows[3].split()[4:9] == (["10"] * 3 + ["80*", "10"] if subtracted else ["20"] * 3 + ["90*", "20"])
    assert transfer.legend(grid).startswith("Asked about: 1 subject number 00, 2 subject number 01,")


def test_a_run_without_the_section_says_what_to_add(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("run")
    (folder / "rows").mkdir()
    (folder / "plan.json").write_text('{"build": [], "train": [], "sample": [], "judge": []}')
    (folder / "study.json").write_text('{"name": "x"}')
    done = CliRunner().invoke(cli, ["transfer", str(folder)])
    assert done.exit_code != 0
    assert "Add 'transfer: {}' to its study file" in str(done.exception)
