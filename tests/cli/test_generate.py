"""`jaxdecode generate` around a fake model: what it asks for and what it prints."""

import io
import re
import sys

import pytest

from jaxdecode import transforms


def test_the_text_goes_to_standard_output_and_ends_with_a_newline(model, run):
    code, out, err = run("generate", "a", "--seed", "3")
    assert (code, out, err) == (0, "w5 w7 w11 \n", "")


def test_the_seed_that_was_given_is_the_key(model, run):
    run("generate", "a", "--seed", "3")
    assert model.calls[0][1]["key"] == 3


def test_a_seed_that_was_drawn_is_printed_and_used(model, run):
    _, out, err = run("generate", "a")
    assert out == "w5 w7 w11 \n"
    assert err == f"seed: {model.calls[0][1]['key']}\n"


def test_drawn_seeds_differ(model, run):
    assert len({run("generate", "a")[2] for _ in range(5)}) > 1


def test_the_sampler_is_the_joint_chain_with_the_flags_values(model, run):
    run("generate", "a", "--temperature", "0.5", "--top-k", "7", "--min-p", "0.25")
    assert model.calls[0][1]["sampler"] == transforms.joint(
        temperature=0.5, top_k=7, top_p=0.95, min_p=0.25
    )


def test_token_flags_put_their_links_before_the_joint_chain(model, run):
    run(
        *("generate", "a", "--min-new-tokens", "3"),
        *("--ban-tokens", "9", "--logit-bias", "8=1.5"),
    )
    assert model.calls[0][1]["sampler"] == transforms.chain(
        transforms.LogitBias({8: 1.5}),
        transforms.BanTokens([9]),
        transforms.MinNewTokens(3, (2,)),
        transforms.joint(temperature=0.8, top_k=50, top_p=0.95),
    )


def test_ignoring_the_end_leaves_no_ids_that_end_a_text(model, run):
    run("generate", "a", "--ignore-eos")
    assert model.calls[0][1]["eos_ids"] == ()


def test_the_models_own_ends_are_used_otherwise(model, run):
    run("generate", "a")
    assert "eos_ids" not in model.calls[0][1]


@pytest.mark.parametrize(
    ("flag", "dtype"),
    [("auto", None), ("float32", "float32"), ("bfloat16", "bfloat16")],
)
def test_model_and_dtype_reach_load(model, run, flag, dtype):
    run("generate", "a", "--model", "some/where", "--dtype", flag)
    assert model.loaded == [("some/where", dtype)]


def test_a_value_out_of_range_is_refused_before_a_model_is_loaded(model, run):
    code, _, err = run("generate", "a", "--top-p", "2")
    assert (code, model.loaded) == (2, [])
    assert err == "jaxdecode: TopP: `p` must be in [0, 1], got 2.0.\n"


def test_echo_puts_the_prompt_before_the_text(model, run):
    assert run("generate", "One ", "--echo")[1] == "One w5 w7 w11 \n"


def test_samples_stand_under_a_header_each(model, run):
    _, out, _ = run("generate", "a", "--num-samples", "2")
    assert out == "--- sample 1 of 2\nw5 w7 w11 \n--- sample 2 of 2\nw7 w11 \n"


def test_a_prompt_from_standard_input_loses_one_newline(model, run, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(b"zwei\n\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    run("generate", "-")
    assert model.calls[0][0] == "zwei\n"


@pytest.mark.parametrize("command", ["generate", "chat"])
@pytest.mark.parametrize(
    ("data", "prompt"),
    [
        (b"one\r\ntwo\r\n", "one\ntwo"),
        (b"one\r\n\r\n", "one\n"),
        (b"\xef\xbb\xbfone\n", "one"),
        (b"\xef\xbb\xbfone\r\ntwo", "one\ntwo"),
        (b"a\rb\n", "a\rb"),
        ("a\ufeffb".encode(), "a\ufeffb"),
    ],
)
def test_line_ends_and_marks_of_other_systems_are_no_part_of_the_prompt(
    model, run, monkeypatch, command, data, prompt
):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    run(command, "-")
    asked = model.calls[0][0]
    assert (asked if command == "generate" else asked[0]["content"]) == prompt


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf", b"\r\n", b"\n", b""])
def test_nothing_on_standard_input_is_refused(model, run, monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    code, _, err = run("generate", "-")
    assert (code, err) == (2, "jaxdecode: the prompt must not be empty\n")


def test_stats_count_tokens_and_name_the_end(model, run):
    _, _, err = run("generate", "a", "--seed", "1", "--stats")
    assert re.fullmatch(
        r"first token after [\d.]+ s; 4 tokens; ended by end of text; "
        r"[\d.]+ tokens/s after it\n",
        err,
    )


def test_stats_tell_a_text_that_was_cut_from_one_that_broke_off(model, run):
    model.words = (5, 7, 11)
    assert "length" in run("generate", "a", "--stats", "--max-new-tokens", "3")[2]
    assert "invalid logits" in run("generate", "a", "--stats")[2]


def test_stats_of_samples_cover_all_of_them(model, run):
    err = run("generate", "a", "--stats", "--num-samples", "2", "--seed", "1")[2]
    assert re.fullmatch(
        r"all tokens after [\d.]+ s; 7 tokens; ended by end of text, end of text\n", err
    )


def test_beams_are_a_table_without_a_seed_and_only_edits_are_applied(model, run):
    options = ("--beams", "3", "--length-penalty", "0.5", "--top-k", "4")
    code, out, err = run("generate", "a", "--repetition-penalty", "1.2", *options)
    assert (code, err) == (0, "")
    assert "-0.5000" in out
    assert "w5 w7" in out
    ((prompt, settings),) = model.calls
    assert prompt == "a"
    names = [type(link).__name__ for link in settings.pop("edits").links]
    assert names == ["RepetitionPenalty", "FrequencyPenalty", "PresencePenalty"]
    assert settings == {
        "num_beams": 3, "num_return": 3, "length_penalty": 0.5, "max_new_tokens": 128
    }  # fmt: skip


def test_a_pattern_is_passed_on(model, run, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "integer"}')
    for given, name, wanted in (
        (("--regex", "a+"), "regex", "a+"),
        (("--schema", str(schema)), "schema", '{"type": "integer"}'),
        (("--choices", "yes", "no"), "choices", ["yes", "no"]),
    ):
        assert run("generate", "a", *given)[0] == 0
        assert model.calls[-1][1][name] == wanted


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--regex", "("), "--regex: the pattern must be a regular expression"),
        (("--regex", "a", "--choices", "b"), "--regex and --choices must not be given"),
        (("--schema", "missing.json"), "missing.json"),
    ],
)
def test_a_bad_pattern_is_refused_before_a_model_is_loaded(model, run, given, message):
    code, _, err = run("generate", "a", *given)
    assert code != 0
    assert message in err
    assert not model.calls
