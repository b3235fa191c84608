"""Tiny random models of diffusers. Their defaults are large, so each has a configuration here."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from compile_checks.survey.instance import Instance

_BLOCKS = {"block_out_channels": (8, 16), "norm_num_groups": 4, "layers_per_block": 1}
_TOKENS = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "sample_size": 8}


def _picture(channels: int, size: int = 16) -> torch.Tensor:
    return torch.rand(1, channels, size, size)


_TIME = torch.tensor([3])
_TEXT = torch.rand(1, 4, 16)

_MODELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "AutoencoderKL": (
        {
            **_BLOCKS,
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
        },
        {"sample": _picture(3)},
    ),
    "AutoencoderTiny": (
        {
            "encoder_block_out_channels": (8, 8),
            "decoder_block_out_channels": (8, 8),
            "num_encoder_blocks": (1, 1),
            "num_decoder_blocks": (1, 1),
        },
        {"sample": _picture(3)},
    ),
    "DiTTransformer2DModel": (
        {**_TOKENS, "in_channels": 4, "patch_size": 2, "norm_num_groups": 4},
        {
            "hidden_states": _picture(4, 8),
            "timestep": _TIME,
            "class_labels": torch.tensor([1]),
        },
    ),
    "PixArtTransformer2DModel": (
        {
            **_TOKENS,
            "in_channels": 4,
            "patch_size": 2,
            "cross_attention_dim": 16,
            "caption_channels": 16,
            "use_additional_conditions": False,
        },
        {
            "hidden_states": _picture(4, 8),
            "encoder_hidden_states": _TEXT,
            "timestep": _TIME,
        },
    ),
    "SD3Transformer2DModel": (
        {
            **_TOKENS,
            "in_channels": 4,
            "patch_size": 2,
            "joint_attention_dim": 16,
            "caption_projection_dim": 16,
            "pooled_projection_dim": 8,
            "out_channels": 4,
        },
        {
            "hidden_states": _picture(4, 8),
            "encoder_hidden_states": _TEXT,
            "pooled_projections": torch.rand(1, 8),
            "timestep": _TIME,
        },
    ),
    "Transformer2DModel": (
        {
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "in_channels": 4,
            "norm_num_groups": 4,
            "cross_attention_dim": 16,
        },
        {"hidden_states": _picture(4, 8), "encoder_hidden_states": _TEXT},
    ),
    "UNet2DConditionModel": (
        {
            **_BLOCKS,
            "sample_size": 16,
            "cross_attention_dim": 16,
            "attention_head_dim": 4,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        },
        {"sample": _picture(4), "timestep": _TIME, "encoder_hidden_states": _TEXT},
    ),
    "UNet2DModel": (
        {
            **_BLOCKS,
            "sample_size": 16,
            "attention_head_dim": 4,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        },
        {"sample": _picture(3), "timestep": _TIME},
    ),
}


def names() -> list[str]:
    """Returns the names of the models."""
    return [name for name in _MODELS if hasattr(diffusers, name)]


def build(name: str) -> Instance:
    """Builds a tiny model, with inputs."""
    options, inputs = _MODELS[name]
    return Instance(getattr(diffusers, name)(**options), [((), inputs)])
