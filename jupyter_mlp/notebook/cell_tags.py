"""What a cell asks of whoever verifies it, by its tags: nbclient's and papermill's, and nbval's, which may be comments too.

# NBVAL_IGNORE_OUTPUT        tag nbval-ignore-output      it must run; what it shows is not compared
# NBVAL_RAISES_EXCEPTION     tag raises-exception         that it fails is meant
# NBVAL_SKIP                 tag skip-execution           it is not run
# NBVAL_CHECK_OUTPUT         tag nbval-check-output       it is compared, as all are that say nothing
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from jupyter_mlp.notebook.document import Document

RAISES, SKIPPED = "raises-exception", "skip-execution"  # nbclient's and papermill's words
UNCOMPARED = "nbval-ignore-output"
_COMPARED = "nbval-check-output"
_MEANT = {
    RAISES: RAISES,
    SKIPPED: SKIPPED,
    UNCOMPARED: UNCOMPARED,
    _COMPARED: _COMPARED,
    "nbval-raises-exception": RAISES,
    "nbval-skip": SKIPPED,
    "pytest-validate-ignore-output": UNCOMPARED,  # nbval's older word
}


def asked(source: str, tags: Iterable[object]) -> frozenset[str]:
    """Return what a cell asks for, of RAISES, SKIPPED and UNCOMPARED; its comments win over its tags, as with nbval."""
    lines = (line.strip() for line in source.splitlines())
    comments = [line.lstrip("#").strip() for line in lines if line.startswith("#")]
    said = [
        *sorted(tag for tag in tags if isinstance(tag, str)),
        *(comment.lower().replace("_", "-") for comment in comments if comment.isupper()),
    ]
    found = [_MEANT[one] for one in said if one in _MEANT]
    compared = [one for one in found if one in (UNCOMPARED, _COMPARED)]
    return frozenset(one for one in found if one in (RAISES, SKIPPED)) | frozenset(one for one in compared[-1:] if one == UNCOMPARED)


def in_nbclients_words(notebook: Document) -> Document:
    """Return the notebook with nbclient's tags where nbval's say the same: nbclient runs it."""
    import nbformat

    node = nbformat.from_dict(notebook.node)
    for cell in notebook.cells:
        wanted = asked(cell.source, cell.tags) & {RAISES, SKIPPED}
        if wanted - cell.tags:
            node.cells[cell.index].metadata["tags"] = [*cell.tags, *sorted(wanted - cell.tags)]
    return replace(notebook, node=node)
