"""What people say about answers: recorded, added up, and turned into examples.

    feedback = Feedback(database)
    await feedback.record(answer.call_id, Vote(useful=True), user="u-17", tenant_id="acme")
    found = await feedback.insights(tenant_id="acme")
    await feedback.export(Path("evaluation.jsonl"), tenant_id="acme")

The signals themselves are in `motadata.core.models`. Which prompt and which model a call had, and
what was asked where the platform keeps it, is the usage log's to know.
"""

from motadata.gateway.feedback._examples import Example, ExampleForm
from motadata.gateway.feedback._feedback import Feedback


__all__ = [
    "Example",
    "ExampleForm",
    "Feedback",
]
