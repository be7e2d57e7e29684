"""What every export of a model that was fitted here begins with: its tokenizer. Imports no torch."""

from pathlib import Path

from lmstages.models import storage as model_storage
from lmstages.models.base import LanguageModel
from lmstages.tokenizers import TextTokenizer


def exported_tokenizer(path: Path, model: LanguageModel, tokens: Path) -> TextTokenizer:
    """The tokenizer of the model at ``path``; a UserError where ``tokens`` are those of another one.

    Beside a model that Python saved lies no train split.
    """
    remedy = "give the tokens of its experiment, --tokens FOLDER"
    tokenizer = model_storage.tokenizer_of(path, model, tokens, remedy)
    if (tokens / "train.npy").is_file():
        model_storage.must_be_fitted_on(path, tokens)
    return tokenizer
