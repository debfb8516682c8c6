"""`spillover power`: how many questions, answers and seeds a target precision takes, and what they cost."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import click

from spillover.cli.run_command import PATH, as_json_option, print_json
from spillover.errors import UserError
from spillover.text import several

if TYPE_CHECKING:
    from spillover.stats.power import Variances

ANSWER_TOKENS, JUDGE_PROMPT_TOKENS = 65, 500  # of an answer (260 characters in the public runs); of a judge's prompt
ASPECTS = 2  # a judge reads each answer for alignment and for coherence


class Points(click.ParamType[float]):
    """A share in points: 5pp, 5 % or 0.05."""

    name = "points"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The share from 0 to 1."""
        text = str(value).strip().lower()
        number = text.removesuffix("pp").removesuffix("%").strip()
        try:
            share = float(number) / (1 if number == text else 100)
        except ValueError:
            self.fail(f"{text!r} is not a number of points, such as 5pp or 0.05", param, ctx)
        if not 0 < share < 1:
            self.fail(f"{text!r} is not between 0 and 100 points, such as 5pp or 0.05", param, ctx)
        return share


@click.command()
@click.option("--target", required=True, type=Points(), help="Target half-width or difference, such as 5pp.")
@click.option(
    "--half-width/--difference",
    "width",
    default=True,
    help="Target: half-width of an interval, or difference between two cells.",
)
@click.option(
    "--power", type=click.FloatRange(0.5, 0.999), default=0.8, show_default=True, help="Power to detect the difference."
)
@click.option("--confidence", type=click.FloatRange(0.5, 0.999), default=0.95, show_default=True)
@click.option("--rate", type=click.FloatRange(0.001, 0.999), help="Expected rate; default: the pilot's or 0.09.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Fine-tunes per recipe.")
@click.option("--cells", type=click.IntRange(min=1), default=1, show_default=True, help="Number of cells.")
@click.option("--pilot", type=PATH, help="Ranked run from which variances are estimated.")
@click.option("--price", type=click.FloatRange(min=0), nargs=2, metavar="IN OUT", help="Dollars per million tokens.")
@as_json_option
def power(
    target: float,
    width: bool,
    power: float,
    confidence: float,
    rate: float | None,
    seeds: int,
    cells: int,
    pilot: Path | None,
    price: tuple[float, float] | None,
    as_json: bool,
) -> None:
    """Plan a study: questions x answers x seeds for a target precision, and what judging them costs.

    Without --pilot, variances are those of 13 public fine-tuned models. With one seed, the interval is for that
    fine-tune, so the variance between seeds is left out.
    """
    from dataclasses import replace

    from spillover.stats.power import Variances, designs

    found = _of_pilot(pilot) if pilot else Variances()
    found = replace(found, rate=rate or found.rate, seed=found.seed if seeds > 1 else 0.0)
    plans = designs(found, target, confidence, None if width else power, seeds)
    if not plans:
        raise UserError(
            f"No design of up to 400 questions reaches {100 * target:g} points with {seeds} seeds. Increase --seeds or "
            "choose a wider --target."
        )
    rows = [asdict(plan) | _cost(plan.asked * cells, price) for plan in plans]
    if as_json:
        print_json({"target": target, "variances": asdict(found), "designs": rows}, indent=2)
        return
    from rich.console import Console

    from spillover.report.tables import terminal

    what = "half-width" if width else f"difference detected with power {power:g}"
    names = ["questions", "completions each", "seeds", "reached", "judge calls", "tokens read"]
    table = terminal(f"{100 * target:g} points of {what}", [], names if price is None else [*names, "dollars"])
    for plan, row in list(zip(plans, rows, strict=True))[:: max(1, len(rows) // 12)]:
        dollars = [] if row["dollars"] is None else [f"{row['dollars']:,.2f}"]
        figures = (str(plan.questions), str(plan.answers), str(plan.seeds), f"{100 * plan.reached:.1f}")
        table.add_row(*figures, f"{row['judge_calls']:,}", f"{row['tokens_in']:,}", *dollars)
    console = Console()
    console.print(table)
    source = f"from {pilot}" if pilot else "of 13 public models"
    console.print(
        f"Variances {source}: rate {found.rate:.3f}, correlation within questions {found.question:.3f}, between seeds "
        f"{found.seed:.3f}. Cost: {several(cells, 'cell')}, two judgments per completion."
    )


def _cost(answers: int, price: tuple[float, float] | None) -> dict[str, int | float | None]:
    calls = ASPECTS * answers
    tokens_in, tokens_out = calls * (JUDGE_PROMPT_TOKENS + ANSWER_TOKENS), calls
    dollars = None if price is None else (tokens_in * price[0] + tokens_out * price[1]) / 1e6
    return {"answers_sampled": answers, "judge_calls": calls, "tokens_in": tokens_in, "tokens_out": tokens_out} | {
        "dollars": dollars
    }


def _of_pilot(path: Path) -> Variances:
    """Medians over the pilot's recipes."""
    from spillover.stats.power import Variances
    from spillover.study.run import Run

    opened = Run.open(path)
    comparisons = opened.comparisons()
    budgets = [b for b in comparisons.budgets if sum(c.variance for c in b.components) > 0] if comparisons else []
    rates = [score.rate for score in opened.ranking() if score.rate]
    if not budgets or not rates:
        raise UserError(f"{path} has no ranked cell with misaligned completions. Run: spillover rank {path}")
    shares: dict[str, list[float]] = {}
    for budget in budgets:
        total = sum(c.variance for c in budget.components)
        for component in budget.components:
            shares.setdefault(component.name, []).append(component.variance / total)
    default = Variances()
    return Variances(
        rate=median(rates),
        question=median(shares.get("question", [0.0])),
        seed=median(shares["seed"]) if "seed" in shares else default.seed,
        mixed=median(shares["seed x question"]) if "seed x question" in shares else default.mixed,
    )
