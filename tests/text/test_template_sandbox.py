"""A template renders what Jinja renders, within its share of time and memory."""

import json
import threading
import time
import tracemalloc
from datetime import datetime

import pytest
from jinja2.ext import do, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from jaxdecode.text import ChatTemplate, ChatTemplateError

MESSAGES = [
    {"role": "system", "content": " Be\n brief. "},
    {"role": "user", "content": "1 < 2?\t🙂"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."},
    {"role": "user", "content": "Why"},
]
# In the manner of published templates: what they use, not their text.
TEMPLATES = [
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] }}{% endfor %}",
    "{{ bos_token }}{% for m in messages %}{{ m.content | trim ~ eos_token }}"
    "{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% set ns = namespace(n=0) %}{% for m in messages[::-1] %}"
    "{% set index = (messages|length - 1) - loop.index0 %}"
    "{% if m.role == 'user' and not m.content.startswith('Why') %}"
    "{% set ns.n = index %}{% endif %}{% endfor %}{{ ns.n }}",
    "{%- for m in messages if m.role != 'system' %}\n"
    "    {%- if '</think>' in m.content %}\n"
    "        {%- set c = m.content.split('</think>')[-1].lstrip('\\n') %}\n"
    "    {%- else %}\n        {%- set c = m.content %}\n    {%- endif %}\n"
    "    {{- loop.index ~ c ~ loop.length }}\n{%- endfor %}\n",
    "{% macro show(m, mark='*') %}{{ mark }}{{ m.role|upper }}{{ mark }}{% endmacro %}"
    "{% for m in messages %}{{ show(m)|trim }}{{ show(m, mark='') }}{% endfor %}",
    "{% if messages[0].role == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% else %}{% set loop_messages = messages %}{% endif %}"
    "{% for m in loop_messages %}{% if loop.index0 % 2 %}{% continue %}{% endif %}"
    "{{ m.content }}{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}",
    "{% set items = messages|selectattr('role', 'equalto', 'user')|list %}"
    "{{ items|map(attribute='content')|join(' / ') }}{{ items|length }}",
    "{% set text %}{% for m in messages %}{{ m.role[0] }}{% endfor %}{% endset %}"
    "{{ text|replace('u', 'U') }}{{ [1, 2] + [3] }}{{ {'a': (1, none)} }}",
    "{{ '%s-%d' % ('a', 3) }}{{ '{} {x}'.format(1, x=2) }}{{ 'ab' * 3 }}{{ 7 // 2 }}",
    "{% for k, v in messages[0].items() %}{{ k }}={{ v|length }};{% endfor %}",
    "{{ undefined_thing }}{{ messages[0].missing is defined }}{{ tools is none }}",
    "{{ range(3)|list }}{{ messages|last|dictsort }}{{ 'b a'.split()|sort|first }}",
    "{% if true %}\n  kept\n{% endif %}\n{{ '<a>'|e }}{{ '\\n'.join(['x', 'y']) }}",
    "{{ '%s-%03d' | format('a', 3) }}{{ '%(x)s' | format(x=[1]) }}",
    "{{ [1, 2.5] | sum }}{{ [{'a': 1}, {'a': 2}] | sum('a', 5) }}"
    "{{ [[1], [2, 3]] | sum(start=[0]) }}",
    "{{ messages[1].content | wordcount }}{{ 'one two three' | truncate(9) }}"
    "{{ 'one two three' | truncate(9, true, '~', 0) }}[{{ 'ab' | center(7) }}]",
    "{{ [1, 2, 3, 4, 5] | batch(2, 'x') | list }}{{ range(5) | batch(3) | list }}"
    "{{ [1, 2, 3, 4, 5] | slice(3, 'x') | list }}{{ range(4) | slice(2) | list }}",
    "{{ namespace(n=7) | attr('n') }}{{ ('ab' | attr('upper'))() }}"
    "{{ messages[0] | attr('role') }}{{ messages | map('attr', 'x') | list | length }}",
    "{{ messages | pprint }}{{ {'b': 1, 'a': [none]} | pprint }}",
    "{{ 'a b&c/é' | urlencode }}{{ {'q': 'x y', 'n': 1} | urlencode }}",
    "{{ '<b class=x>bold</b>\n<!-- no -->  text &amp; <i' | striptags }}",
    "{% set comma = joiner(', ') %}{% for m in messages %}{{ comma() }}{{ m.role }}"
    "{% endfor %}{% set mark = cycler('-', '*') %}{% for m in messages %}"
    "{{ mark.next() }}{{ mark.current }}{% endfor %}{% do mark.reset() %}"
    "{{ mark.next() }}",
    "{% set tree = [{'v': 1, 'c': [{'v': 2, 'c': [{'v': 3}]}, {'v': 4}]}] %}"
    "{% for t in tree recursive %}{{ loop.depth }}:{{ t.v }}"
    "{% if t.c %}({{ loop(t.c) }}){% endif %}{% if not loop.last %},{% endif %}"
    "{{ loop.length }}{% endfor %}",
    "{% for t in [3, [1, [2]]] if t recursive %}"
    "{% if t is iterable %}<{{ loop(t) }}>{% else %}{{ t }}{% endif %}{% endfor %}",
    "{{ 1536 | filesizeformat }}{{ 'ab cd ef' | wordwrap(5) }}{{ '<' | forceescape }}",
    "{% macro wrap() %}[{{ caller('x') }}]{% endmacro %}"
    "{% call(x) wrap() %}{{ x }}{% endcall %}"
    "{% filter upper %}{{ messages[3].content }}{% endfilter %}",
]
TOO_MUCH = [
    "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "{{ 'x' * 10**9 }}",
    "{{ [0] * 10**9 }}",
    "{{ 9**(9**9) }}",
    "{% set n = namespace(a='x') %}{% for i in range(99) %}{% set n.a = n.a ~ n.a %}"
    "{% endfor %}",
    "{% set n = namespace(a='x') %}{% for i in range(99) %}{% set n.a = n.a + n.a %}"
    "{% endfor %}",
    "{% set n = namespace(a=[1]) %}{% for i in range(99) %}{% set n.a = [n.a, n.a] %}"
    "{% endfor %}{{ n.a == 1 }}",
    "{% set n = namespace(a=2) %}{% for i in range(99) %}{% set n.a = n.a * n.a %}"
    "{% endfor %}",
    "{% set a = 'x' * 99 %}" + "{% set a %}{{ a }}{{ a }}{% endset %}" * 60,
    "{% set n = namespace() %}{% set n.a = n %}{{ n }}",
    "{{ '%99999999d' % 1 }}",
    "{{ '%*d' % (99999999, 1) }}",
    "{{ '{:99999999}'.format(1) }}",
    "{{ '{:{w}}'.format(1, w=99999999) }}",
    "{% set a = 'x' * 99999 %}{{ '%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s%(a)s"
    "%(a)s' % {'a': a} }}",
    "{% set a = 'x' * 99999 %}{{ '{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}'.format(a) }}",
    "{{ 'x' | replace('', 'y' * 1000000) }}",
    "{{ ('x' * 1000000).replace('x', 'yyyyyyy') }}",
    "{{ ('x' * 9999) | join('y' * 9999) }}",
    "{{ ('y' * 9999).join(['x'] * 9999) }}",
    "{{ range(9999) | map(attribute='x', default='y' * 99999) | join }}",
    "{{ ([''] * 9999) | map('default', 'y' * 99999, true) | length }}",
    "{{ ('\\n' * 99999) | indent('x' * 99999) }}",
    "{{ [1, 2] | tojson(indent=99999999) }}",
    "{{ 1.5 | round(99999999, 'ceil') }}",
    "{{ range(10**9) | length }}",
    "{{ strftime_now('%99999999d') }}",
    "{% set x = range(9999) %}{% for i in range(99) %}{{ x|select('in', x)|length }}"
    "{% endfor %}",
    "{{ '%99999999d' | format(1) }}",
    "{{ ('%s' * 999) | format('x' * 99999) }}",
    "{{ 'a' | center(99999999) }}",
    "{{ 'a' | center(width=99999999) }}",
    "{{ [1] | batch(99999999, 0) | list }}",
    "{{ [1] | slice(99999999) | list }}",
    "{{ ([['x' * 99]] * 9999) | sum(start=[]) | join }}",
    "{{ ([2 ** 999] * 9999) | map('string') | sum(start='') }}",
    "{{ ('<a>' * 99999) | striptags }}",
    "{{ ('<!--' * 99999) | striptags }}",
    "{{ [[['x' * 99999]]] | pprint }}",
    "{{ ('ab ' * 99999) | wordwrap(2) }}",
    "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "{% set r = range(9999) %}{% for x in r recursive %}{{ loop(r) }}{% endfor %}",
    "{% for x in [0] recursive %}{{ 'x' * 999 }}{{ loop([0, 0]) }}{% endfor %}",
    "{% set n = namespace(d=0) %}{% for x in [[0] * 9999] recursive %}"
    "{% set n.d = n.d + 1 %}{% if n.d < 9999 %}{{ loop([x] * 99) }}{% endif %}"
    "{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(n) %}{% for i in range(9) %}{{ f(n - 1) if n }}{% endfor %}{% endmacro %}"
    "{{ f(9) }}",
    "{{ " + "(" * 9999,
    "{{ 1" + "+1" * 9999 + " }}",
    "{{ 1" + "|abs" * 9999 + " }}",
    "{% if 1 %}" * 4000 + "{% endif %}" * 4000,
]
NOT_ALLOWED = [
    ("{{ ''.__class__.__mro__ }}", "unsafe"),
    ("{{ messages.append(1) }}", "unsafe"),
    ("{{ messages[0].update(role='x') }}", "unsafe"),
    ("{{ raise_exception.__globals__.x }}", "unsafe"),
    ("{{ ('%s' | format('a')).__init__.x }}", "unsafe"),
    ("{{ 'a' | md5 }}", "No filter"),
    ("{{ (1).to_bytes(999999999) }}", "must not call to_bytes"),
    ("{{ 'a'.ljust(999999999) }}", "must not call ljust"),
    ("{{ 'a'.encode() }}", "must not call encode"),
    ("{{ dict.fromkeys('a') }}", "must not call fromkeys"),
    ("{{ ('a' | attr('ljust'))(999999999) }}", "must not call ljust"),
    ("{{ ('a' | attr('__class__')).x }}", "unsafe"),
    ("{{ '{0.__class__}' | attr('format') }}", "must not print"),
    ("{{ raise_exception | attr('__globals__') }}", "must not apply attr"),
    ("{{ joiner }}", "must not print a type"),
    ("{{ cycler(1) }}", "must not print a Cycler"),
    ("{{ cycler(1).items.index }}", "must not print"),
    ("{{ lipsum(99999) }}", "'lipsum' is undefined"),
    ("{% include 'x' %}", "no loader"),
    ("{{ [namespace()] }}", "must not put a Namespace into"),
    ("{{ namespace() }}", "must not print a Namespace"),
    ("{{ namespace() | string }}", "must not apply string to a Namespace"),
]
NAMES = {"bos_token": "<s>", "eos_token": "</s>", "tools": None, "documents": None}


def plain_jinja(template):
    """Render without any limits: the sandbox that Jinja comes with."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, do]
    )
    names = NAMES | {"messages": MESSAGES, "add_generation_prompt": True}
    return environment.from_string(template).render(**names)


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_renders_as_in_plain_jinja(template):
    rendered = ChatTemplate(template, "<s>", "</s>").render(MESSAGES)
    assert rendered == plain_jinja(template)


@pytest.mark.parametrize("template", TOO_MUCH, ids=range(len(TOO_MUCH)))
def test_a_template_that_wants_too_much_is_stopped(template):
    begin = time.monotonic()
    with pytest.raises(ChatTemplateError, match="must"):
        ChatTemplate(template).render(MESSAGES)
    assert time.monotonic() - begin < 10.0  # five times the limit, for slow machines


def test_a_stopped_template_did_not_take_much_memory():
    tracemalloc.start()
    try:
        for template in TOO_MUCH[1:12]:
            with pytest.raises(ChatTemplateError):
                ChatTemplate(template).render(MESSAGES)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_rounds_of_a_recursive_loop_are_steps_at_every_depth():
    template = (
        "{% set r = range(999) %}{% for x in r recursive %}"
        "{% if loop.depth == 1 %}{{ loop(r) }}{% endif %}{% endfor %}"
    )
    with pytest.raises(ChatTemplateError, match="at most 200000 steps"):
        ChatTemplate(template).render(MESSAGES)


def test_limits_hold_in_another_thread():
    caught = []

    def work():
        try:
            ChatTemplate(TOO_MUCH[0]).render(MESSAGES)
        except ChatTemplateError as error:
            caught.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert caught == [
        "chat template: must take at most 200000 steps; it loops too much."
    ]


@pytest.mark.parametrize(("template", "message"), NOT_ALLOWED)
def test_what_a_chat_template_has_no_use_for_is_refused(template, message):
    with pytest.raises(ChatTemplateError, match=message):
        ChatTemplate(template).render(MESSAGES)


def test_the_limits_leave_room_for_a_long_conversation():
    template = ChatTemplate(TEMPLATES[1], "<s>", "</s>")
    messages = [{"role": "user", "content": "word " * 1000}] * 200
    text = template.render(messages)
    assert text.count("</s>") == 200
    assert len(text) > 999_000


def test_a_template_may_refuse_in_its_own_words():
    template = "{{ raise_exception('Roles must alternate.') }}"
    with pytest.raises(
        ChatTemplateError, match=r"chat template: Roles must alternate\."
    ):
        ChatTemplate(template).render(MESSAGES)


def test_json_is_written_as_it_reads():
    value = {"b": "<é>", "a": [1, None]}
    template = "{{ messages[0].call | tojson }}|{{ messages[0].call|tojson(indent=2) }}"
    message = {"role": "user", "content": "", "call": value}
    text, pretty = ChatTemplate(template).render([message]).split("|")
    assert text == '{"b": "<é>", "a": [1, null]}'
    assert pretty == json.dumps(value, indent=2, ensure_ascii=False)


def test_a_template_can_tell_the_date():
    rendered = ChatTemplate("{{ strftime_now('%Y') }}").render(MESSAGES)
    assert int(rendered) in (datetime.now().year, datetime.now().year - 1)


def test_marks_for_training_leave_their_body():
    template = "a{% generation %}{{ messages[0].role }}{% endgeneration %}b"
    assert ChatTemplate(template).render(MESSAGES) == "asystemb"


@pytest.mark.parametrize(
    "template", ["{{ 1", "{% for %}", "{% nonsense %}", "{{ a b }}"]
)
def test_broken_syntax_is_refused_when_the_template_is_made(template):
    with pytest.raises(ChatTemplateError, match="chat template: line 1:"):
        ChatTemplate(template)


def test_a_template_may_not_be_huge():
    with pytest.raises(ChatTemplateError, match="at most 65536 characters, got 65537"):
        ChatTemplate("x" * 65537)


@pytest.mark.parametrize(
    "template",
    ["{{ 1 / 0 }}", "{{ messages[9].content.x }}", "{{ f() }}", "{{ 1 + '' }}"],
)
def test_a_template_that_fails_raises_the_error_for_templates(template):
    with pytest.raises(ChatTemplateError, match="chat template:"):
        ChatTemplate(template).render(MESSAGES)
