"""The harness that runs pages would tell: what is wrong on a page does not pass."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents import Execution, all_blocks


def page(*blocks: str) -> str:
    """Return a page of these blocks, each with its language on the first line."""
    return "\n".join(f"```{block}\n```\n" for block in blocks)


def test_output_that_differs_is_put_right(tmp_path: Path) -> None:
    """What a command really prints replaces what stands there; names and times alone do not."""
    told = page("python\n# hello.py\nprint('hello')", "console\n$ python hello.py\ngoodbye")
    assert Execution(tmp_path).rewritten(told) == told.replace("goodbye", "hello")
    timed = page("python\n# timed.py\nprint('in 0.25s')", "console\n$ python timed.py\nin 7.00s")
    assert Execution(tmp_path).rewritten(timed) == timed


def test_blocks_without_a_name_share_what_they_define(tmp_path: Path) -> None:
    """With each other, and with the files above them; an error has the line of the page."""
    execution = Execution(tmp_path, "page.md")
    told = page("python\n# names.py\nONE = 1", "python\nTWO = ONE + 1", "python\nassert TWO == 2")
    assert execution.rewritten(told) == told
    with pytest.raises(AssertionError, match=r'page\.md", line 2, in <module>\n(.*\n)*ZeroDivisionError'):
        execution.rewritten(page("python\n1 / 0"))


def test_export_holds_for_what_is_below(tmp_path: Path) -> None:
    """As in a shell, for Python and for commands."""
    told = page(
        'console\n$ export COLOUR="$(echo blue)"',
        "python\nimport os\nassert os.environ['COLOUR'] == 'blue'",
        "python\n# colour.py\nimport os\nprint(os.environ['COLOUR'])",
        "console\n$ python colour.py\nblue",
    )
    assert Execution(tmp_path).rewritten(told) == told


def test_command_that_is_not_run_says_why(tmp_path: Path) -> None:
    """Whoever writes one that cannot be run has to say so, where a reader of the source sees it."""
    told = page("console\n$ rm -rf /tmp/nothing")
    with pytest.raises(AssertionError, match="not run: REASON"):
        Execution(tmp_path).rewritten(told)
    marked = f"<!-- not run: it would delete something -->\n{told}"
    assert Execution(tmp_path).rewritten(marked) == marked
    (block,) = all_blocks(marked)
    assert (block.language, block.reason) == ("console", "it would delete something")


def test_change_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    """A diff of lines that are not in the file is a mistake of the page."""
    told = page("python\n# one.py\nONE = 1", "diff\n# one.py\n-TWO = 2\n+TWO = 3")
    with pytest.raises(AssertionError, match=r"one\.py has these lines 0 times"):
        Execution(tmp_path).rewritten(told)
