"""The command line: one module a command. The only package that prints or chooses an exit code.

Exit codes: 0 ok, 1 a gate failed, 2 usage or bad input, 3 proved infeasible, 70 a bug, 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from helixplan.cli.calibrate import calibrate
from helixplan.cli.catalogs import hardware, models, schema
from helixplan.cli.check import check
from helixplan.cli.compare import compare
from helixplan.cli.diff import diff
from helixplan.cli.draw import draw
from helixplan.cli.estimate import estimate
from helixplan.cli.explain import explain
from helixplan.cli.export import export
from helixplan.cli.frontier import frontier
from helixplan.cli.options import as_typed
from helixplan.cli.plan import plan
from helixplan.cli.reproduce import reproduce
from helixplan.cli.validate import validate
from helixplan.cli.verify import verify
from helixplan.errors import HelixplanError, InfeasibleError, RegressionFound
from helixplan.version import __version__

app = typer.Typer(
    name="helixplan",
    help="Plan exact, proved Helix-parallelism layouts for decoding large language models at long contexts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("plan")(plan)
app.command("estimate")(estimate)
app.command("frontier")(frontier)
app.command("compare")(compare)
app.command("reproduce")(reproduce)
app.command("calibrate")(calibrate)
app.command("validate")(validate)
app.command("explain")(explain)
app.command("verify")(verify)
app.command("draw")(draw)
app.command("export")(export)
app.command("diff")(diff)
app.command("check")(check)
app.command("schema")(schema)
app.add_typer(models, name="models")
app.add_typer(hardware, name="hardware")


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"helixplan {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


def exit_code_of(error: HelixplanError) -> int:
    """The code a script sees for each kind of error."""
    if isinstance(error, RegressionFound):
        return 1
    return 3 if isinstance(error, InfeasibleError) else 2


def main() -> None:
    """The console script. Never a traceback for a user's own mistake."""
    try:
        app(prog_name="helixplan")
    except RegressionFound as error:
        sys.stderr.write("".join(f"error: {failure}\n" for failure in error.failures))
        sys.exit(1)
    except HelixplanError as error:
        sys.stderr.write(f"error: {as_typed(error)}\n")
        sys.exit(exit_code_of(error))
    except OSError as error:
        sys.stderr.write(f"error: {error.strerror or error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        traceback.print_exc()
        sys.stderr.write("error: this is a bug in helixplan, not a mistake of yours; please report the lines above\n")
        sys.exit(70)
