"""``python -m infra.migrations``: bring DATABASE_URL to the newest schema."""

import sys

from infra.migrations import upgrade
from libs.adapters.settings import StackSettings, load_settings
from libs.errors import RefusedStart, StoreUnavailable


def main() -> int:
    """Migrate and return the exit status."""
    try:
        upgrade(load_settings(StackSettings).database_url)
    except (RefusedStart, StoreUnavailable) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
