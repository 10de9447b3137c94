"""Which settings of an agent differ from the defaults: a bench of the product's own agent says what it changed."""

from dataclasses import fields

from libs.rl.settings import AgentSettings


def differences(settings: AgentSettings) -> str:
    """Return one line that names every setting that is not its default.

    >>> differences(AgentSettings(gamma=0.5))
    'settings: gamma 0.5 instead of 0.9'
    >>> differences(AgentSettings())
    'settings: the defaults'
    """
    defaults = AgentSettings()
    pairs = ((each.name, getattr(settings, each.name), getattr(defaults, each.name)) for each in fields(AgentSettings))
    changed = [f"{name} {ours} instead of {default}" for name, ours, default in pairs if ours != default]
    return f"settings: {', '.join(changed) or 'the defaults'}"
