"""Tiny language models as llama.cpp keeps them, and what it answers."""

import json
from pathlib import Path

import gguf
import torch
from language_models import VOCABULARY
from safetensors.torch import load_file

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}


def write_gguf_base(folder, path):
    """Writes a model that `write_language_model` wrote."""
    config = json.loads((Path(folder) / "config.json").read_text())
    architecture, heads = ARCHITECTURES[config["model_type"]], config["num_attention_heads"]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("model")
    for add, name in (
        (writer.add_context_length, "max_position_embeddings"),
        (writer.add_embedding_length, "hidden_size"),
        (writer.add_block_count, "num_hidden_layers"),
        (writer.add_feed_forward_length, "intermediate_size"),
        (writer.add_head_count, "num_attention_heads"),
        (writer.add_head_count_kv, "num_key_value_heads"),
        (writer.add_layer_norm_rms_eps, "rms_norm_eps"),
        (writer.add_vocab_size, "vocab_size"),
    ):
        add(config[name])
    each = config.get("head_dim") or config["hidden_size"] // heads
    for add in (writer.add_key_length, writer.add_value_length, writer.add_rope_dimension_count):
        add(each)
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_tokenizer_model("llama")
    writer.add_token_list([token.replace(" ", "\u2581") for token in VOCABULARY])
    writer.add_token_scores([0.0] * len(VOCABULARY))
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(VOCABULARY) - 3))
    number = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(number, config["num_hidden_layers"])
    turned = {"q_proj": heads, "k_proj": config["num_key_value_heads"]}
    for name, tensor in load_file(Path(folder) / "model.safetensors").items():
        module = name.split(".")[-2]
        if architecture == "llama" and module in turned:
            tensor = torch.stack(tensor.unflatten(0, (turned[module], -1)).chunk(2, dim=1), dim=2).flatten(0, 2)
        writer.add_tensor(names.get_name(name, (".weight", ".bias")), tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def log_probabilities(path, ids, adapter=None):
    """[vocabulary]: of the token after `ids`, by llama.cpp."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel = str(path), 64, 1
    params.warmup = params.fit_params = False
    params.cpuparams.n_threads = 1
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if adapter:
        params.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    server, answers = xllamacpp.Server(params), []
    asked = {"prompt": ids, "n_predict": 1, "n_probs": len(VOCABULARY), "temperature": 1.0, "cache_prompt": False}
    server.handle_completions(asked, answers.append)
    found = torch.full((len(VOCABULARY),), float("nan"))
    for entry in answers[0]["choices"][0]["logprobs"]["content"][0]["top_logprobs"]:
        found[entry["id"]] = entry["logprob"]
    return found
