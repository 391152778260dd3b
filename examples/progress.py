"""A progress bar: rich's where it is installed, else one line of text."""

import sys
from contextlib import contextmanager

try:
    from rich.progress import Progress
except ImportError:
    Progress = None

WIDTH = 30


@contextmanager
def progress_bar(title, total):
    """Yields a function that is called once a step with a short text, such as the loss."""
    if Progress is None:
        yield _text_bar(title, total)
        return
    with Progress() as bar:
        task = bar.add_task(title, total=total)
        yield lambda text: bar.update(task, advance=1, description=f"{title} {text}")


def _text_bar(title, total):
    done = 0

    def advance(text):
        nonlocal done
        done += 1
        filled = WIDTH * done // total
        # A file gets the full bar only, a terminal sees it grow.
        if sys.stdout.isatty() or done == total:
            end = "\n" if done == total else ""
            print(f"\r{title} {text} [{'#' * filled:<{WIDTH}}] {done}/{total}", end=end, flush=True)

    return advance
