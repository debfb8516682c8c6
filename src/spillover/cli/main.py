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
    "run": ("spillover.cli.run:run", "Run a study, or resume one."),
    "plan": ("spillover.cli.plan:plan", "Say what a study will cost before anything runs."),
    "status": ("spillover.cli.status:status", "Say how far a run is and what failed."),
    "fetch": ("spillover.cli.fetch:fetch", "Copy a run from its mirror."),
    "report": ("spillover.cli.report:report", "Write the report page and results.json of a run."),
    "predict": ("spillover.cli.predict:predict", "Relate what is known of data sets to the damage."),
    "direction": ("spillover.cli.direction:direction", "List directions in the residual stream, or save one."),
    "rank": ("spillover.cli.rank:rank", "Rank a run, only as far as the data can tell."),
    "transfer": ("spillover.cli.transfer:transfer", "Say who transfers what to which domain."),
    "audit": ("spillover.cli.audit:audit", "Say whether a data set is safe to fine-tune on."),
    "serve": ("spillover.cli.serve:serve", "Offer audits over HTTP."),
    "import": ("spillover.cli.import_:import_", "Bring your own answers and rank them."),
    "judge": ("spillover.cli.judge:judge", "Judge a run again, or fit the embedded judge."),
    "agree": ("spillover.cli.agree:agree", "Say how far two judges of a run agree."),
    "label": ("spillover.cli.label:label", "Give answers of a run to people to label."),
    "echo": ("spillover.cli.echo:echo", "Tell answers in the training subject from misalignment elsewhere."),
    "steer": ("spillover.cli.steer:steer", "Steer a run's models with its directions, compared with random ones."),
    "dataset": ("spillover.cli.dataset:dataset", "Make data sets, lint them, release them safely."),
    "inspect-mask": ("spillover.cli.inspect_mask:inspect_mask", "Show which tokens of a data set carry loss."),
    "list": ("spillover.cli.list:list_", "List what a study file can name: domains, judges, triggers, ..."),
    "show": ("spillover.cli.show:show", "Show one domain, question set, or the answers of a run."),
    "power": ("spillover.cli.power:power", "Plan questions, answers and seeds for a wished precision."),
    "doctor": ("spillover.cli.doctor:doctor", "Check this machine and say what to fix."),
    "env": ("spillover.cli.env:env", "Print versions and hardware."),
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
