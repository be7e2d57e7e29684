"""The ladder: the ordered list of models, each of which drops one assumption of those before it.

The records of hyperparameters lie in ``hyperparameters``, one file per family. A record's docstring says what the model
adds to the one before it; the report prints it.
"""

from lmstages.config.hyperparameters.attention import GPT, Llama, ModernGPT, Residual
from lmstages.config.hyperparameters.base import ModelConfig
from lmstages.config.hyperparameters.counts import PPM, Bigram, Cache, ContextMixing, KneserNey, Ngram, Uniform, Unigram
from lmstages.config.hyperparameters.neural import GRU, LSTM, MLP, RNN, Autograd, NeuralBigram, WaveNet
from lmstages.config.hyperparameters.quantized import LlamaCpp, LlamaQ4, LlamaQ8

LADDER: tuple[type[ModelConfig], ...] = (
    Uniform,
    Unigram,
    Bigram,
    Ngram,
    KneserNey,
    Cache,
    PPM,
    ContextMixing,
    NeuralBigram,
    Autograd,
    MLP,
    WaveNet,
    RNN,
    GRU,
    LSTM,
    GPT,
    Llama,
    LlamaQ8,
    LlamaQ4,
    LlamaCpp,
    ModernGPT,
    Residual,
)

MODEL_TYPES: dict[str, type[ModelConfig]] = {config.name: config for config in LADDER}
