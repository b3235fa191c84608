"""Tiny random instances of the architectures of Hugging Face transformers.

Configurations are shrunk by the names of their numbers: all widths are divided by one factor, which
keeps how they depend on each other. This works for most architectures. The others are not surveyed.
"""

from __future__ import annotations

import contextlib
import re
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from compile_checks._engine.scenarios import Step
from compile_checks.survey.instance import Instance

SCALE = 8
"""What widths are divided by. Heads keep at least 16 dimensions, which rotary embeddings need."""
NARROW = 64
"""Widths below this are kept."""
LAYERS, EXPERTS, CHOSEN, TOKENS, PICTURE, SAMPLES = 2, 8, 2, 128, 64, 4000
"""The largest number of layers (unless there are more kinds of them), of experts and of those that
a token chooses, of tokens in the vocabulary, of pixels in a row and of samples of sound.
"""
PROMPT, STEPS = 5, 4
"""How many tokens a decoder reads at first, and how many calls with one token follow."""

_WIDTH = re.compile(
    r"(?:^|_)(?:hidden|intermediate|ffn|d|n_embd|embd?|embed|embedding|width|channels|rank|inner"
    r"|proj|projection|dim|dims|size|sizes|feedforward|latent)(?:_|$)"
)
_NOT_WIDTH = re.compile(
    r"vocab|patch|image|kernel|window|position|type|stride|chunk|block|pool|context|mel|sample"
    r"|crop|resolution|num_channels|in_channels|in_chans|group|state_size|d_conv|dropout|token"
    r"|codebook_size|max_|bins|grid|memory"
)
_LIMITS = {
    r"^depths$|^num_blocks$|^layer_depths$": LAYERS,
    r"(?:^|_)n?(?:um)?_?(?:hidden_|encoder_|decoder_|text_)?(?:layers|layer|blocks)$": LAYERS,
    r"(?:^|_)(?:n|num)_(?:local_|routed_)?experts$": EXPERTS,
    r"experts_per_tok$|^moe_k$|^(?:moe_)?top_?k$|moe_topk$": CHOSEN,
    r"^n_group$|^topk_group$": 1,
    r"(?:^|_)vocab_size$": TOKENS,
    r"_token_id$|_token_index$|_id$": TOKENS - 1,
    r"^image_size$": PICTURE,
}

transformers.logging.set_verbosity_error()


def names() -> list[str]:
    """Returns the architectures that have a base model."""
    return sorted(modeling_auto.MODEL_MAPPING_NAMES)


def build(name: str) -> Instance:
    """Builds a base model, and a language model if there is one that only decodes."""
    config = shrunk(CONFIG_MAPPING[name]())
    model = _class(modeling_auto.MODEL_MAPPING_NAMES[name])(config)
    calls = [((), _inputs(model))]
    decoder = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(name)
    if decoder is None or config.is_encoder_decoder:
        return Instance(model, calls)
    return Instance(model, calls, _class(decoder)(config), lambda: _steps(config))


def _class(name: Any) -> Any:
    return getattr(transformers, name if isinstance(name, str) else name[0])


# ------------------------------------------------------------------ configurations


def shrunk(config: Any) -> Any:
    """Shrinks a configuration and those that it contains."""
    for key, value in list(vars(config).items()):
        if isinstance(value, transformers.PreTrainedConfig):
            shrunk(value)
        elif key == "rope_parameters" and isinstance(value, dict):
            value["mrope_section"] = [2, 3, 3]  # the sections of the 16 dimensions of a head
        elif not key.startswith("_"):
            with contextlib.suppress(AttributeError):  # differs between layers
                _set(config, key, _smaller(key, value))
    if kinds := vars(config).get("layer_types"):
        count = max(LAYERS, 1 + max(list(kinds).index(kind) for kind in set(kinds)))
        config.num_hidden_layers, config.layer_types = count, kinds[:count]
    return config


def _set(config: Any, key: str, value: Any) -> None:
    if getattr(config, key) != value:
        setattr(config, key, value)


def _smaller(key: str, value: Any) -> Any:
    """Returns a smaller number, or a list of smaller numbers."""
    if isinstance(value, (list, tuple)):
        return type(value)(_smaller(key, item) for item in value)
    if type(value) is not int:
        return value
    for pattern, most in _LIMITS.items():
        if re.search(pattern, key):
            return min(value, most)
    if _WIDTH.search(key) and not _NOT_WIDTH.search(key) and value >= NARROW:
        return max(2, value // SCALE // 2 * 2)
    return value


# ------------------------------------------------------------------ inputs


def _ids(*shape: int) -> torch.Tensor:
    return (torch.arange(torch.Size(shape).numel()) % 100 + 5).view(shape)


def _steps(config: Any) -> list[Step]:
    """Returns the calls that `generate` makes with a static cache."""
    cache = transformers.StaticCache(config=config, max_cache_len=4 * PROMPT)
    ids = _ids(1, PROMPT + STEPS)
    parts = [ids[:, :PROMPT], *torch.split(ids[:, PROMPT:], 1, dim=1)]
    return [
        # The second call may compile again: one token after many.
        Step((), {"input_ids": part, "past_key_values": cache}, recompiles=int(number == 1))
        for number, part in enumerate(parts)
    ]


def _inputs(model: Any) -> dict[str, Any]:
    """Returns the inputs of a model: text, pictures, videos or sound, whichever it reads first."""
    config, kind = model.config, model.main_input_name
    inputs: dict[str, Any] = {"input_ids": _ids(2, 8)}
    if kind == "pixel_values":
        frames = [config.num_frames] if hasattr(config, "num_frames") else []
        inputs = {kind: torch.rand(1, *frames, *_picture(config))}
    elif kind == "input_values":
        inputs = {kind: torch.rand(1, SAMPLES)}
    elif kind == "input_features":
        length = 2 * getattr(config, "max_source_positions", 50)
        inputs = {kind: torch.rand(1, getattr(config, "num_mel_bins", 80), length)}
    if config.is_encoder_decoder:
        inputs["decoder_input_ids"] = _ids(len(inputs[next(iter(inputs))]), 4)
    if kind == "input_ids" and hasattr(model, "logit_scale") and hasattr(config, "vision_config"):
        inputs["pixel_values"] = torch.rand(2, *_picture(config.vision_config))
    return inputs


def _picture(config: Any) -> tuple[int, int, int]:
    channels = getattr(config, "num_channels", getattr(config, "in_channels", 3))
    size = getattr(config, "image_size", PICTURE)
    height, width = size if isinstance(size, (list, tuple)) else (size, size)
    return channels, height, width
