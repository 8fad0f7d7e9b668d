"""The preset of llama.cpp leaves what the library itself leaves (extra `peers`)."""

import ctypes

import jax
import numpy as np
import pytest

import jaxdecode as jd
from tests.rows import V
from tests.transforms.processed import applied, histories, scores

SETTINGS = [
    {"top_k": 5},
    {"top_k": 20, "top_p": 0.9, "temperature": 0.7},
    {"top_k": 20, "typical_p": 0.8, "top_p": 0.95, "min_p": 0.05, "temperature": 1.5},
    {"top_n_sigma": 1.2, "top_k": 30, "temperature": 2.0},
    {"min_p": 0.1, "xtc_probability": 1.0, "xtc_threshold": 0.05, "temperature": 1.1},
    {"top_p": 0.5, "min_keep": 4, "temperature": 0.3},
    {"temperature": 0.9, "dynatemp_range": 0.5, "dynatemp_exponent": 1.3},
    {"temperature": 0.0, "top_k": 4},
    {"top_p": 0.0, "top_k": 0},
    {"temperature": 1.2, "top_p": 0.7, "samplers": ("temperature", "top_p")},
    {"logit_bias": {3: 2.0, 5: -1.5}, "top_k": 7},
]


class Peer:
    """A sampler chain of the real library over one row at a time."""

    def __init__(self, library, vocab):
        self.lib, self.vocab = library, vocab
        self.chain = library.llama_sampler_chain_init(
            library.llama_sampler_chain_default_params()
        )

    def add(self, sampler):
        self.lib.llama_sampler_chain_add(self.chain, sampler)

    def fill(self, settings):
        """Add the samplers of these settings in the order of common_sampler_init."""
        lib, get = self.lib, settings.get
        if "logit_bias" in settings:
            bias = settings["logit_bias"]
            array = (lib.llama_logit_bias * len(bias))(*bias.items())
            self.add(lib.llama_sampler_init_logit_bias(self.vocab, len(bias), array))
        keep, spread = get("min_keep", 0), get("dynatemp_range", 0.0)
        heat, power = get("temperature", 1.0), get("dynatemp_exponent", 1.0)
        x = get("xtc_probability", 0.0), get("xtc_threshold", 0.1)
        make = {
            "top_n_sigma": lambda v: lib.llama_sampler_init_top_n_sigma(v),
            "top_k": lambda v: lib.llama_sampler_init_top_k(v),
            "typical_p": lambda v: lib.llama_sampler_init_typical(v, keep),
            "top_p": lambda v: lib.llama_sampler_init_top_p(v, keep),
            "min_p": lambda v: lib.llama_sampler_init_min_p(v, keep),
            "xtc_probability": lambda v: lib.llama_sampler_init_xtc(*x, keep, 0),
            "temperature": lambda v: lib.llama_sampler_init_temp_ext(
                heat, spread, power
            ),
        }
        for name in get("samplers", make):
            if name in settings:
                self.add(make[name](settings[name]))
        self.add(lib.llama_sampler_init_dist(0))  # it computes the probabilities

    def probabilities(self, row):
        data = (self.lib.llama_token_data * self.vocab)()
        for i, logit in enumerate(row):
            data[i].id, data[i].logit, data[i].p = i, float(logit), 0.0
        array = self.lib.llama_token_data_array(data, self.vocab, -1, False)
        self.lib.llama_sampler_apply(self.chain, ctypes.byref(array))
        found = np.zeros(self.vocab)
        for i in range(array.size):
            found[array.data[i].id] = array.data[i].p
        return found


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("vocab", [37, 1000])
def test_llama_cpp_leaves_what_the_real_library_leaves(settings, vocab):
    library = pytest.importorskip("llama_cpp.llama_cpp")
    rows = scores(5, 40, vocab)
    peer = Peer(library, vocab)
    peer.fill(settings)
    wanted = np.stack([peer.probabilities(row) for row in rows])
    library.llama_sampler_free(peer.chain)
    got = jax.nn.softmax(jd.apply(jd.presets.llama_cpp(**settings), rows, key=0))
    np.testing.assert_array_equal(np.asarray(got) > 0, wanted > 0)
    np.testing.assert_allclose(got, wanted, atol=2e-6)


def test_llama_cpp_counts_as_the_real_library_counts():
    library = pytest.importorskip("llama_cpp.llama_cpp")
    rows = scores(6, 8, V)
    prompts, generated = histories(6, 8, V)
    last_n, settings = 5, {"repeat_penalty": 1.3, "frequency_penalty": 0.4}
    settings |= {"presence_penalty": 0.2}
    init = library.llama_sampler_init_penalties
    sampler = jd.presets.llama_cpp(repeat_last_n=last_n, **settings)
    got = jax.nn.softmax(applied(sampler, rows, prompts, generated))
    for row, prompt, tail, found in zip(rows, prompts, generated, got, strict=True):
        peer = Peer(library, V)
        sizes = (V, last_n) if len(init.argtypes) == 5 else (last_n,)
        peer.add(init(*sizes, *settings.values()))
        peer.add(library.llama_sampler_init_dist(0))
        for token in prompt + tail:
            library.llama_sampler_accept(peer.chain, token)
        np.testing.assert_allclose(found, peer.probabilities(row), atol=2e-6)
        library.llama_sampler_free(peer.chain)
