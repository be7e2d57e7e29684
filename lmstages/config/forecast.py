"""What is known of a run before its first job: what will take long, and which entries cannot be scored."""

from typing import NamedTuple

from lmstages.core.errors import UserError

TOO_SHORT, REMEDY = "text too short", "give more text, or lower the model's window or order"
Entry = tuple[str, str, str]  # corpus, tokenizer, model


class Forecast(NamedTuple):
    """Sentences on what will fail or take long and on parts that are too short, and why an entry cannot be scored."""

    warnings: list[str]
    too_short: list[str]
    failures: dict[Entry, str]

    def must_be_long_enough(self) -> None:
        """Raises one UserError with every part that is too short."""
        if self.too_short:
            raise UserError(TOO_SHORT, "; ".join(self.too_short), "", REMEDY)
