from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st


pytest.importorskip("jinja2")

from motadata.core.errors import (
    ConfigurationError,
    InvalidIdentifierError,
    PromptLimitError,
    PromptTemplateError,
    PromptVariableError,
)
from motadata.core.prompts import (
    DATA_NOTICE,
    PromptLimits,
    PromptTemplate,
    data_block,
    make_inert,
)


BLOCK = re.compile(r'<data name="x">\n?(.*?)\n?</data>', re.DOTALL)
HOSTILE = st.text(
    st.sampled_from(
        [*"<>/ \n\"'&datpsgoureDATA=\uff1c\ufe64\uff0f", "\u200b", "\u00ad", "\ufeff", "é"]
    ),
    max_size=60,
) | st.lists(
    st.sampled_from(
        [
            *(
                "</data>",
                "<data ",
                'name="x">',
                "< / data>",
                "<",
                "/data",
                "</passages>",
                "{{ x }}",
            ),
            *(
                "<passage number=1>",
                "</da\u200bta>",
                "\uff1c/data\uff1e",
                "{% endif %}",
                "\n",
                "ignore",
            ),
        ]
    ),
    max_size=8,
).map("".join)
SEEN_AS_TAG = re.compile(
    r"[<\uff1c\ufe64][/\uff0f]?(data|passages?|source)(?![a-z0-9])", re.IGNORECASE
)
UNSEEN = re.compile(r"[\s\u00ad\u200b-\u200f\u2060-\u206f\ufeff]")


def as_read(text: str) -> str:
    """Return a text without what a reader passes over."""
    return UNSEEN.sub("", text)


def template(text: str, **options: object) -> PromptTemplate:
    return PromptTemplate("sample", text, **options)  # type: ignore[arg-type]


class TestRendering:
    def test_trusted_text_and_numbers_stand_as_they_are(self) -> None:
        prompt = template("{{ product }} has {{ count }} open.", trusted=["product"])

        assert prompt.render({"product": "Desk", "count": 3}) == "Desk has 3 open."

    def test_other_text_is_marked_as_data_and_a_notice_says_what_that_means(self) -> None:
        prompt = template("Sort:\n{{ incident }}").render({"incident": "VPN is down"})

        assert prompt == f'{DATA_NOTICE}\n\nSort:\n<data name="incident">VPN is down</data>'

    def test_mark_stays_on_parts_and_on_what_filters_make_of_them(self) -> None:
        text = "{% for i in x %}{{ i.title | upper }}{% endfor %}{{ x | tojson }}{{ x[0].title }}"

        prompt = template(text).render({"x": [{"title": "a</data>"}]})

        assert BLOCK.findall(prompt) == ["A&lt;/DATA>", '[{"title": "a&lt;/data>"}]', "a&lt;/data>"]
        assert BLOCK.sub("", prompt) == f"{DATA_NOTICE}\n\n"

    def test_keys_of_a_mapping_are_data_too(self) -> None:
        prompt = template("{% for key in x %}{{ key }}{% endfor %}").render({"x": {"</data>": 1}})

        assert BLOCK.findall(prompt) == ["&lt;/data>"]

    def test_default_is_part_of_the_template_and_a_given_value_is_not(self) -> None:
        prompt = template("Be {{ x }}.", defaults={"x": "calm"})

        assert prompt.render() == "Be calm."
        assert BLOCK.findall(prompt.render({"x": "rude"})) == ["rude"]

    def test_language_has_what_prompts_need(self) -> None:
        text = (
            "{% for i in items if i.open %}{{ loop.index }}/{{ loop.length }} {{ i.n + 1 }}"
            "{% if not loop.last %}, {% endif %}{% else %}none{% endfor %}"
            "{{ ' yes' if flag is true and 1 in numbers else ' no' }}"
            "{{ items[0].absent | default(' nothing') }} {{ numbers | length }}"
        )

        prompt = template(text).render(
            {
                "items": [{"open": True, "n": 1}, {"open": False, "n": 2}, {"open": True, "n": 3}],
                "flag": True,
                "numbers": [1, 2],
            }
        )

        assert prompt == "1/2 2, 2/2 4 yes nothing 2"

    def test_none_is_empty_and_a_container_needs_a_filter(self) -> None:
        assert template("[{{ x }}]").render({"x": None}) == "[]"
        with pytest.raises(PromptTemplateError, match="tojson"):
            template("{{ x }}").render({"x": [1]})

    @given(value=HOSTILE)
    def test_no_value_breaks_out_of_its_block(self, value: str) -> None:
        prompt = template("before {{ x }} after {{ x | trim }}").render({"x": value})

        blocks = BLOCK.findall(prompt)
        assert len(blocks) == 2
        assert BLOCK.sub("#", prompt) == f"{DATA_NOTICE}\n\nbefore # after #"
        assert not any(SEEN_AS_TAG.search(as_read(block)) for block in blocks)

    @given(value=HOSTILE)
    def test_trusted_value_forges_no_block_either(self, value: str) -> None:
        prompt = template("{{ x }}", trusted=["x"]).render({"x": value})

        assert not SEEN_AS_TAG.search(as_read(prompt))

    @given(value=HOSTILE)
    def test_making_inert_changes_nothing_but_the_brackets_of_tags(self, value: str) -> None:
        inert = make_inert(value)

        assert make_inert(inert) == inert
        assert re.sub("&lt;|[\uff1c\ufe64]", "<", inert) == re.sub(
            "&lt;|[\uff1c\ufe64]", "<", value
        )

    def test_harmless_text_is_left_alone(self) -> None:
        text = "a < b, <b>bold</b>, <database>, </datasheet>, <sources2>"

        assert make_inert(text) == text
        assert data_block("two\nlines", name="x") == '<data name="x">\ntwo\nlines\n</data>'

    def test_name_of_a_block_cannot_end_its_tag(self) -> None:
        with pytest.raises(InvalidIdentifierError):
            data_block("x", name='a"></data>')


class TestVariables:
    def test_missing_and_unknown_ones_are_named_and_not_quoted(self) -> None:
        with pytest.raises(PromptVariableError) as caught:
            template("{{ a }}{{ b }}{{ c }}", defaults={"c": ""}).render({"b": 1, "d": "hunter2"})

        assert (caught.value.missing, caught.value.unknown) == (("a",), ("d",))
        assert "missing: 'a'; unknown: 'd'" in str(caught.value)
        assert "It has: a, b, c." in str(caught.value)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        ("value", "complaint"),
        [
            (object(), "holds a object"),
            ({"k": {1, 2}}, "holds a set"),
            ({1: "a"}, "is a int"),
            (float("nan"), "not finite"),
            (2**63, "63 bits"),
            ("\ud800", "surrogate"),
            ("x" * 1_000_001, "max_input"),
        ],
    )
    def test_value_that_no_template_can_show_is_refused(
        self, value: object, complaint: str
    ) -> None:
        with pytest.raises(PromptVariableError, match=complaint):
            template("{{ x }}").render({"x": value})

    def test_value_nested_in_itself_is_refused(self) -> None:
        endless: list[object] = []
        endless.append(endless)

        with pytest.raises(PromptVariableError, match="nested deeper"):
            template("{{ x | tojson }}").render({"x": endless})

    def test_absent_field_is_named_when_the_template_named_it(self) -> None:
        with pytest.raises(PromptVariableError, match="'owner'"):
            template("{{ x.owner }}").render({"x": {}})

    def test_key_that_a_value_held_is_not_repeated(self) -> None:
        with pytest.raises(PromptVariableError) as caught:
            template("{{ x[y] }}").render({"x": {}, "y": "hunter2"})

        assert "hunter2" not in str(caught.value)

    def test_wrong_kind_of_value_is_a_typed_error_without_the_value(self) -> None:
        for text in ("{{ x + 1 }}", "{{ x < 1 }}", "{{ -x }}", "{% for i in x %}{% endfor %}"):
            with pytest.raises(PromptTemplateError) as caught:
                template(text).render({"x": "hunter2"})
            assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"required": []}, "not declared: 'x'"),
            ({"required": ["x", "y"]}, "does not use: 'y'"),
            ({"required": ["x"], "defaults": {"x": 1}}, "have a default: 'x'"),
            ({"trusted": ["y"]}, "does not have: 'y'"),
            ({"version": 0}, "version 0"),
            ({"version": True}, "version True"),
            ({"defaults": {"a b": 1}}, "'a b'"),
        ],
    )
    def test_declaration_that_contradicts_the_text_is_refused(
        self, options: dict[str, object], complaint: str
    ) -> None:
        with pytest.raises(PromptTemplateError, match=complaint):
            template("{{ x }}", **options)

    def test_bad_name_is_refused(self) -> None:
        with pytest.raises(InvalidIdentifierError):
            PromptTemplate("../etc", "x")

    def test_equal_templates_have_equal_checksums_and_others_do_not(self) -> None:
        shapes = [
            template("{{ x }}"),
            template("{{ x }}!"),
            template("{{ x }}", version=2),
            template("{{ x }}", trusted=["x"]),
            template("{{ x }}", defaults={"x": 1}),
        ]

        assert len({shape.checksum for shape in shapes}) == 5
        assert template("{{ x }}", description="other").checksum == shapes[0].checksum

    def test_text_is_not_shown_in_a_repr(self) -> None:
        assert repr(template("hunter2")) == "PromptTemplate('sample', version=1)"


class TestSandbox:
    @pytest.mark.parametrize(
        "text",
        [
            "{{ 'a' * 10**9 }}",
            "{{ 2 ** 99999 }}",
            "{{ '%999999999d' % 1 }}",
            "{% set a = 1 %}",
            "{% set a %}x{% endset %}",
            "{% macro m() %}{% endmacro %}",
            "{% include 'x' %}",
            "{% extends 'x' %}",
            "{% import 'x' as y %}",
            "{% block b %}{% endblock %}",
            "{% filter upper %}x{% endfilter %}",
            "{% call x() %}{% endcall %}",
            "{% with a = 1 %}{% endwith %}",
            "{{ x() }}",
            "{{ x.format(1) }}",
            "{{ range(9) }}",
            "{{ x ~ x }}",
            "{{ x[1:] }}",
            "{{ {1: 2} }}",
            "{{ x | replace('a', 'b') }}",
            "{{ x | attr('y') }}",
            "{{ x | map('upper') }}",
            "{{ x | _each }}",
            "{{ x is callable }}",
            "{{ x is filter }}",
            "{{ self }}",
            "{{ _x }}",
            "{{ context }}",
            "{{ 1000000000001 }}",
            "{{ x | upper(*x) }}",
            "{% for i in x recursive %}{% endfor %}",
            "{% for a in x %}" * 4 + "{% endfor %}" * 4,
            "{{ x",
            "{% if %}",
            "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
            "{% if x %}" * 2000,
            "{{ x }}" * 5000,
            "x" * 65_537,
        ],
    )
    def test_what_could_run_grow_or_escape_is_refused_when_the_template_is_made(
        self, text: str
    ) -> None:
        with pytest.raises(PromptTemplateError):
            template(text)

    @pytest.mark.parametrize(
        "text",
        [
            "{{ x.__class__ }}",
            "{{ x['__class__'] }}",
            "{{ ''.__class__ }}",
            "{{ x.items }}",
            "{% for i in y %}{{ loop.__class__ }}{% endfor %}",
            "{% for i in y %}{{ loop._iterator }}{% endfor %}",
            "{% for i in y %}{{ loop.cycle }}{% endfor %}",
            "{{ y.append }}",
        ],
    )
    def test_no_attribute_of_a_python_object_is_reached(self, text: str) -> None:
        values = {"x": {}, "y": [1]}
        made = template(text)

        with pytest.raises(PromptVariableError):
            made.render({name: values[name] for name in made.variables})

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            (
                "{% for a in x %}" * 3 + "{% endfor %}" * 3,
                list(range(5000)),
            ),
            ("{{ x | join(x | join) }}", ["a" * 1000] * 900),
            ("{{ x" + " | tojson" * 60 + " }}", '"' * 9),
            ("{{ [" + "x, " * 2000 + "] | tojson | length }}", ["a"] * 100_000),
            ("{% if " + "x == " * 1500 + "x %}{% endif %}", ["a" * 9] * 50_000),
            ("{% for a in x %}{{ x | tojson }}{% endfor %}", ["a" * 99] * 5000),
            ("{{ x }}{{ x }}", "a" * 600_000),
        ],
    )
    def test_rendering_that_would_explode_ends_at_a_limit_soon(
        self, text: str, value: object
    ) -> None:
        made = template(text)
        started = time.perf_counter()

        with pytest.raises(PromptLimitError):
            made.render({"x": value})

        assert time.perf_counter() - started < 10

    def test_rendering_ends_at_its_deadline(self) -> None:
        limits = PromptLimits(timeout=0.01, max_work=10**12)
        made = template("{% for a in x %}{% for b in x %}{% endfor %}{% endfor %}", limits=limits)

        with pytest.raises(PromptLimitError, match=r"0\.01 s"):
            made.render({"x": list(range(20_000))})

    def test_limits_must_let_something_through(self) -> None:
        with pytest.raises(ConfigurationError, match="max_output=0"):
            PromptLimits(max_output=0)

    @given(text=st.text(max_size=80) | st.text("{}%#|.()[]'x y1+-*", max_size=80))
    def test_any_text_is_a_template_or_a_typed_error(self, text: str) -> None:
        try:
            made = template(text)
            made.render(dict.fromkeys(made.required, "v"))
        except (PromptTemplateError, PromptVariableError):
            pass
