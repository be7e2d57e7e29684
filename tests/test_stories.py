"""``count`` limits the stories that are downloaded, and is refused for other sources."""

import pytest

from lmstages.config.sections import Corpus


def test_count_limits_the_downloaded_stories_of_train():
    corpus = Corpus(source="tinystories", count=500)
    assert (corpus.stories("train"), corpus.stories("validation")) == ("500", "all")
    assert Corpus(source="tinystories").stories("train") == "all"


def test_count_of_a_text_that_is_one_file_is_refused():
    with pytest.raises(ValueError, match="count belongs to the sources coined, fables, tinystories"):
        Corpus(source="names", count=100)
