"""The adapter for lm-evaluation-harness, on local tasks and without a network."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

import jaxdecode as jd

pytest.importorskip("lm_eval", reason="lm-eval is not installed (the extra lm-eval)")
pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
]

QUESTIONS = [
    ("The capital of France is", ["Paris", "Berlin", "Madrid"], 0),
    ("Two plus two is", ["seven", "four", "nine hundred"], 1),
    ("The opposite of hot is", ["warm", "blue", "cold"], 2),
    ("", ["the", "zyx"], 0),
]


@pytest.fixture(scope="module")
def lm():
    return jd.load("smollm2-135m")


@pytest.fixture(scope="module")
def adapter(lm):
    from jaxdecode.lm_eval import Evaluated

    return Evaluated(lm, batch_size=4)


def asked(*args):
    return SimpleNamespace(args=args)


def directly(lm, context, given):
    """Return the log-prob of a continuation and whether it is greedy, one row alone."""
    out = jd.score(lm.model, [context], [given], observe=["rank"])
    ranks = np.asarray(out.observations["rank"])[0, : len(given)]
    return float(np.asarray(out.model_logprobs).sum()), bool((ranks == 1).all())


def test_loglikelihoods_are_those_of_each_row_alone(lm, adapter):
    requests = [asked(q, f" {c}") for q, choices, _ in QUESTIONS for c in choices]
    found = adapter.loglikelihood(requests, disable_tqdm=True)
    for request, (value, greedy) in zip(requests, found, strict=True):
        question, choice = request.args
        context = lm.encode(question) if question else [adapter.prefix_token_id]
        given = lm.encode(question + choice)[len(lm.encode(question)) :]
        wanted, is_greedy = directly(lm, context, given)
        assert value == pytest.approx(wanted, abs=1e-3)
        assert greedy == is_greedy


def test_a_greedy_continuation_is_known_as_one(lm, adapter):
    text = lm.generate("Once upon", key=0, sampler=jd.joint(temperature=0))
    ((_, greedy),) = adapter.loglikelihood([asked("Once upon", text)], True)
    assert greedy


def test_a_rolling_likelihood_reads_every_token_once_in_windows(lm):
    from jaxdecode.lm_eval import Evaluated

    text = "The sea was calm and the old man slept in the boat until morning came."
    tokens = lm.encode(text)
    whole = Evaluated(lm, batch_size=2)
    (value,) = whole.loglikelihood_rolling([asked(text)])
    wanted, _ = directly(lm, [whole.prefix_token_id], tokens)
    assert value == pytest.approx(wanted, abs=1e-3)
    short = Evaluated(lm, batch_size=2, max_length=8)
    (value,) = short.loglikelihood_rolling([asked(text)])
    total = directly(lm, [short.prefix_token_id], tokens[:7])[0]
    for start in range(7, len(tokens), 7):  # 8 positions: 7 tokens and one before them
        end = min(start + 7, len(tokens))
        total += directly(lm, tokens[end - 8 : start], tokens[start:end])[0]
    assert value == pytest.approx(total, abs=1e-3)


def test_texts_end_before_a_stop_and_are_those_of_the_loop(lm, adapter):
    settings = {"until": ["\n", "."], "max_gen_toks": 24}
    prompts = ["The capital of France is", "Q: What is 2 + 2?\nA:"]
    found = adapter.generate_until([asked(prompt, settings) for prompt in prompts])
    for prompt, text in zip(prompts, found, strict=True):
        options = {"sampler": jd.joint(temperature=0), "max_new_tokens": 24}
        options["stop_strings"] = ["\n", "."]
        assert text == lm.generate(prompt, key=0, **options)
        assert not set("\n.") & set(text)


def test_a_setting_without_meaning_is_refused_by_name(adapter):
    with pytest.raises(ValueError, match="got 'typical_p'"):
        adapter.generate_until([asked("a", {"until": ["."], "typical_p": 0.2})])


def test_choices_and_texts_run_end_to_end_and_score_as_computed_directly(
    lm, adapter, tmp_path
):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    rows = [
        {"question": q, "choices": choices, "gold": gold}
        for q, choices, gold in QUESTIONS[:3]
    ]
    (tmp_path / "data.json").write_text("\n".join(map(json.dumps, rows)))
    common = f"""
dataset_path: json
dataset_kwargs:
  data_files: {{test: {tmp_path}/data.json}}
test_split: test
doc_to_text: "{{{{question}}}}"
num_fewshot: 0
metadata: {{version: 1.0}}
"""
    (tmp_path / "mc.yaml").write_text(
        "task: local_choices\noutput_type: multiple_choice\n"
        'doc_to_choice: "{{choices}}"\ndoc_to_target: gold\n'
        "metric_list: [{metric: acc}]\n" + common
    )
    (tmp_path / "gen.yaml").write_text(
        "task: local_texts\noutput_type: generate_until\n"
        'doc_to_target: "{{choices[gold]}}"\n'
        'generation_kwargs: {until: ["."], max_gen_toks: 8}\n'
        "metric_list: [{metric: exact_match}]\n" + common
    )
    found = simple_evaluate(
        model=adapter,
        tasks=["local_choices", "local_texts"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    right = 0
    for question, choices, gold in QUESTIONS[:3]:
        context = lm.encode(question)
        scores = [directly(lm, context, lm.encode(f" {c}"))[0] for c in choices]
        right += int(np.argmax(scores)) == gold
    assert found["results"]["local_choices"]["acc,none"] == pytest.approx(right / 3)
    answers = {s["doc_id"]: s["resps"][0][0] for s in found["samples"]["local_texts"]}
    for place, (question, _, _) in enumerate(QUESTIONS[:3]):
        options = {"sampler": jd.joint(temperature=0), "max_new_tokens": 8}
        assert answers[place] == lm.generate(
            question, key=0, stop_strings=["."], **options
        )
