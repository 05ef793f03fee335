"""docs/logs.md explains every outcome that is counted, in the words of the code."""

import ast
import re
from pathlib import Path

from peekaping_producer.observe import outcomes
from peekaping_producer.observe.outcomes import Outcome

SOURCE = Path(outcomes.__file__)
DOCS = (SOURCE.parents[3] / "docs" / "logs.md").read_text(encoding="utf-8")


def _docstrings() -> dict[str, str]:
    (enum,) = [node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.ClassDef)]
    values = [ast.literal_eval(node.value) for node in enum.body if isinstance(node, ast.Assign)]
    texts = [str(ast.literal_eval(node.value)) for node in enum.body[1:] if isinstance(node, ast.Expr)]
    return {value: " ".join(text.split()) for value, text in zip(values, texts, strict=True)}


def test_the_docs_explain_every_outcome_as_the_code_does() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", DOCS.partition("## Outcomes")[2], re.MULTILINE)
    assert dict(rows) == _docstrings()
    assert [value for value, _ in rows] == list(Outcome)
