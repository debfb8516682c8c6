"""The command `spillover`: a lazy group of commands, and what each way of ending means to a shell.

Exit codes: 0 done, 1 some cells failed (named, resumable), 2 usage or bad input, 3 something is missing on the machine
(with the command that fixes it), 4 cost limit reached, 130 interrupted after saving. `audit` has two more: 10 a person
should look at the data, 20 the data should not be trained on.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

import click

from spillover import __version__
from spillover.errors import SpilloverError, UserError
from spillover.registry import did_you_mean, resolve
from spillover.text import clean

COMMANDS = {
    "run": ("spillover.cli.study:run", "Run a study, or resume one."),
    "plan": ("spillover.cli.study:plan", "Estimate the cost of a study before anything runs."),
    "status": ("spillover.cli.results:status", "Show the progress of a run and its failures."),
    "fetch": ("spillover.cli.results:fetch", "Copy a run from its mirror to this machine."),
    "report": ("spillover.cli.results:report", "Write the report page and results.json of a run."),
    "predict": ("spillover.cli.results:predict", "Relate features of data sets to misalignment; save a predictor."),
    "direction": ("spillover.cli.directions:direction", "List activation directions, or save one."),
    "rank": ("spillover.cli.results:rank", "Rank the cells of a run, with significance."),
    "transfer": ("spillover.cli.results:transfer", "Show the cross-domain transfer matrix."),
    "audit": ("spillover.cli.auditing:audit", "Check whether a data set is safe to fine-tune on."),
    "serve": ("spillover.cli.auditing:serve", "Serve audits over HTTP."),
    "import": ("spillover.cli.import_:import_", "Import existing completions and rank them."),
    "judge": ("spillover.cli.judging:judge", "Judge a run with another judge, or fit the embedded judge."),
    "agree": ("spillover.cli.judging:agree", "Measure the agreement of two judges of a run."),
    "label": ("spillover.cli.judging:label", "Write a sheet of completions for human labelling, or read it back."),
    "echo": ("spillover.cli.results:echo", "Separate in-domain responses from misalignment elsewhere."),
    "steer": ("spillover.cli.directions:steer", "Steer models with the run's directions and with random ones."),
    "dataset": ("spillover.cli.dataset:dataset", "Build data sets, lint them, and release them safely."),
    "inspect-mask": ("spillover.cli.rows:inspect_mask", "Show which tokens of a data set carry loss."),
    "list": ("spillover.cli.names:list_", "List domains, judges, triggers and other names for study files."),
    "show": ("spillover.cli.names:show", "Show a domain, a question set, or completions of a run."),
    "power": (
        "spillover.cli.power:power",
        "Estimate how many questions, completions and seeds a target precision needs.",
    ),
    "doctor": ("spillover.cli.machine:doctor", "Check this machine and show how to fix problems."),
    "env": ("spillover.cli.machine:env", "Print versions and hardware."),
    "models": ("spillover.cli.models:models", "Pull and list the embedded models."),
}


class LazyGroup(click.Group):
    """Imports a command's module only when the command is used, so that --help stays fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return resolve(COMMANDS[cmd_name][0]) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}{did_you_mean(args[0], list(COMMANDS))}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of our output left, as `| head` does; click would call that a failure
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "SPILLOVER"})
@click.version_option(__version__, prog_name="spillover")
def cli() -> None:
    """Measure how narrow fine-tuning spills over into broad misalignment."""


def main(args: list[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        plain = False if os.environ.get("NO_COLOR") else None
        code: Any = cli.main(args=args, prog_name="spillover", standalone_mode=False, color=plain)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except SpilloverError as error:
        click.echo(f"spillover: {clean(str(error))}", err=True)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("spillover: interrupted.", err=True)
        code = 130
    except OSError as error:
        if error.filename is None:
            raise
        told = f"{error.filename}: {error.strerror}. Give a path that can be read and written."
        click.echo(f"spillover: {clean(told)}", err=True)
        code = UserError.exit_code
    sys.exit(code if isinstance(code, int) else 0)


def _as_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
