"""The command line as it is typed: what becomes options, and what becomes an error."""

import pytest

from jaxdecode.cli import chat, generate, models
from jaxdecode.cli.options import read_biases
from jaxdecode.cli.parse import UsageError, message_in, parse


def understand(*argv):
    kind = generate.Command | chat.Command | models.Command
    return parse(kind, argv, prog="jaxdecode", description="")


def test_every_sampler_flag_reaches_its_option():
    flags = {
        "temperature": 0.5,
        "top_k": 7,
        "top_p": 0.25,
        "min_p": 0.125,
        "repetition_penalty": 1.5,
        "frequency_penalty": -0.5,
        "presence_penalty": 0.75,
        "min_new_tokens": 3,
    }
    argv = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    sampling = understand("generate", "a", *argv).sampling
    assert {name: getattr(sampling, name) for name in flags} == flags


def test_token_flags_take_several_values():
    sampling = understand(
        "generate", "a", "--ban-tokens", "5", "6", "--logit-bias", "7=-1.5", "8=2"
    ).sampling
    assert (sampling.ban_tokens, sampling.logit_bias) == ((5, 6), ("7=-1.5", "8=2"))


def test_the_defaults_are_those_for_readable_text():
    sampling = understand("generate", "a").sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.8, 50, 0.95)


def test_there_is_no_default_seed():
    assert understand("generate", "a").length.seed is None


def test_a_prompt_may_begin_with_dashes_behind_two_dashes():
    assert understand("generate", "--", "--- a").prompt == "--- a"


def test_chat_takes_the_flags_of_generate_and_a_system_message():
    args = understand("chat", "hi", "--system", "Be brief.", "--top-k", "3")
    assert (args.message, args.system, args.sampling.top_k) == (
        "hi",
        "Be brief.",
        3,
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["generate"], "Missing from jaxdecode generate: PROMPT"),
        (
            ["generate", "a", "--top-k", "x"],
            "Error parsing --top-k: invalid literal for int() with base 10: 'x'",
        ),
        (
            ["generate", "Once", "upon", "a"],
            "Unrecognized options: upon, a",
        ),
        (
            ["generat"],
            "Unrecognized options: generat. Available subcommands: "
            "generate, chat, models",
        ),
        (
            ["generate", "a", "--temperatur", "1"],
            "Unrecognized options: --temperatur, 1. "
            "Perhaps you meant: --temperature FLOAT",
        ),
    ],
)
def test_a_mistake_is_one_line(argv, message):
    with pytest.raises(UsageError) as caught:
        understand(*argv)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argv", "option", "near"),
    [
        (["generate", "--temprature", "0.5", "a"], "--temprature", "--temperature"),
        (["generate", "--temprature=0.5", "a"], "--temprature=0.5", "--temperature"),
        (["generate", "--top-k", "3", "--top-pp", "1", "a"], "--top-pp", "--top-p"),
        (["generate", "--min_pp", "1", "a"], "--min_pp", "--min-p"),
        (["generate", "--stpo", "x", "a"], "--stpo", "--stop"),
        (["models", "remove", "--yess", "a"], "--yess", "--yes"),
    ],
)
def test_an_unknown_option_before_the_prompt_is_named_with_the_nearest_one(
    argv, option, near
):
    with pytest.raises(UsageError) as caught:
        understand(*argv)
    message = f"Unrecognized options: {option}. Perhaps you meant: {near}"
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "argv",
    [
        ["generate", "--top-k", "3"],
        ["generate", "--top_k=3"],
        ["generate", "--stats", "--seed", "-3"],
        ["models", "remove", "--yes"],
    ],
)
def test_a_prompt_that_is_missing_is_still_named(argv):
    with pytest.raises(UsageError, match=r"Missing .*(PROMPT|NAME|prompt|name)"):
        understand(*argv)


def test_an_option_like_nothing_is_named_alone():
    with pytest.raises(UsageError, match=r"^Unrecognized options: -n$"):
        understand("generate", "-n", "5", "a")


def test_an_error_drawn_in_ascii_is_read_too():
    box = "+- Oops ---+\n| bad word |\n| -------- |\n| For help |\n+----------+\n"
    assert message_in(box) == "bad word"


def test_biases_of_one_id_add_up():
    assert read_biases(("3=1", "4=-inf", "3=0.5")) == {3: 1.5, 4: float("-inf")}


@pytest.mark.parametrize("item", ["5", "a=1", "5=", "=1", "5:1"])
def test_a_bias_that_is_no_pair_is_refused(item):
    with pytest.raises(ValueError, match="--logit-bias must be ID=VALUE"):
        read_biases((item,))
