"""What a person reads when the stream has been played: how it went, and what to try next."""

from pathlib import Path

from rich.console import Console

from examples.movielens.live import Addresses
from examples.movielens.report import Report


def show_summary(
    console: Console, report: Report, written: Path, addresses: Addresses, folder: Path, user: str
) -> None:
    """Print it."""
    for line in (*results(report, written, folder), "", *next_steps(addresses, user)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def results(report: Report, written: Path, folder: Path) -> list[str]:
    """Return how it went."""
    clicks, freshness = report.clicks_per_request, report.freshness_s
    return [
        f"{report.requests:,} requests and {report.interactions:,} interactions in {report.duration_s:.0f} s, "
        f"{report.updates:,} updates, {report.lag_records} records left unread",
        f"clicks per request in the last fifth: moard {clicks['moard']:.2f}, popularity so far "
        f"{clicks['popularity']:.2f}, random {clicks['random']:.2f}",
        *(
            f"  by fifths, {ranker}: {', '.join(f'{value:.2f}' for value in fifths)}"
            for ranker, fifths in report.clicks_per_request_by_fifth.items()
        ),
        f"from a click to rankings that learned from it: p50 {freshness['p50']} s, p95 {freshness['p95']} s",
        f"impressions whose history was stale: {100 * report.stale_history:.2f} %",
        f"report: {written}   logs: {folder}",
    ]


def next_steps(addresses: Addresses, user: str) -> list[str]:
    """Return commands that work as printed, on what is running now; ``user`` is somebody of the stream."""
    json = "-H 'Content-Type: application/json'"
    return [
        "What to try next, in another terminal:",
        "  rank for somebody of the stream, and for a stranger",
        f"    curl -s {addresses.serving}/api/v1/rank {json} \\",
        f"""      -d '{{"user_id": "{user}", "candidates": [1, 50, 100, 172, 181, 258, 286, 288, 294], "size": 6}}'""",
        f"    curl -s {addresses.serving}/api/v1/rank {json} \\",
        """      -d '{"user_id": "you", "candidates": [1, 50, 100, 172, 181, 258, 286, 288, 294], "size": 6}'""",
        "  like Star Wars (50) as that stranger, and rank again",
        f"    curl -s {addresses.ingest}/api/v1/events {json} \\",
        """      -d '{"type": "interaction", "user_id": "you", "kind": "like", "content_id": 50}'""",
        "  add a content of your own; it can be ranked at once, by its text",
        f"    curl -s -X PUT {addresses.ingest}/api/v1/contents/5000 {json} \\",
        """      -d '{"title": "A film of mine", "description": "2024 Sci-Fi Adventure"}'""",
        f"  all calls: {addresses.serving}/docs and {addresses.ingest}/docs",
        f"  all figures: {addresses.serving}/metrics, {addresses.ingest}/metrics, {addresses.learner}/metrics",
    ]
