"""Text encoders of the Hugging Face families, built from what their config.json says alone."""

from clinical.encoders.weights import load_fitting, read_tensors
from clinical.errors import ConfigError

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FAMILIES = (
    "albert",
    "bert",
    "camembert",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "megatron-bert",
    "modernbert",
    "mpnet",
    "rembert",
    "roberta",
    "xlm-roberta",
)
"""Those that a test saw read a row the same alone and beside longer ones. Others don't: their
convolutions or sparse attention see padding."""
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_NOT_ARCHITECTURE = frozenset(
    {
        "auto_map",  # code of the model's own
        "attn_implementation",  # may name code on the hub
        "quantization_config",
        "dtype",
        "torch_dtype",
        "return_dict",
        "output_attentions",
        "output_hidden_states",
        "transformers_version",
        "is_decoder",
        "add_cross_attention",
        "is_encoder_decoder",
    }
)
"""Keys of a config.json that say where code comes from, how to answer, or to read no further than a
piece; also those with a "_"."""
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")


def build_text_encoder(config: Mapping[str, Any]) -> "PreTrainedModel":
    """A new encoder with random weights; no code but that of the transformers library runs.

    Attention weights are not dropped, to stay on fused kernels.

    Args:
        config: the content of a config.json.

    Raises:
        ConfigError: it is of no family known here, or contradicts itself.
    """
    # Imported here: this takes seconds, and reading the menu must not.
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig, AutoModel
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    family = str(config.get("model_type"))
    if family not in FAMILIES:
        raise ConfigError(
            f"config.json: model_type {family} is no text encoder known here; give weights of one "
            f"of {', '.join(FAMILIES)}"
        )
    kept = {
        key: value
        for key, value in config.items()
        if key not in _NOT_ARCHITECTURE | {"model_type"} and not key.startswith("_")
    }
    try:
        architecture = AutoConfig.for_model(family, **kept)
        for key in _ATTENTION_DROPOUT:
            if hasattr(architecture, key):
                setattr(architecture, key, 0.0)
        kind: Any = MODEL_MAPPING[type(architecture)]
        accepts = inspect.signature(kind).parameters
        plain = {"add_pooling_layer": False} if "add_pooling_layer" in accepts else {}
        model: PreTrainedModel = AutoModel.from_config(
            architecture, trust_remote_code=False, **plain
        )
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RuntimeError,
        StrictDataclassError,
    ) as error:
        raise ConfigError(
            f"config.json: no {family} can be built of it ({type(error).__name__}: {error})"
        ) from error
    return model


def text_weights_file(folder: Path) -> Path:
    """The file of a local folder that holds the tensors.

    Raises:
        ConfigError: there is none.
    """
    found = [folder / name for name in WEIGHT_FILES if (folder / name).is_file()]
    if not found:
        what = "holds neither" if folder.is_dir() else "is missing: no folder that holds"
        raise ConfigError(f"{folder}: {what} {' nor '.join(WEIGHT_FILES)}")
    return found[0]


def load_text_weights(model: "PreTrainedModel", folder: Path) -> None:
    """Copy the weights of a local folder, safetensors or a PyTorch state dict, into an encoder.

    Raises:
        ConfigError: there is no such file, it is unsafe, or of another architecture.
    """
    source = text_weights_file(folder)
    prefix = f"{model.base_model_prefix}."
    tensors = {_current(name, prefix): value for name, value in read_tensors(source).items()}
    load_fitting(model, tensors, source=source)


def _current(name: str, prefix: str) -> str:
    """A tensor's name as the bare encoder has it, without a head's prefix or TensorFlow's terms."""
    name = name.removeprefix(prefix)
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
    return name.replace("LayerNorm.beta", "LayerNorm.bias")


def attention_projections(model: nn.Module) -> list[str]:
    """The names of the linear layers inside a model's attention, whatever its family calls them."""
    attentions = [
        name for name, module in model.named_modules() if "Attention" in type(module).__name__
    ]
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and any(name.startswith(f"{a}.") for a in attentions)
    ]
