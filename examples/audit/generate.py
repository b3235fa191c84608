"""Generation with a static cache: one graph for the prompt, and one for all other tokens."""

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

from compile_checks import watch

config = LlamaConfig(
    vocab_size=64,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=64,
)
model = LlamaForCausalLM(config).eval()
compiled = torch.compile(model, backend="aot_eager")  # omit the backend to use Inductor


@torch.no_grad()
def generate(prompt: Tensor, tokens: int) -> Tensor:
    cache = StaticCache(config=config, max_cache_len=32)
    inputs, generated = prompt, []
    for _ in range(tokens):
        logits = compiled(inputs, past_key_values=cache).logits
        inputs = logits[:, -1:].argmax(-1)
        generated.append(inputs)
    return torch.cat(generated, dim=1)


with watch(max_graphs=2) as watched:
    for length in (8, 8, 8):
        generate(torch.randint(64, (1, length)), tokens=12)
report = watched.report()
print(repr(report))
report.assert_clean()
