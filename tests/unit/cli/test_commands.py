from pathlib import Path

from services.cli import commands


def test_the_reference_of_the_command_is_current() -> None:
    committed = Path(__file__).parents[3] / commands.PAGE
    assert committed.read_text() == commands.page(), "run: python -m services.cli.commands"


def test_every_command_option_and_argument_says_what_it_is() -> None:
    page = commands.page()
    for name in ("moard lag", "moard doctor", "moard user delete", "moard model pin"):
        assert f"`{name}" in page
    assert "|  | required |" not in page
