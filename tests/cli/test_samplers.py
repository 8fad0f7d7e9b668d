"""Every way in which a command line names a sampler, and what is said about it."""

import json

import pytest

from jaxdecode import transforms
from jaxdecode.transforms import presets
from jaxdecode.transforms.catalog import LINKS
from tests.link_cases import CASES

OTHERS = [transforms.Watermark(7)]
OWN = presets.transformers(temperature=0.6, top_p=0.9)


def sampler_of(model):
    return model.calls[-1][1]["sampler"]


def write(tmp_path, chain):
    path = tmp_path / "sampler.json"
    path.write_text(json.dumps(chain.to_dict()))
    return str(path)


def test_the_sampler_of_the_model_is_used_where_nothing_else_is_said(model, run):
    model.default_sampler = OWN
    err = run("generate", "a", "--seed", "1", "--stats")[2]
    assert sampler_of(model) == OWN
    assert f"the model's own sampler: {OWN}" in err
    assert "own sampler" not in run("generate", "a", "--seed", "1")[2]


@pytest.mark.parametrize(
    "flags",
    [
        ("--temperature", "0.8"),  # the default, but typed
        ("--top-k", "50"),
        ("--repetition-penalty", "1"),
        ("--temperature=0",),
        ("--preset", "joint"),
    ],
)
def test_any_flag_takes_the_place_of_the_models_sampler(model, run, flags):
    run("generate", "a", *flags)
    without = sampler_of(model)
    model.default_sampler = OWN
    err = run("generate", "a", "--stats", *flags)[2]
    assert sampler_of(model) == without
    assert "own sampler" not in err


def test_bans_stand_before_the_models_sampler(model, run):
    model.default_sampler = OWN
    run("generate", "a", "--ban-tokens", "9", "--min-new-tokens", "2")
    extra = (transforms.BanTokens([9]), transforms.MinNewTokens(2, (2,)))
    assert sampler_of(model) == transforms.chain(*extra, OWN)


@pytest.mark.parametrize("name", sorted(LINKS))
def test_every_sampler_of_the_catalogue_can_come_from_a_file(
    model, run, tmp_path, name
):
    links = [case.link for case in CASES.values()] + OTHERS
    link = next(one for one in links if type(one).__name__ == name)
    chain = transforms.chain(link)
    code, _, err = run("generate", "a", "--sampler", write(tmp_path, chain))
    assert (code, err.startswith("seed")) == (0, True)
    assert repr(sampler_of(model)) == repr(chain)


def test_a_file_may_begin_with_a_byte_order_mark(model, run, tmp_path):
    path = tmp_path / "sampler.json"
    text = json.dumps(OWN.to_dict(), indent=2).replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert run("chat", "a", "--sampler", str(path))[0] == 0
    assert sampler_of(model) == OWN


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "sampler.json: Expecting property name"),
        ("[]", "sampler.json: from_dict: `data` must be"),
        ('{"version": 1, "links": [{"link": "Nope"}]}', "there is no link 'Nope'"),
        (
            '{"version": 1, "links": [{"link": "TopP", "p": 7}]}',
            "`p` must be in [0, 1]",
        ),
        ('{"version": 1, "links": [{"link": "TopP", "p": "x"}]}', "TopP: `p`"),
        ("\xff", "sampler.json: 'utf-8' codec"),
    ],
)
def test_a_file_that_holds_no_chain_is_refused_in_one_line(
    model, run, tmp_path, text, message
):
    path = tmp_path / "sampler.json"
    path.write_bytes(text.encode("latin-1"))
    code, out, err = run("generate", "a", "--sampler", str(path))
    assert (code, out, err.count("\n"), model.loaded) == (2, "", 1, [])
    assert message in err


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (
            ("vllm", "--temperature", "0.7", "--top-p", "0.9"),
            presets.vllm(temperature=0.7, top_p=0.9),
        ),
        (
            ("llama_cpp", "--repetition-penalty", "1.1", "--top-k", "40"),
            presets.llama_cpp(repeat_penalty=1.1, top_k=40),
        ),
        (
            ("llama_cpp", "--set", "mirostat=2", "--set", "mirostat_tau=4.5"),
            presets.llama_cpp(mirostat=2, mirostat_tau=4.5),
        ),
        (
            ("transformers", "--set", "typical-p=0.9", "--min-p", "0.1"),
            presets.transformers(typical_p=0.9, min_p=0.1),
        ),
        (("transformers", "--set", "do_sample=false"),
         presets.transformers(do_sample=False)),
        (
            ("llama_cpp", "--set", 'samplers=["top_k"]', "--top-k", "3"),
            presets.llama_cpp(samplers=["top_k"], top_k=3),
        ),
        (("joint", "--top-k", "3"), presets.joint(top_k=3)),
    ],
)  # fmt: skip
def test_a_preset_has_the_order_of_its_system_and_what_is_given(
    model, run, flags, expected
):
    run("generate", "a", "--preset", *flags)
    assert sampler_of(model) == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ("--sampler", "x.json", "--top-k", "3"),
            "--top-k must not be given beside it",
        ),
        (("--sampler", "x.json", "--preset", "vllm"), "--preset must not be given"),
        (("--sampler", "no.json"), "No such file or directory: no.json"),
        (("--set", "top_k=3"), "--set must come with --preset"),
        (("--preset", "vllm", "--set", "top_k"), "--set must be NAME=VALUE"),
        (("--preset", "vllm", "--set", "nope=1"), "--preset vllm: "),
        (("--preset", "transformers", "--presence-penalty", "1"), "presence_penalty"),
        (("--preset", "none"), "--preset must be one of joint, llama_cpp, "),
    ],
)
def test_options_that_exclude_each_other_are_refused(model, run, flags, message):
    code, _, err = run("generate", "a", *flags)
    assert (code, err.count("\n"), model.loaded) == (2, 1, [])
    assert message in err


def test_a_stop_may_be_given_several_times_and_before_the_prompt(model, run):
    run("generate", "--stop", "User:", "a", "--stop", "<|im_end|>")
    ((prompt, settings),) = model.calls
    assert (prompt, settings["stop_strings"]) == ("a", ["User:", "<|im_end|>"])
    run("chat", "a", "--stop=\n")
    assert model.calls[1][1]["stop_strings"] == ["\n"]
    run("generate", "a")
    assert "stop_strings" not in model.calls[2][1]


def test_stats_say_that_a_text_was_stopped(model, run):
    model.words = (5, 7, 11)
    assert "ended by stop;" in run("generate", "a", "--stats", "--stop", "x")[2]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--stop", ""), "--stop must not be empty"),
        (("--stop", "x", "--beams", "2"), "--stop must not be given with --beams"),
    ],
)
def test_a_stop_that_cannot_be_is_refused(model, run, flags, message):
    code, _, err = run("generate", "a", *flags)
    assert (code, model.loaded) == (2, [])
    assert message in err
