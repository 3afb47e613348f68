"""Make a model of random weights: ``tiny.py FOLDER chat|embedding|adapter``. Runs inside the vLLM environment.

A Llama and a BERT of two layers, with a tokenizer trained here on a few sentences, 300 KB in all: enough for every
route of the engine, and loaded in no time. What they answer is noise.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
SENTENCES = [
    "the quick brown fox jumps over the lazy dog",
    "hello world how are you",
    "Kubernetes runs pods and Ray runs replicas of a model",
    "once upon a time there was a model server that scaled to zero and back again",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
MAX_LENGTH = 2048


def tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level tokenizer: it can spell every text."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(SENTENCES * 50, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        model_max_length=MAX_LENGTH,
        chat_template=CHAT_TEMPLATE,
    )


def adapter(folder: Path) -> None:
    """Write a LoRA adapter of the chat model in PEFT's format, strong enough to change what it answers."""
    rank, width = 8, 64
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 64, "target_modules": ["q_proj", "v_proj", "o_proj"]}
    tensors = {
        f"base_model.model.model.layers.{layer}.self_attn.{module}.lora_{side}.weight": torch.randn(*shape)
        for layer in range(2)
        for module in ("q_proj", "v_proj", "o_proj")
        for side, shape in (("A", (rank, width)), ("B", (width, rank)))
    }
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")


def main(folder: Path, kind: str) -> None:
    """Write tokenizer, configuration and weights."""
    torch.manual_seed(0)
    if kind == "adapter":
        adapter(folder)
        return
    tokens = tokenizer()
    size = {
        "vocab_size": (len(tokens) + 63) // 64 * 64,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": MAX_LENGTH,
        "pad_token_id": 0,
    }
    if kind == "embedding":
        model = BertModel(BertConfig(**size))
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                num_key_value_heads=2, head_dim=32, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False, **size
            )
        )
    model.to(torch.bfloat16).save_pretrained(folder)
    tokens.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
