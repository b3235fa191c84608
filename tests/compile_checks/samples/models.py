"""Tiny random Hugging Face models: factories of a model and its calls, as targets of the command.

They require the extra `[transformers]`, but no network access.
"""

import torch


def encoder():
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=64,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    inputs = {
        "input_ids": torch.arange(12).view(2, 6),
        "attention_mask": torch.ones(2, 6, dtype=torch.long),
    }
    return BertModel(config).eval(), inputs


def decoder():
    """Prefills five tokens, then makes three steps with the filled cache."""
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(num_key_value_heads=1, **_SMALL)

    def calls():
        cache, ids = DynamicCache(config=config), torch.arange(8).view(1, 8)
        parts = [ids[:, :5], ids[:, 5:6], ids[:, 6:7], ids[:, 7:8]]
        return [{"input_ids": part, "past_key_values": cache} for part in parts]

    return LlamaForCausalLM(config).eval(), calls


def mixture():
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2, **_SMALL
    )
    torch.manual_seed(0)
    model = MixtralForCausalLM(config).eval()
    return model, {"input_ids": torch.arange(12).view(2, 6), "use_cache": False}


def mixture_eager():
    """Experts as a Python loop over the experts that were hit."""
    model, inputs = mixture()
    model.set_experts_implementation("eager")
    return model, inputs


def vision():
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
    )
    return ViTModel(config).eval(), (torch.ones(1, 3, 16, 16),)


_SMALL = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
