"""Qwen2.5-VL's forward in plain torch: weights, names and numbers of transformers' model without its imports.

A critic on a CPU is asked a question and ends, and then most of its time goes into importing what trains and serves
models of all kinds. This is the part of it that reads one: the vision tower, the language model on top of what it has
read before, and the positions of images among text (Bai et al. 2025, section 2.1), with the folder's own tokenizer and
chat template. Equal to transformers' own forward up to rounding, which the tests compare. What `read.understands` does
not know is for transformers.
"""
