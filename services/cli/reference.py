"""Writes what documents settings, generated from the settings classes: ``.env.example`` and the settings page.

Run ``python -m services.cli.reference`` after changing a setting; a test compares the committed files with this.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from pydantic import AliasChoices
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from libs.adapters.http_settings import HttpSettings
from libs.adapters.settings import StackSettings

SERVICES = ("ingest", "learner", "serving")
ENV_EXAMPLE = Path(".env.example")
SETTINGS_PAGE = Path("docs/reference/settings.md")


def main() -> None:
    """Rewrite both files in the current folder."""
    ENV_EXAMPLE.write_text(env_example())
    SETTINGS_PAGE.write_text(settings_page())


def env_example() -> str:
    """Return the text of ``.env.example``: every variable, commented out, at its default."""
    lines = ["# Every setting at its default. Copy to .env and uncomment what you change."]
    for title, cls, names in _sections():
        lines += ["", f"# --- {title} ---"]
        for name in names:
            field = cls.model_fields[name]
            lines += [f"# {field.description}", f"# {variable(cls, name)}={_default(field)}"]
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """Return the settings reference as Markdown."""
    lines = ["# Settings", "", "Read from the environment and from `.env`. Generated from the settings classes."]
    for title, cls, names in _sections():
        lines += ["", f"## {title.capitalize()}", "", "| variable | default | meaning |", "|---|---|---|"]
        for name in names:
            field = cls.model_fields[name]
            text = (field.description or "").replace("|", "\\|")
            lines.append(f"| `{variable(cls, name)}` | `{_default(field)}` | {text} |")
    return "\n".join(lines) + "\n"


def variable(cls: type[BaseSettings], name: str) -> str:
    """Return the environment variable that sets a field."""
    alias = cls.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return str(alias.choices[0])
    return f"{cls.model_config.get('env_prefix', '')}{name}".upper()


def _sections() -> Iterator[tuple[str, type[BaseSettings], list[str]]]:
    shared = list(StackSettings.model_fields)
    yield "all services", StackSettings, shared
    http = [name for name in HttpSettings.model_fields if name not in shared]
    yield "ingest and serving", HttpSettings, http
    shared += http
    for service in SERVICES:
        cls: type[BaseSettings] = import_module(f"services.{service}.settings").Settings
        yield service, cls, [name for name in cls.model_fields if name not in shared]


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


if __name__ == "__main__":
    main()
