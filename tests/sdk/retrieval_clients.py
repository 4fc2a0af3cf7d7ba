#!/usr/bin/env python3
"""Clients of embeddings and rankings, as people install them, against a real `lmx serve`.

    pip install -r tests/sdk/requirements-retrieval.txt
    python tests/sdk/retrieval_clients.py --lmx target/release/lmx

LangChain's OpenAI embeddings, its Jina and Cohere rerankers, Cohere's own client in both versions, and the forms of
text-embeddings-inference. Starts the server on a free port of 127.0.0.1 with the project's small fixtures, runs every
check, stops the server by a signal and looks at its exit code.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request
from pathlib import Path

import cohere
import langchain_community.document_compressors.jina_rerank as jina_rerank
from langchain_cohere import CohereRerank
from langchain_core.documents import Document
from langchain_openai import OpenAIEmbeddings

FIXTURES = Path(__file__).parent.parent / "fixtures"
QUERY = "what is the capital of china"
DOCUMENTS = ["Beijing is the capital.", "The fox sleeps.", "one two three", "A passage about retrieval."]


def post(url, path, body, expected=200):
    """The answer to a JSON body, which must have the expected status."""
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            status, answer = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, answer = error.code, error.read()
    assert status == expected, (status, answer[:400])
    return json.loads(answer)


def close(a, b, most=1e-6):
    return len(a) == len(b) and max(abs(x - y) for x, y in zip(a, b)) <= most


def scores(url, model, documents=DOCUMENTS):
    """By document, in the request's order, from the plain route."""
    answer = post(url, "/v1/rerank", {"model": model, "query": QUERY, "documents": documents})
    return [entry["relevance_score"] for entry in sorted(answer["results"], key=lambda entry: entry["index"])]


def check_langchain_openai_embeddings(url, embedder, reranker):
    plain = [entry["embedding"] for entry in post(url, "/v1/embeddings", {"model": embedder, "input": DOCUMENTS})["data"]]
    client = OpenAIEmbeddings(
        model=embedder, base_url=url + "/v1", api_key="none", check_embedding_ctx_length=False, chunk_size=3
    )
    got = client.embed_documents(DOCUMENTS)
    assert all(close(a, b) for a, b in zip(plain, got)) and len(got) == len(DOCUMENTS)
    assert close(client.embed_query(DOCUMENTS[1]), plain[1])


def check_ids_of_tokenize_give_the_same_vector(url, embedder, reranker):
    ids = post(url, "/tokenize", {"model": embedder, "prompt": DOCUMENTS[0]})["tokens"]
    of = lambda value: post(url, "/v1/embeddings", {"model": embedder, "input": value})["data"][0]["embedding"]
    assert of(ids) == of(DOCUMENTS[0]) == of([ids])


def check_cohere_clients(url, embedder, reranker):
    expected = scores(url, reranker)
    for client in (cohere.ClientV2(api_key="none", base_url=url), cohere.Client(api_key="none", base_url=url)):
        answer = client.rerank(model=reranker, query=QUERY, documents=DOCUMENTS, top_n=3)
        assert len(answer.results) == 3 and answer.id
        ranked = [(entry.index, entry.relevance_score) for entry in answer.results]
        assert all(abs(score - expected[index]) < 1e-6 for index, score in ranked), (ranked, expected)
        assert [score for _, score in ranked] == sorted(expected, reverse=True)[:3]


def check_langchain_cohere_rerank(url, embedder, reranker):
    client = cohere.ClientV2(api_key="none", base_url=url)
    compressor = CohereRerank(client=client, model=reranker, top_n=2)
    found = compressor.compress_documents([Document(page_content=text) for text in DOCUMENTS], QUERY)
    expected = scores(url, reranker)
    best = sorted(range(len(DOCUMENTS)), key=lambda index: -expected[index])[:2]
    assert [document.page_content for document in found] == [DOCUMENTS[index] for index in best]
    assert abs(found[0].metadata["relevance_score"] - expected[best[0]]) < 1e-6


def check_langchain_jina_rerank(url, embedder, reranker):
    jina_rerank.JINA_API_URL = url + "/v1/rerank"
    compressor = jina_rerank.JinaRerank(model=reranker, top_n=2, jina_api_key="none")
    found = compressor.compress_documents([Document(page_content=text) for text in DOCUMENTS], QUERY)
    expected = scores(url, reranker)
    best = sorted(range(len(DOCUMENTS)), key=lambda index: -expected[index])[:2]
    assert [document.page_content for document in found] == [DOCUMENTS[index] for index in best]


def check_forms_of_text_embeddings_inference(url, embedder, reranker):
    plain = post(url, "/v1/embeddings", {"model": embedder, "input": DOCUMENTS[:2]})["data"]
    bare = post(url, "/embed", {"inputs": DOCUMENTS[:2]})
    assert [entry["embedding"] for entry in plain] == bare
    ranked = post(url, "/rerank", {"query": QUERY, "texts": DOCUMENTS, "return_text": True})
    expected = scores(url, reranker)
    assert [entry["score"] for entry in ranked] == sorted(expected, reverse=True)
    assert all(entry["text"] == DOCUMENTS[entry["index"]] for entry in ranked)


def check_batches_equal_single_requests(url, embedder, reranker):
    texts = [f"{text} {number}" for number in range(40) for text in DOCUMENTS]
    of = lambda value: [entry["embedding"] for entry in post(url, "/v1/embeddings", {"model": embedder, "input": value})["data"]]
    together, alone = of(texts), [None] * len(texts)

    def ask(numbers):
        for number in numbers:
            alone[number] = of(texts[number])[0]

    threads = [threading.Thread(target=ask, args=(range(first, len(texts), 16),)) for first in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone
    assert scores(url, reranker) == [scores(url, reranker, [text])[0] for text in DOCUMENTS]


def check_bad_requests_say_what_is_wrong(url, embedder, reranker):
    for body, status, said in [
        ({"model": embedder, "input": []}, 400, "input"),
        ({"model": embedder, "input": ""}, 400, "input"),
        ({"model": embedder, "input": ["a"] * 2049}, 400, "2049"),
        ({"model": embedder, "input": [[5_000_000]]}, 400, "no token"),
        ({"model": embedder, "input": "a", "encoding_format": "hex"}, 400, "encoding_format"),
        ({"model": embedder, "input": "a", "dimensions": 7}, 400, "dimensions"),
        ({"model": embedder, "input": "word " * 3000}, 400, "context_length_exceeded"),
        ({"model": embedder, "input": "a", "prompt_name": "none"}, 400, "prompt_name"),
        ({"model": reranker, "input": "a"}, 400, "reranker"),
        ({"model": "not-there", "input": "a"}, 404, "model_not_found"),
    ]:
        answer = json.dumps(post(url, "/v1/embeddings", body, status))
        assert said in answer, (said, answer)
    cut = post(url, "/v1/embeddings", {"model": embedder, "input": "word " * 3000, "truncate": True})
    assert cut["usage"]["prompt_tokens"] < 3000
    for body, said in [
        ({"model": reranker, "query": "a", "documents": []}, "documents"),
        ({"model": reranker, "query": "", "documents": ["a"]}, "query"),
        ({"model": reranker, "query": "a", "documents": ["a"], "top_n": 0}, "top_n"),
        ({"model": embedder, "query": "a", "documents": ["a"]}, "embedding model"),
    ]:
        assert said in json.dumps(post(url, "/v1/rerank", body, 400))


def check_a_model_is_loaded_by_its_first_requests_once(url, embedder, reranker):
    name = "late"
    count = lambda: sum(1 for model in json.load(urllib.request.urlopen(url + "/v1/models"))["data"] if model["id"] == name)
    assert count() == 0
    answers = [None] * 12

    def ask(number):
        answers[number] = post(url, "/v1/embeddings", {"model": name, "input": DOCUMENTS[0]})["data"][0]["embedding"]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answer == answers[0] for answer in answers) and count() == 1
    log = Path(os.environ["SERVER_LOG"]).read_text(encoding="utf-8")
    assert sum(1 for line in log.splitlines() if "model loaded" in line and 'model="late"' in line) == 1, log
    # It goes again: the server was started with a time to live.
    end = time.monotonic() + 20
    while count():
        assert time.monotonic() < end, "the idle model stays"
        time.sleep(0.2)
    post(url, "/v1/embeddings", {"model": name, "input": DOCUMENTS[0]})


def until_ready(process, url, log, seconds):
    end = time.monotonic() + seconds
    while True:
        assert process.poll() is None, "the server ended: " + Path(log).read_text(encoding="utf-8")
        assert time.monotonic() < end, "the server is not ready in time"
        try:
            with urllib.request.urlopen(url + "/readyz", timeout=2) as response:
                if response.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.05)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--lmx", required=True)
    arguments.add_argument("--embedder", default=str(FIXTURES / "minilm-f32" / "model"))
    arguments.add_argument("--reranker", default=str(FIXTURES / "bge-reranker-f32" / "model"))
    options = arguments.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"

    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder) / "models"
        models.mkdir()
        (models / "late").symlink_to(Path(options.embedder).resolve())
        os.environ["SERVER_LOG"] = str(Path(folder) / "log")
        settings = ["--set", f"models.directory={models}", "--set", "memory.ttl_sec=2"]
        command = [options.lmx, "serve", "--model", options.embedder, "--model", options.reranker, "--port", str(port)]
        with open(os.environ["SERVER_LOG"], "wb") as log:
            process = subprocess.Popen(command + settings, stderr=log, env={**os.environ, "NO_COLOR": "1"})
            failed = 0
            try:
                until_ready(process, url, os.environ["SERVER_LOG"], 120)
                for name, check in [(n, c) for n, c in globals().items() if n.startswith("check_")]:
                    begun = time.monotonic()
                    try:
                        check(url, options.embedder, options.reranker)
                        print(f"ok   {name} {time.monotonic() - begun:.1f} s", flush=True)
                    except Exception:
                        failed += 1
                        print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)
            finally:
                process.send_signal(signal.SIGTERM)
                code = process.wait(30)
        if code != 0:
            failed += 1
            print(f"FAIL the server ended with {code}")
        if failed:
            print(Path(os.environ["SERVER_LOG"]).read_text(encoding="utf-8")[-3000:])
    print("failed" if failed else "passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
