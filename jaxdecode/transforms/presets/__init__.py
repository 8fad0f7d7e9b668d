"""Chains of other systems: their argument names, order, ties and boundary rules.

A preset holds the links of the arguments that are given, in the order of the system:
which arguments are given is structure, their values are data. What is left out is off;
the default settings of those systems are not assumed. An argument that has no meaning
for a row of logits, or none beside the others, raises a TypeError that names it.
"""

from jaxdecode.transforms.chain import joint as joint
from jaxdecode.transforms.presets.hugging_face import transformers as transformers
from jaxdecode.transforms.presets.llama import llama_cpp as llama_cpp
from jaxdecode.transforms.presets.vllm import vllm as vllm

__all__ = ["joint", "llama_cpp", "transformers", "vllm"]
