"""Writes the reference of the ``moard`` command: ``python -m services.cli.commands`` after changing a command.

A test compares the committed page with this.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperArgument, TyperGroup

PAGE: Final = Path("docs/reference/cli.md")
_INTRODUCTION: Final = """# The `moard` command

Generated from the commands themselves by `python -m services.cli.commands`.

- Tables are for people; `--json` is for programs, and prints nothing else to standard output. Progress goes to standard
  error.
- Exit codes: 0 done; 1 something that was needed did not answer, or what was looked at is not well; 2 refused: a
  setting or an argument is wrong, and the message names it with the remedy.
- `moard --install-completion` teaches your shell to complete commands and options.
- Settings come from the environment and `.env`, the same as the services': [settings](settings.md).
"""
_EVERYWHERE: Final = ("help", "install_completion", "show_completion")
_ROOT: Final = "moard"


def main() -> None:
    """Rewrite the page in the current folder."""
    PAGE.write_text(page())


def page() -> str:
    """Return the page as Markdown."""
    from services.cli.__main__ import app

    return "\n".join([_INTRODUCTION, *_described(typer.main.get_command(app), _ROOT)]).rstrip("\n") + "\n"


def _described(command: Any, path: str) -> Iterator[str]:
    if path != _ROOT:
        level = "#" * (1 + len(path.split()[1:]))
        yield from (f"{level} `{_usage(command, path)}`", "", _text(command.help or ""), "", *_options(command))
    if isinstance(command, TyperGroup):
        for name in sorted(command.commands):
            yield from _described(command.commands[name], f"{path} {name}")


def _usage(command: Any, path: str) -> str:
    if isinstance(command, TyperGroup):
        return f"{path} …"
    own = [each for each in command.params if each.name not in _EVERYWHERE]
    arguments = [_named(each) for each in own if isinstance(each, TyperArgument)]
    return " ".join([path, *(["[OPTIONS]"] if len(own) > len(arguments) else []), *arguments])


def _named(argument: TyperArgument) -> str:
    name = argument.metavar or str(argument.name).upper()
    return name if argument.required else f"[{name}]"


def _options(command: Any) -> list[str]:
    rows = [_row(each) for each in command.params if each.name not in _EVERYWHERE]
    return ["| | | default |", "|---|---|---|", *rows, ""] if rows else []


def _row(parameter: Any) -> str:
    argument = isinstance(parameter, TyperArgument)
    names = f"`{_named(parameter)}`" if argument else ", ".join(f"`{name}`" for name in parameter.opts)
    shown = parameter.default
    default = "" if shown in (None, False, ()) or callable(shown) else f"`{shown}`"
    text = (parameter.help or "").replace("|", "\\|")
    return f"| {names} | {text} | {'required' if parameter.required else default} |"


def _text(help_text: str) -> str:
    return "\n".join(line.rstrip() for line in help_text.replace("\f", "").strip().splitlines())


if __name__ == "__main__":
    main()
