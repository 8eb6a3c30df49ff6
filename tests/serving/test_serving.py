"""What is asked over HTTP is answered as the batch command answers, or refused in words."""

import clinical
from clinical.preparation import ToScore
from clinical.serving import Limits, make_app
from clinical.serving import app as app_module
from clinical.serving import scoring as scoring_module
from clinical.serving.messages import Request
from clinical.serving.scoring import Scorer

import base64
import gzip
import io
import json
import logging
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

HERE = "http://127.0.0.1"
EVENT = ("code", "time", "numeric_value", "text_value")


def patients_of(extract: Path, n: int) -> list[dict[str, Any]]:
    """The first n subjects with samples, as a request has them."""
    events = pl.read_parquet(extract / "data" / "**" / "*.parquet")
    samples = pl.read_parquet(extract / "samples.parquet").sort("subject_id")
    found = []
    for (subject,), of in samples.group_by("subject_id", maintain_order=True):
        own = events.filter(pl.col("subject_id") == subject)
        rows = []
        for row in own.iter_rows(named=True):
            event = {name: row[name] for name in EVENT if row[name] is not None}
            if row["image_path"] is not None:
                content = (extract / row["image_path"]).read_bytes()
                event["image"] = base64.b64encode(content).decode()
            rows.append(event)
        times = of["prediction_time"].to_list()
        found.append({"subject_id": subject, "prediction_times": times, "events": rows})
        if len(found) == n:
            break
    return json.loads(json.dumps(found, default=lambda time: time.isoformat()))


@pytest.fixture(scope="module")
def predictor(finished):
    return clinical.Predictor.load(finished.bundle)


@pytest.fixture(scope="module")
def request_of(finished):
    """Makes a request of n patients."""
    dataset = json.loads((finished.extract / "metadata" / "dataset.json").read_text())
    codes = pl.read_parquet(finished.extract / "metadata" / "codes.parquet")
    patients = patients_of(finished.extract, 12)

    def make(n: int = 2) -> dict[str, Any]:
        return {
            "patients": json.loads(json.dumps(patients[:n])),
            "dataset_name": dataset["dataset_name"],
            "consistent_calendar": dataset.get("consistent_calendar", False),
            "codes": codes.select("code", pl.col("parent_codes").fill_null([])).to_dicts(),
        }

    return make


@pytest.fixture(scope="module")
def client(predictor):
    with TestClient(make_app(predictor), base_url=HERE) as asking:
        yield asking


def batch_scores(predictor, finished, answer: dict, request: dict, **how: Any) -> pd.DataFrame:
    """The batch command's scores, beside those of an answer."""
    served = pd.DataFrame(answer["predictions"])
    subjects = [patient["subject_id"] for patient in request["patients"]]
    served["subject_id"] = [subjects[place] for place in served["patient"]]
    served["prediction_time"] = pd.to_datetime(served["prediction_time"]).astype("datetime64[us]")
    batch = predictor.score(finished.extract, **how)
    return served.merge(batch, on=["subject_id", "prediction_time", "task"], suffixes=("", "_b"))


def test_a_patient_gets_the_score_that_the_batch_command_gives(
    client, predictor, finished, request_of
):
    request = request_of(12)
    response = client.post("/score", json=request)
    assert response.status_code == 200, response.text
    both = batch_scores(predictor, finished, response.json(), request)
    assert len(both) == sum(len(each["prediction_times"]) for each in request["patients"])
    assert both["score"].nunique() > 8
    assert (both["score"] - both["score_b"]).abs().max() < 1e-6
    assert both["modalities"].tolist() == both["modalities_b"].tolist()
    assert any("images" in names and "notes" in names for names in both["modalities"])
    for name in ("in_set", "other_in_set", "calibration", "kind"):
        assert both[name].tolist() == both[f"{name}_b"].tolist()
    assert (both["typicality"] - both["typicality_b"]).abs().max() < 1e-6
    assert both["typicality"].nunique() > 1


def test_with_a_context_it_is_the_score_that_the_batch_command_gives_with_it(
    predictor, finished, request_of
):
    request = request_of(12)
    # Chosen samples, since only then a batch's context is not the samples themselves.
    samples = pl.read_parquet(finished.extract / "samples.parquet").to_pandas()
    with TestClient(make_app(predictor, context=finished.extract), base_url=HERE) as asking:
        served = asking.post("/score", json=request).json()
    both = batch_scores(
        predictor, finished, served, request, samples=samples, context=finished.extract
    )
    assert len(both) >= 12
    assert (both["score"] - both["score_b"]).abs().max() < 1e-6
    alone = batch_scores(predictor, finished, served, request)
    assert (alone["score"] - alone["score_b"]).abs().max() > 1e-6


def test_patients_are_answered_in_their_order_and_alone_as_together(client, request_of):
    request = request_of(3)
    request["patients"].reverse()
    together = client.post("/score", json=request).json()["predictions"]
    assert [one["patient"] for one in together] == sorted(one["patient"] for one in together)
    alone = client.post("/score", json={**request, "patients": request["patients"][2:]})
    for one, other in zip(
        (each for each in together if each["patient"] == 2),
        alone.json()["predictions"],
        strict=True,
    ):
        assert other["patient"] == 0
        assert one["score"] == pytest.approx(other["score"], abs=1e-6)


def test_requests_beside_each_other_get_what_each_would_get_alone(predictor, request_of):
    requests = [{**request_of(1), "patients": [each]} for each in request_of(4)["patients"]]
    app = make_app(predictor, Limits(at_once=2))
    with TestClient(app, base_url=HERE) as asking:
        alone = [asking.post("/score", json=each).json() for each in requests]
        found: dict[int, Any] = {}

        def ask(place: int) -> None:
            found[place] = asking.post("/score", json=requests[place]).json()

        threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[place] for place in range(4)] == alone


def test_a_patient_of_whom_nothing_is_visible_has_a_reason_and_no_score(client, request_of):
    request = request_of(1)
    late = {"code": "HR", "time": "2099-01-01T00:00:00", "numeric_value": 80}
    request["patients"][0]["events"] = [late]
    (found,) = client.post("/score", json=request).json()["predictions"]
    assert found["score"] is None
    assert found["reason"] == "nothing visible"


def test_what_comes_after_the_prediction_time_changes_nothing(client, request_of):
    request = request_of(1)
    before = client.post("/score", json=request).json()
    late = {"code": "HR", "time": "2099-01-01T00:00:00", "numeric_value": 500}
    request["patients"][0]["events"].append(late)
    assert client.post("/score", json=request).json() == before


@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_volume_is_read_as_the_schema_promises(client, request_of, is_compressed):
    nibabel = pytest.importorskip("nibabel")
    request = request_of(1)
    patient = request["patients"][0]
    named = (event for each in request_of(12)["patients"] for event in each["events"])
    code = next(event["code"] for event in named if "image" in event)
    content = nibabel.Nifti1Image(np.arange(512.0).reshape(8, 8, 8), np.eye(4)).to_bytes()
    content = gzip.compress(content) if is_compressed else content
    event = {"code": code, "time": patient["prediction_times"][0]}
    patient["events"] = [{**event, "image": base64.b64encode(content).decode()}]
    response = client.post("/score", json=request)
    assert response.status_code == 200, response.text
    assert response.json()["predictions"][0]["modalities"] == "images"


def test_many_small_files_are_refused_by_their_headers_before_they_are_decoded(
    predictor, request_of, monkeypatch
):
    image = io.BytesIO()
    Image.new("L", (300, 200)).save(image, "PNG")
    text = base64.b64encode(image.getvalue()).decode()
    event = {"code": "X", "time": "2010-01-01T00:00:00", "image": text}
    request = changed(request_of(1), events=[event] * 4)
    monkeypatch.setattr("clinical.serving.scoring.unreadable", None)
    with TestClient(make_app(predictor, Limits(megapixels=0.1)), base_url=HERE) as asking:
        response = asking.post("/score", json=request)
    assert response.status_code == 413
    assert "images of 0.2 megapixels together are more than 0.1" in response.text


def test_in_portions_a_request_gets_what_it_gets_at_once(client, request_of, monkeypatch):
    request = request_of(3)
    whole = client.post("/score", json=request).json()["predictions"]
    n_events = max(len(patient["events"]) for patient in request["patients"])
    monkeypatch.setattr(scoring_module, "PORTION_PAIRS", n_events)
    sizes = []
    real = ToScore.portion

    def counted(self, piece, *rest, **more):
        sizes.append(piece.height)
        return real(self, piece, *rest, **more)

    monkeypatch.setattr(ToScore, "portion", counted)
    parts = client.post("/score", json=request).json()["predictions"]
    assert len(sizes) > 1
    assert sum(sizes) == len(parts) == len(whole)
    for one, other in zip(parts, whole, strict=True):
        assert one.pop("score") == pytest.approx(other.pop("score"), abs=1e-6)
        assert one == pytest.approx(other, abs=1e-6)


def changed(request: dict, **changes: Any) -> dict:
    patient = {**request["patients"][0], **changes}
    return {**request, "patients": [patient]}


BAD_EVENTS = [
    ({"code": "HR", "numeric_value": "fast"}, "events.0.numeric_value: Input should be a valid"),
    ({"code": "HR", "numeric_value": "SECRET"}, "events.0.numeric_value"),
    ({"numeric_value": 1}, "events.0.code: Field required"),
    ({"code": "HR", "value": 1}, "events.0.value: Extra inputs are not permitted"),
    ({"code": "HR", "time": "2020-01-01T00:00:00Z"}, "events.0.time: Input should not have"),
    ({"code": "HR", "time": "yesterday"}, "events.0.time: Input should be a valid datetime"),
    ({"code": "X", "image": "###"}, "events.0.image: Value error, is no base64"),
    (
        {"code": "X", "time": "2010-01-01T00:00:00", "image": "U0VDUkVU"},
        "patients.0.events.0.image: undecodable; send the file of a PNG",
    ),
    ({"code": "HR", "time": "2010-01-01T00:00:00", "numeric_value": 1e39}, "infinite"),
]


@pytest.mark.parametrize(("event", "words"), BAD_EVENTS)
def test_an_event_that_is_wrong_is_refused_with_its_place_and_not_its_content(
    client, request_of, event, words, caplog
):
    caplog.set_level(logging.DEBUG)
    response = client.post("/score", json=changed(request_of(1), events=[event]))
    assert response.status_code == 422
    assert words in response.json()["error"]
    assert "SECRET" not in response.text + caplog.text


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (lambda r: {**r, "patients": []}, 422, "patients: List should have at least 1 item"),
        (lambda r: {**r, "patients": r["patients"] * 2}, 422, "patients 0 and 1 have one subject"),
        (lambda r: changed(r, events=[]), 422, "events: List should have at least 1 item"),
        (lambda r: changed(r, prediction_times=[]), 422, "prediction_times: List should have"),
        (lambda r: changed(r, subject_id="7"), 422, "subject_id: Input should be a valid integer"),
        (lambda r: changed(r, subject_id=2**63), 422, "subject_id: Input should be less than"),
        (
            lambda r: changed(r, prediction_times=r["patients"][0]["prediction_times"][:1] * 2),
            422,
            "patient 0 has a prediction time twice",
        ),
        (lambda r: changed(r, name="Jane"), 422, "name: Extra inputs are not permitted"),
        (lambda r: changed(r, events={}), 422, "events: Input should be a valid list"),
        (lambda r: {**r, "codes": [{}]}, 422, "codes.0.code: Field required"),
        (lambda r: {**r, "patients": [1]}, 422, "patients.0: Input should be a valid dictionary"),
        (lambda r: [r], 422, "body: Input should be a valid dictionary"),
    ],
)
def test_a_request_that_is_wrong_is_refused_in_words(client, request_of, change, status, words):
    response = client.post("/score", json=change(request_of(1)))
    assert response.status_code == status
    assert words in response.json()["error"]


def test_what_is_no_json_is_refused(client):
    for content, headers in (
        (b"{", {"content-type": "application/json"}),
        (b'{"patients": []}', {"content-type": "text/plain"}),
        (b"\xff\xfe", {"content-type": "application/json"}),
    ):
        response = client.post("/score", content=content, headers=headers)
        assert 400 <= response.status_code < 500
        assert "error" in response.text


@pytest.mark.parametrize(
    ("limits", "n", "words"),
    [
        (Limits(megabytes=0.001), 1, "Too Large"),
        (Limits(patients=1), 2, "2 patients are more than 1"),
        (Limits(events=5), 1, "events are more than 5"),
    ],
)
def test_a_request_above_a_limit_is_refused(predictor, request_of, limits, n, words):
    with TestClient(make_app(predictor, limits), base_url=HERE) as asking:
        response = asking.post("/score", json=request_of(n))
        assert response.status_code == 413
        assert words in response.text
        assert asking.get("/health").json()["status"] == "ok"


def test_too_many_and_too_slow_requests_are_refused_and_health_says_so(
    predictor, request_of, monkeypatch
):
    go_on, begun = threading.Event(), threading.Event()
    real = Scorer.answer

    def slow(self, request):
        begun.set()
        assert go_on.wait(30)
        return real(self, request)

    monkeypatch.setattr(Scorer, "answer", slow)
    app = make_app(predictor, Limits(at_once=1, waiting=0, seconds=0.5))
    with TestClient(app, base_url=HERE) as asking:
        found = []
        thread = threading.Thread(
            target=lambda: found.append(asking.post("/score", json=request_of(1)))
        )
        thread.start()
        assert begun.wait(10)
        busy = asking.post("/score", json=request_of(1))
        assert (busy.status_code, "too many requests" in busy.json()["error"]) == (503, True)
        health = asking.get("/health").json()
        assert (health["status"], health["running"]) == ("busy", 1)
        thread.join()
        assert found[0].status_code == 504
        # Its thread cannot be stopped: until it ends nobody else takes its place.
        assert asking.post("/score", json=request_of(1)).status_code == 503
        go_on.set()
        monkeypatch.setattr(Scorer, "answer", real)
        for _ in range(200):
            if asking.get("/health").json()["running"] == 0:
                break
            time.sleep(0.1)
        assert asking.get("/health").json()["status"] == "ok"


def test_nothing_of_a_patient_is_logged_or_kept(
    predictor, request_of, caplog, capfd, monkeypatch, tmp_path
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    request = request_of(2)

    def fails(self, extract, patients):
        assert len(list(extract.rglob("*.parquet"))) > 1
        raise KeyError(request["patients"][0]["events"])

    with TestClient(make_app(predictor), base_url=HERE) as asking:
        assert asking.post("/score", json=request).status_code == 200
        monkeypatch.setattr(Scorer, "_score", fails)
        response = asking.post("/score", json=request)
        (folder,) = tmp_path.iterdir()
        assert [path.name for path in folder.iterdir()] == ["fitted"]
    assert response.status_code == 500
    assert response.json() == {"error": "this is a defect of ours; the server's log says where"}
    said = caplog.text + "".join(capfd.readouterr())
    assert "defect: KeyError in" in said
    codes = {event["code"] for patient in request["patients"] for event in patient["events"]}
    texts = [event.get("text_value") for p in request["patients"] for event in p["events"]]
    secrets = [str(p["subject_id"]) for p in request["patients"]] + [t for t in texts if t]
    assert len(secrets) > 2
    assert not [secret for secret in secrets if secret in said]
    assert not [code for code in codes if code in said and len(code) > 4]
    assert list(tmp_path.iterdir()) == []


class Listening:
    """A provider of OpenTelemetry's that hears everything."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def get_logger(self, *args, **kwargs):
        return self

    def emit(self, *args, **kwargs) -> None:
        self.heard.append((args, kwargs))


def read_by_fastapi(request: Request) -> None:
    """A route whose body FastAPI parses."""


def test_what_a_request_says_wrong_reaches_no_telemetry(predictor, monkeypatch, request_of):
    listening = Listening()
    monkeypatch.setattr("opentelemetry._logs._internal._LOGGER_PROVIDER", listening)
    wrong = changed(request_of(1), events=[{"code": "HR", "numeric_value": "SECRET"}])
    with TestClient(make_app(predictor), base_url=HERE) as asking:
        assert asking.post("/score", json=wrong).status_code == 422
    assert listening.heard == []
    # The control: of FastAPI's own reading it would have been heard.
    plain = FastAPI(telemetry={**app_module.SILENT, "logs": True})
    plain.post("/wrong")(read_by_fastapi)
    with TestClient(plain, base_url=HERE) as asking:
        assert asking.post("/wrong", json=wrong).status_code == 422
    assert listening.heard != []


def test_another_name_of_the_host_is_refused(predictor):
    app = make_app(predictor, hosts=["127.0.0.1"])
    with TestClient(app, base_url="http://rebound.example") as asking:
        assert asking.get("/health").status_code == 400
    with TestClient(app, base_url=HERE) as asking:
        assert asking.get("/health").status_code == 200


def test_the_interface_is_described_and_its_pages_fetch_nothing(client):
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/health", "/score"}
    schemas = described["components"]["schemas"]
    assert {"Event", "Patient", "Request", "Answer", "Refusal"} <= set(schemas)
    assert schemas["Event"]["properties"]["image"]["anyOf"][0]["contentEncoding"] == "base64"
    assert set(described["paths"]["/score"]["post"]["responses"]) >= {"200", "413", "422", "503"}
    assert "class" in schemas["Prediction"]["properties"]
    assert client.get("/docs").status_code == 404
    assert client.get("/redoc").status_code == 404


def test_health_says_which_model_answers(client, finished, request_of):
    health = client.get("/health").json()
    digest = (finished.bundle / "manifest.sha256").read_text().split()[0]
    assert health == {"status": "ok", "bundle": digest, "running": 0, "waiting": 0}
    assert client.post("/score", json=request_of(1)).json()["bundle"] == digest
