"""Writes a tiny Llama with random weights as a GGUF file: an engine's whole way of working, without its sense.

    python tiny_gguf.py FILE [--hidden N] [--layers N]

Two layers of 64 unless told otherwise, a byte-level vocabulary of 4,096 trained on the standard library of this Python, so that a token is
about as long as elsewhere. The same seed gives the same weights.
"""

import argparse
import json
import pathlib
import sysconfig

import gguf
import numpy
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 4096
HIDDEN, FEED_FORWARD, LAYERS, HEADS = 64, 128, 2, 2
CONTEXT = 8192
CONTROL = ["<|bos|>", "<|eos|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer():
    """A byte-level BPE tokenizer, trained on what every Python has at hand."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=CONTROL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    corpus = sorted(pathlib.Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:150]
    made.train([str(path) for path in corpus], trainer)
    return made


def write_vocabulary(writer, made):
    model = json.loads(made.to_str())["model"]
    tokens = [token for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    kinds = [gguf.TokenType.CONTROL if token in CONTROL else gguf.TokenType.NORMAL for token in tokens]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(CONTROL.index("<|bos|>"))
    writer.add_eos_token_id(CONTROL.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
    return len(tokens)


def write_shape(writer, hidden, layers):
    writer.add_name("tiny-random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(hidden // HEADS)
    writer.add_file_type(0)


def write_weights(writer, vocabulary, hidden, layers):
    random = numpy.random.default_rng(0)

    def noise(*shape):
        return (random.standard_normal(shape) * 0.02).astype(numpy.float32)

    writer.add_tensor("token_embd.weight", noise(vocabulary, hidden))
    writer.add_tensor("output.weight", noise(vocabulary, hidden))
    writer.add_tensor("output_norm.weight", numpy.ones(hidden, numpy.float32))
    for layer in range(layers):
        block = f"blk.{layer}."
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(block + name + ".weight", numpy.ones(hidden, numpy.float32))
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(block + name + ".weight", noise(hidden, hidden))
        writer.add_tensor(block + "ffn_gate.weight", noise(FEED_FORWARD, hidden))
        writer.add_tensor(block + "ffn_up.weight", noise(FEED_FORWARD, hidden))
        writer.add_tensor(block + "ffn_down.weight", noise(hidden, FEED_FORWARD))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--hidden", type=int, default=HIDDEN)
    parser.add_argument("--layers", type=int, default=LAYERS)
    given = parser.parse_args()
    writer = gguf.GGUFWriter(given.file, "llama")
    write_shape(writer, given.hidden, given.layers)
    vocabulary = write_vocabulary(writer, tokenizer())
    write_weights(writer, vocabulary, given.hidden, given.layers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
