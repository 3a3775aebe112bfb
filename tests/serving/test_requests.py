"""Requests for completions and the answers to them, in the format of the field."""

import itertools
import json
import math
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clients import Client, running
from conftest import TINY, charlm, words

from charlm.api.loaded import Loaded, load
from charlm.api.scoring import score
from charlm.serving.fields import RefusalError
from charlm.serving.request import MOST_LIKELY, Limits, read_wish

LONGEST = 3000


def trained(folder: Path, *changes: str, text: str = "") -> Loaded:
    (folder / "words.txt").write_text(text or words(1500), encoding="utf-8")
    sets = [part for change in [*TINY, *changes] for part in ("--set", change)]
    done = charlm("train", "words.txt", "--run", "run", *sets, "-q", cwd=folder)
    assert done.returncode == 0, done.stderr
    return load(folder / "run")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return trained(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def client(loaded: Loaded) -> Iterator[Client]:
    with running(loaded, limits=Limits(longest=LONGEST, most=16, body=50_000)) as found:
        yield found


def test_a_seed_writes_the_text_of_sample(client: Client, loaded: Loaded) -> None:
    options = {"temperature": 0.7, "top_p": 0.9, "top_k": 9, "min_p": 0.01, "seed": 11}
    found = client.texts(prompt="the ", max_tokens=200, **options)
    assert found == [loaded.sample("the ", length=200, **options)]
    greedy = client.texts(prompt="the ", max_tokens=50, temperature=0)
    assert greedy == [loaded.sample("the ", length=50, temperature=0)]


def test_several_texts_are_those_of_sample(client: Client, loaded: Loaded) -> None:
    from charlm import sample

    written = sample(loaded, "fox", num=3, seed=4, length=40, temperature=1.0)
    found = client.texts(prompt="fox", n=3, seed=4, max_tokens=40)
    assert found == [one.text for one in written.samples]
    both = client.texts(prompt=["fox", "dog"], n=3, seed=4, max_tokens=40)
    assert both[:3] == found
    assert both[3:] == client.texts(prompt="dog", n=3, seed=4, max_tokens=40)


def test_without_a_prompt_the_text_is_that_of_sample(client: Client, loaded: Loaded) -> None:
    expected = loaded.sample("", length=40, seed=2, temperature=1.0)
    assert client.texts(seed=2, max_tokens=40) == [expected]
    assert client.texts(seed=2, max_tokens=40, prompt="") == [expected]


def test_a_prompt_is_a_text_or_token_ids(client: Client, loaded: Loaded) -> None:
    given = client.found("/tokenize", {"prompt": "lazy dog", "add_special_tokens": False})
    tokens = given["tokens"]
    assert tokens == loaded.vocabulary.encode("lazy dog").tolist()
    assert given["count"] == 8
    assert given["max_model_len"] == LONGEST
    assert client.found("/detokenize", {"tokens": tokens}) == {"prompt": "lazy dog"}
    by_text = client.texts(prompt="lazy dog", seed=1, max_tokens=30)
    assert by_text == client.texts(prompt=tokens, seed=1, max_tokens=30)
    assert by_text * 2 == client.texts(prompt=[tokens, tokens], seed=1, max_tokens=30)
    info = client.found("/tokenizer_info")
    assert info["eos_token"] is None
    assert info["bos_token"] == "\n"


def test_tokens_are_returned_as_texts_on_request(client: Client) -> None:
    found = client.found("/tokenize", {"prompt": "fox", "return_token_strs": True})
    assert found["token_strs"] == ["f", "o", "x"]
    assert client.found("/tokenize", {"prompt": "fox"})["token_strs"] is None


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [(None, "null"), (["fox"], "a list of 1"), (7, "7"), ({}, "an object of 0")],
)
def test_only_a_text_has_tokens(client: Client, prompt: object, shown: str) -> None:
    refused = client.refused({"prompt": prompt}, "/tokenize")
    assert refused == (400, f"prompt = {shown} should be a text", "prompt")


def test_a_text_whose_characters_are_no_spaces_begins_with_one_of_them(tmp_path: Path) -> None:
    """Without a newline to read first, the first symbol that was learned is read and written."""
    one = trained(tmp_path, text="fox-dog-" * 900)
    with running(one) as client:
        order = {"seed": 2, "max_tokens": 40, "logprobs": 1}
        (found,) = client.found("/v1/completions", order)["choices"]
    assert found["text"] == one.sample("", length=40, seed=2, temperature=1.0)
    assert found["text"][0] == one.vocabulary.symbol(one.vocabulary.first) == "f"
    logs = found["logprobs"]
    assert "".join(logs["tokens"]) == found["text"]
    assert logs["text_offset"] == list(range(40))
    assert [at for at, log in enumerate(logs["token_logprobs"]) if log is None] == [0]


def test_echo_without_logprobs_is_the_prompt_and_the_text(client: Client) -> None:
    order = {"prompt": "lazy dog", "max_tokens": 20, "seed": 4}
    (choice,) = client.found("/v1/completions", order | {"echo": True})["choices"]
    assert choice["text"] == "lazy dog" + client.texts(**order)[0]
    assert choice["logprobs"] is None
    assert client.texts(**order | {"echo": True, "max_tokens": 0}) == ["lazy dog"]


def test_a_stream_has_the_same_text_in_parts(client: Client) -> None:
    order = {"prompt": ["the ", "fox"], "n": 2, "seed": 3, "max_tokens": 500}
    whole = client.found("/v1/completions", order)
    *events, last = client.events(**order, stream_options={"include_usage": True})
    assert last == "[DONE]"
    *parts, counted = map(json.loads, events)
    assert counted["choices"] == []
    assert counted["usage"] == whole["usage"]
    assert whole["usage"]["completion_tokens"] == 2000
    texts, reasons = [""] * 4, [None] * 4
    for part in parts:
        (choice,) = part["choices"]
        assert reasons[choice["index"]] is None
        texts[choice["index"]] += choice["text"]
        reasons[choice["index"]] = choice["finish_reason"]
    assert texts == [one["text"] for one in whole["choices"]]
    assert reasons == ["length"] * 4


def test_echo_with_logprobs_scores_the_prompt(client: Client, loaded: Loaded) -> None:
    text = "the quick brown fox"
    order = {"prompt": text, "echo": True, "logprobs": 3, "max_tokens": 5, "seed": 1}
    choice = client.found("/v1/completions", order)["choices"][0]
    found = choice["logprobs"]
    assert choice["text"].startswith(text)
    assert "".join(found["tokens"]) == choice["text"]
    assert found["text_offset"] == list(range(len(text) + 5))
    assert found["token_logprobs"][0] is found["top_logprobs"][0] is None
    nats = -loaded.surprisals(choice["text"]).surprisals.numpy()[1:]
    np.testing.assert_allclose(found["token_logprobs"][1:], nats, atol=1e-5)
    for token, log, top in zip(
        found["tokens"][1:], found["token_logprobs"][1:], found["top_logprobs"][1:], strict=True
    ):
        assert top[token] == log
        assert 3 <= len(top) <= 4
        assert log <= max(top.values())
    only = client.found("/v1/completions", order | {"max_tokens": 0})["choices"][0]
    assert only["text"] == text
    assert only["finish_reason"] == "length"
    assert only["logprobs"]["token_logprobs"] == found["token_logprobs"][: len(text)]
    streamed = client.events(**order)[:-1]
    parts = [json.loads(event)["choices"][0]["logprobs"] for event in streamed]
    assert [log for part in parts for log in part["token_logprobs"]] == found["token_logprobs"]


def test_windows_read_by_a_client_have_the_score_of_the_command(
    client: Client, loaded: Loaded, tmp_path: Path
) -> None:
    """The protocol of lm-eval: token ids of a window and one symbol of context, echoed."""
    window, file = 64, tmp_path / "other.txt"
    file.write_text(words(300, seed=7)[: 16 * window + 1], encoding="utf-8")
    tokens = client.found("/tokenize", {"prompt": file.read_text(encoding="utf-8")})["tokens"]
    prompts = [tokens[at : at + window + 1] for at in range(0, len(tokens) - 1, window)]
    order = {"prompt": prompts, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    choices = client.found("/v1/completions", order)["choices"]
    logs = [one["logprobs"]["token_logprobs"][1:-1] for one in choices]
    nats = math.log(len(loaded.vocabulary)) - math.fsum(itertools.chain.from_iterable(logs))
    scored = score(loaded, file, window=window).score
    assert nats / math.log(2) / len(tokens) == pytest.approx(scored.bits_per_byte, abs=1e-6)


def test_all_chances_add_up_to_one(client: Client, loaded: Loaded) -> None:
    size = len(loaded.vocabulary)
    found = client.found("/v1/completions", {"prompt": "a", "max_tokens": 3, "logprobs": size})
    for top in found["choices"][0]["logprobs"]["top_logprobs"]:
        assert len(top) == size
        assert math.fsum(map(math.exp, top.values())) == pytest.approx(1)


def test_a_text_ends_before_the_first_of_several_stops(client: Client) -> None:
    order: dict[str, Any] = {"prompt": "the ", "seed": 5, "max_tokens": 300, "logprobs": 1}
    (long,) = client.texts(**order)
    stops = [long[150:156], long[90:93], "never this"]
    at = min(place for stop in stops if (place := long.find(stop)) >= 0)
    assert at > 0
    choice = client.found("/v1/completions", order | {"stop": stops})["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (long[:at], "stop")
    assert "".join(choice["logprobs"]["tokens"]) == long[:at]
    events = client.events(**order, stop=stops)[:-1]
    parts = [json.loads(event)["choices"][0] for event in events]
    assert "".join(part["text"] for part in parts) == long[:at]
    assert parts[-1]["finish_reason"] == "stop"


def test_a_text_is_the_same_alone_and_beside_others(client: Client) -> None:
    orders = [
        {"prompt": "the "[: seed % 5], "seed": seed, "max_tokens": 50 + seed, "temperature": 0.9}
        for seed in range(40)
    ]
    alone = [client.texts(**order) for order in orders]
    with ThreadPoolExecutor(20) as clients:
        beside = list(clients.map(lambda order: client.texts(**order), orders))
    assert alone == beside


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": -1}, "max_tokens = -1 should be a whole number from 0 to 3000"),
    ({"max_tokens": 1.5}, "max_tokens = 1.5 should be"),
    ({"max_tokens": True}, "max_tokens = true should be"),
    ({"max_tokens": 10**400}, "max_tokens = 1000"),
    ({"max_tokens": 3000}, "a prompt of 1 and max_tokens = 3000 are more than 3000 symbols"),
    ({"temperature": -0.1}, "temperature = -0.1 should be a number from 0 to 100"),
    ({"temperature": "hot"}, 'temperature = "hot" should be'),
    ({"top_p": 0}, "top_p = 0 should be above 0"),
    ({"top_p": 1.01}, "top_p = 1.01 should be a number from 0 to 1"),
    ({"top_k": -2}, "top_k = -2 should be"),
    ({"min_p": []}, "min_p = a list of 0 should be"),
    ({"n": 0}, "n = 0 should be a whole number from 1 to 16"),
    ({"n": 4, "prompt": ["a"] * 5}, "5 prompts with n = 4 are more than 16 texts"),
    ({"seed": -1}, "seed = -1 should be"),
    ({"logprobs": -1}, "logprobs = -1 should be"),
    ({"logprobs": True}, "logprobs = true should be"),
    ({"stop": 3}, "stop = 3 should be a text or a list of texts"),
    ({"stop": ["a"] * 17}, "stop has 17 texts, 16 are allowed"),
    ({"stop": "a" * 257}, "stop has a text of 257 characters, 256 are allowed"),
    ({"stream": "yes"}, 'stream = "yes" should be true or false'),
    ({"stream_options": {"usage": True}}, 'there is no field "usage" here'),
    ({"prompt": {}}, "prompt = an object of 0 should be a text, token ids"),
    ({"prompt": []}, "prompt = a list of 0 should be"),
    ({"prompt": [1, 99]}, "prompt[1] = 99: token ids are whole numbers from 0 to"),
    ({"prompt": [1, "a"]}, 'prompt[1] = "a": token ids are'),
    ({"prompt": ["a", 1]}, "prompt[1] = 1 should be a text"),
    ({"prompt": [[1], []], "max_tokens": 1, "n": 99}, "n = 99 should be"),
    ({"prompt": "a\ud800"}, "prompt has U+D800 at place 1, which is half of a character"),
    ({"temprature": 1}, "there is no field \"temprature\" here; did you mean 'temperature'?"),
    ({"best_of": 3}, "best_of = 3 is not supported"),
    ({"frequency_penalty": 0.5}, "frequency_penalty = 0.5 is not supported"),
    ({"logit_bias": {"1": 5}}, "logit_bias = an object of 1 is not supported"),
    ({"suffix": "end"}, 'suffix = "end" is not supported'),
]


@pytest.mark.parametrize(("wrong", "says"), REFUSED, ids=[says[:30] for _, says in REFUSED])
def test_a_wrong_field_is_named_with_its_value(
    client: Client, wrong: dict[str, Any], says: str
) -> None:
    status, message, field = client.refused({"prompt": "a"} | wrong)
    assert status == 400
    assert says in message
    assert field is not None


def test_another_model_is_not_there(client: Client) -> None:
    assert client.refused({"model": "gpt"})[:2] == (404, 'there is no model "gpt" here, but "run"')
    assert client.ask("/v1/models/gpt")[0] == 404
    assert client.found("/v1/models/run")["id"] == client.found("/v1/models")["data"][0]["id"]


def test_an_unknown_character_is_named_with_its_place(tmp_path: Path) -> None:
    one = trained(tmp_path, "data.unknown=false", "data.minimum_count=1")
    with running(one) as client:
        for path, body in (("/v1/completions", {"max_tokens": 3}), ("/tokenize", {})):
            status, message, _ = client.refused(body | {"prompt": "the €"}, path)
            assert status == 400
            assert "prompt has '€' (U+20AC) at place 4" in message


def test_an_unknown_character_is_read_as_the_symbol_for_it(client: Client, loaded: Loaded) -> None:
    expected = [loaded.sample("€", length=9, seed=1, temperature=1.0)]
    assert client.texts(prompt="€", max_tokens=9, seed=1) == expected


@pytest.mark.parametrize("unit", ["byte", "jamo"])
def test_korean_is_written_in_whole_characters(tmp_path: Path, unit: str) -> None:
    one = trained(tmp_path, f"data.unit={unit}", text="안녕하세요 반갑습니다\n" * 300)
    with running(one) as client:
        options = {"seed": 3, "temperature": 0.5}
        order = {"prompt": "안녕", "max_tokens": 60, "logprobs": 2, **options}
        (found,) = client.found("/v1/completions", order)["choices"]
        expected = one.sample("안녕", length=60, **options)
        assert found["text"] == expected.encode("utf-8", "replace").decode()
        assert len(found["logprobs"]["tokens"]) == 60
        parts = [json.loads(event)["choices"][0] for event in client.events(**order)[:-1]]
        assert "".join(part["text"] for part in parts) == found["text"]
        tokens = [token for part in parts for token in part["logprobs"]["tokens"]]
        assert tokens == found["logprobs"]["tokens"]


def test_a_record_ends_by_itself(tmp_path: Path) -> None:
    one = trained(tmp_path, "data.records=lines", "train.steps=40", text="ab\nabc\n" * 500)
    with running(one) as client:
        order = {"prompt": "a", "max_tokens": 500, "seed": 1, "logprobs": 1, "echo": True}
        (found,) = client.found("/v1/completions", order)["choices"]
        assert found["finish_reason"] == "stop"
        assert found["text"] == "a" + one.sample("a", length=500, seed=1, temperature=1.0)
        assert found["logprobs"]["tokens"][-1] == "<end>"
        assert found["logprobs"]["token_logprobs"][0] < 0  # after the end of another record
        assert client.found("/tokenizer_info")["eos_token"] == "<end>"
        (end,) = client.found("/tokenize", {"prompt": "<end>"})["tokens"]
        assert end == one.vocabulary.end
        assert client.texts(prompt=[end], seed=1) == client.texts(prompt="", seed=1)


def hostile(drawn: random.Random) -> bytes:
    """A body that no server wants."""
    deep = drawn.choice([b"[", b'{"prompt":', b'{"a":['])
    values = ["", "a", -1, 0, 10**30, 1e308, None, True, [], {}, [[]], [None], "\ud800", "\0", "€"]
    fields = ["prompt", "max_tokens", "n", "seed", "stop", "logprobs", "echo", "stream", "top_p"]
    fields += ["temperature", "top_k", "min_p", "model", "stream_options", "x" * 1000]
    return drawn.choice(
        [
            deep * drawn.randrange(1, 9000),
            drawn.randbytes(drawn.randrange(300)),
            b'{"prompt": NaN}',
            b'{"max_tokens": ' + b"9" * 20_000 + b"}",
            json.dumps(drawn.choice(values)).encode(),
            *[
                json.dumps(
                    {name: drawn.choice(values) for name in drawn.sample(fields, 1 + n // 3)}
                ).encode()
                for n in range(9)
            ],
            b" " * 50_001,
            b'{"prompt": "\xff"}',
        ]
    )


def test_hostile_bodies_are_refused_and_nothing_else_happens(client: Client) -> None:
    drawn, statuses = random.Random(6), set()
    for _ in range(300):
        path = drawn.choice(["/v1/completions", "/tokenize", "/detokenize"])
        status, _, content = client.ask(path, hostile(drawn))
        statuses.add(status)
        if status != 200:
            assert json.loads(content)["error"]["message"]
    assert statuses == {200, 400, 404, 413}
    assert client.busy == 0
    assert client.texts(prompt="the ", seed=1, max_tokens=5)


def test_reports_in_all_places_are_limited(loaded: Loaded) -> None:
    order = {"prompt": "a", "n": 128, "max_tokens": 60_000, "logprobs": MOST_LIKELY}
    with pytest.raises(RefusalError, match="symbols in all places, 2,000,000 are allowed"):
        read_wish(order, "run", loaded.vocabulary, Limits())


def test_openai_writes_and_streams(client: Client, loaded: Loaded) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"http://127.0.0.1:{client.port}/v1", api_key="any") as other:
        assert [one.id for one in other.models.list()] == ["run"]
        order = {"model": "run", "prompt": "the ", "max_tokens": 60, "seed": 9}
        made = other.completions.create(**order, logprobs=2, echo=True)
        expected = loaded.sample("the ", length=60, seed=9, temperature=1.0)
        assert made.choices[0].text == "the " + expected
        assert len(made.choices[0].logprobs.token_logprobs) == 64
        parts = other.completions.create(**order, stream=True)
        assert "".join(part.choices[0].text for part in parts) == expected
        with pytest.raises(openai.BadRequestError, match="max_tokens = -1"):
            other.completions.create(**order | {"max_tokens": -1})
