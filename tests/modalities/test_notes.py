from clinical.errors import ConfigError
from clinical.modalities.frequent import frequent_codes
from clinical.modalities.notes import Notes
from clinical.modalities.phrases import Phrases
from clinical.modalities.tokenizer import parse
from clinical.modalities.train_notes import frequent_words, records, with_text

import gzip
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def note(sample: int, text: str | None, hours: float = 1.0, **more: object) -> dict[str, object]:
    return {"sample": sample, "hours": hours, "code": "NOTE", "text_value": text, **more}


@pytest.fixture
def wards(make_frame) -> pl.DataFrame:
    """Twelve patients with the same words; one note names its patient, again and again."""
    notes = [note(s, f"Mild dyspnea, no edema. Day {s}.") for s in range(12)]
    return make_frame([*notes, note(12, "Zbigniewski denies dyspnea. " + "Zbigniewski " * 50)])


def fitted(frame: pl.DataFrame, **options: object):
    modality = Notes(codes=["NOTE"], vocabulary=400, **options)
    return modality, modality.fit(lambda: [frame], seed=0)


def test_a_word_needs_enough_subjects_whatever_its_frequency(wards) -> None:
    counts = frequent_words([wards], min_subjects=10)
    assert set(counts) == {"mild", "dyspnea", ",", "no", "edema", ".", "day"}
    assert counts["dyspnea"] == 13


def test_a_subject_in_several_shards_counts_once(make_frame) -> None:
    shards = [make_frame([note(0, "secret", subject=7)]) for _ in range(20)]
    assert frequent_words(shards, min_subjects=2) == {}


def test_a_note_seen_by_several_samples_counts_once(make_frame) -> None:
    frame = make_frame([note(s, "fever", subject=1, event=5) for s in range(3)])
    assert frequent_words([frame], min_subjects=1) == {"fever": 1}


def test_a_rare_name_leaves_no_piece_in_the_vocabulary(wards) -> None:
    _, statistics = fitted(wards)
    pieces = parse(statistics["tokenizer"], where="x").get_vocab()
    plain = {piece.removeprefix("##") for piece in pieces}
    assert max(len(piece) for piece in plain if piece in "zbigniewski") == 1
    assert "zbigniewski" not in statistics["tokenizer"]
    assert "dyspnea" in pieces


def test_fewer_subjects_can_be_asked_of_a_small_corpus(wards) -> None:
    _, statistics = fitted(wards, min_subjects=1)
    assert "zbigniewski" in parse(statistics["tokenizer"], where="x").get_vocab()


def test_sizes_name_the_pieces_that_objectives_must_know(wards) -> None:
    modality, statistics = fitted(wards, max_tokens=32, topics=0)
    sizes = modality.sizes(statistics)
    vocabulary = parse(statistics["tokenizer"], where="x").get_vocab_size()
    roles = {"pad": 0, "unknown": 1, "cls": 2, "sep": 3, "mask": 4, "special": 5}
    counted = {"phrases": 0, "topics": 0}
    assert sizes == {"vocabulary": vocabulary, "max_tokens": 32, "kinds": 2, **counted, **roles}
    assert statistics["special_pieces"] == [0, 1, 2, 3, 4]
    assert "config" not in statistics


def test_notes_come_back_as_written_and_a_long_one_in_chunks(
    wards, make_frame, tmp_path, no_images
) -> None:
    modality, statistics = fitted(wards, max_tokens=6, overlap=1)
    frame = make_frame([note(1, "mild edema", 3.0), note(1, "no edema day mild day no", 2.0)])
    assert modality.write(frame, 2, statistics, tmp_path, read_image=no_images) == {}
    tokens = modality.open([tmp_path], statistics).collate(np.array([0, 1]))
    tokenizer = parse(statistics["tokenizer"], where="x")
    rows = [[tokenizer.id_to_token(i) for i in row] for row in tokens.ids.tolist()]
    assert rows == [
        ["[CLS]", "mild", "edema", "[SEP]", "[PAD]", "[PAD]"],
        ["[CLS]", "no", "edema", "day", "mild", "[SEP]"],
        ["[CLS]", "mild", "day", "no", "[SEP]", "[PAD]"],
    ]
    assert tokens.mask.tolist() == [[token != "[PAD]" for token in row] for row in rows]
    assert tokens.time_hours.tolist() == [3.0, 2.0, 2.0]
    assert tokens.chunk.tolist() == [0, 0, 1]
    assert tokens.sample.tolist() == [1, 1, 1]


def test_kinds_are_the_codes_that_enough_train_subjects_have(
    make_frame, tmp_path, no_images
) -> None:
    train = [note(s, "fever") | {"code": f"NOTE//{s % 2}"} for s in range(6)]
    rare = [note(9, "fever") | {"code": "NOTE//RARE"} for _ in range(5)]
    empty = [note(s, None) | {"code": "NOTE//EMPTY"} for s in range(6)]
    frame = make_frame([*train, *rare, *empty])
    assert frequent_codes(map(with_text, [frame, frame]), min_subjects=3) == ["NOTE//0", "NOTE//1"]
    modality, statistics = fitted(frame, min_subjects=3)
    assert statistics["kinds"] == ["NOTE//0", "NOTE//1"]
    assert modality.sizes(statistics)["kinds"] == 3
    modality.write(frame, 10, statistics, tmp_path, read_image=no_images)
    kind = modality.open([tmp_path], statistics).collate(np.array([1, 2, 9])).kind.tolist()
    assert kind == [2, 1, *[0] * 5]


def test_each_note_comes_with_what_its_phrases_say(make_frame, tmp_path, no_images) -> None:
    rng = np.random.default_rng(0)
    moods = rng.random(400) < 0.5
    texts = [
        ". ".join(rng.choice(["wakes", "eats", "walks"], 4) + f" {m}")
        for m in np.where(moods, "well", "badly")
    ]
    train = make_frame([note(s, text) for s, text in enumerate(texts)])
    modality, statistics = fitted(train)
    assert 0 < modality.sizes(statistics)["phrases"] <= 32
    seen = [note(0, "eats well. walks well"), note(1, "eats badly. walks badly"), note(1, "42")]
    modality.write(make_frame(seen), 2, statistics, tmp_path, read_image=no_images)
    phrases = modality.open([tmp_path], statistics).collate(np.array([1, 0])).phrases[:, 0]
    badly, unknown, well = phrases.tolist()
    assert badly * well < 0
    assert abs(unknown) < min(abs(badly), abs(well))


def test_notes_written_in_blocks_are_the_same(make_frame, tmp_path, no_images, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    texts = [
        ". ".join(rng.choice(["wakes", "eats", "walks"], 6) + f" m{s % 2}") for s in range(400)
    ]
    frame = make_frame([note(s, text) for s, text in enumerate(texts)])
    modality, statistics = fitted(frame, max_tokens=12)
    assert modality.sizes(statistics)["phrases"]
    read, sizes, apply = [], [], Phrases.apply
    for at_once in (10**6, 7):
        monkeypatch.setattr("clinical.modalities.notes.CHUNKS_AT_ONCE", at_once)
        monkeypatch.setattr(
            Phrases, "apply", lambda p, ids: sizes.append(len(ids)) or apply(p, ids)
        )
        folder = tmp_path / str(at_once)
        folder.mkdir()
        modality.write(frame, 400, statistics, folder, read_image=no_images)
        read.append(modality.open([folder], statistics).collate(np.arange(400)))
    assert max(sizes[1:]) == 7
    assert sum(sizes[1:]) == sizes[0] > 400
    for name in ("ids", "mask", "chunk", "kind", "phrases", "sample", "time_hours"):
        whole, parts = (getattr(tokens, name).numpy().tobytes() for tokens in read)
        assert whole == parts


def test_phrases_are_learned_from_notes_as_their_first_samples_see_them(make_frame) -> None:
    shards = [
        make_frame([note(0, "a b"), note(0, "c"), note(2, "d")]),
        make_frame([note(1, "e", event=7, subject=9), note(2, "e", event=7, subject=9)]),
    ]
    found = records(lambda: iter(shards), most=100, seed=0)
    assert found["text_value"].to_list() == ["a b", "c", "d", "e"]
    assert found["subject"].to_list() == [0, 0, 2, 9]
    assert len(set(found["record"])) == 3
    assert found["record"][0] == found["record"][1]


def test_of_too_many_notes_whole_records_are_drawn(make_frame) -> None:
    frame = make_frame([note(s, f"{s:05}") for s in range(1000) for _ in range(2)])
    found = records(lambda: [frame], most=2500, seed=0)
    assert 400 < len(found) < 600
    assert set(found["record"].value_counts()["count"]) == {2}


def test_the_newest_notes_with_words_are_kept(wards, make_frame, tmp_path, no_images) -> None:
    modality, statistics = fitted(wards, max_notes=2)
    texts = [("edema", 4.0), ("mild", 3.0), ("no", 2.0), ("  \n", 1.0), (None, 0.5)]
    frame = make_frame([note(0, text, hours) for text, hours in texts])
    counts = modality.write(frame, 1, statistics, tmp_path, read_image=no_images)
    assert counts == {"empty": 2, "left_out_notes": 1}
    tokens = modality.open([tmp_path], statistics).collate(np.array([0]))
    assert tokens.time_hours.tolist() == [3.0, 2.0]


def test_a_note_without_a_time_counts_as_of_now(wards, make_frame, tmp_path, no_images) -> None:
    modality, statistics = fitted(wards)
    frame = make_frame([{**note(0, "mild"), "hours": None}])
    modality.write(frame, 1, statistics, tmp_path, read_image=no_images)
    tokens = modality.open([tmp_path], statistics).collate(np.array([0]))
    assert tokens.time_hours.tolist() == [0.0]


def test_a_note_is_stored_once_however_many_samples_see_it(
    wards, make_frame, tmp_path, no_images
) -> None:
    modality, statistics = fitted(wards)
    seen_by = [(0, 9.0), (1, 5.0), (2, 1.0)]
    frame = make_frame([note(s, "mild edema", h, event=4, subject=0) for s, h in seen_by])
    modality.write(frame, 3, statistics, tmp_path, read_image=no_images)
    reader = modality.open([tmp_path], statistics)
    tokens = reader.collate(np.array([2, 0, 1]))
    assert tokens.time_hours.tolist() == [1.0, 9.0, 5.0]
    assert (tokens.ids == tokens.ids[0]).all()
    assert reader._stored.entries.n_rows == 1


OLD = "He needs two litres of oxygen. Mild dyspnea. "
SAME = "She walks with help to the bathroom now. "
LONG = "No edema on day two. " * 12


def rolling(notes: list[str], *, window: int) -> list[dict[str, object]]:
    """One patient, asked about after every note; each note is an hour after the last."""
    return [
        note(s, notes[e], float(s - e), event=e, subject=0)
        for s in range(len(notes))
        for e in range(max(0, s - window + 1), s + 1)
    ]


@pytest.mark.parametrize("drop_copied", [True, False])
def test_rolling_predictions_read_what_each_would_alone(
    wards, make_frame, tmp_path, no_images, drop_copied
) -> None:
    options = {"max_tokens": 24, "max_notes": 4, "max_chunks": 7, "drop_copied": drop_copied}
    modality, statistics = fitted(wards, **options)
    notes = [OLD + SAME, OLD, SAME + LONG, OLD + LONG, SAME, OLD + SAME, "mild"] * 2
    frame = make_frame(rolling(notes, window=5))
    modality.write(frame, len(notes), statistics, tmp_path, read_image=no_images)
    reader = modality.open([tmp_path], statistics)
    together = reader.collate(np.arange(len(notes)))
    distinct = set()
    for sample in range(len(notes)):
        seen = [e for e in range(len(notes)) if sample - 5 < e <= sample]
        expected = modality.read([notes[e] for e in seen], statistics)
        rows = np.flatnonzero(together.sample == sample)
        assert len(rows) == len(expected)
        for row, chunk in zip(rows, expected, strict=True):
            assert together.ids[row][together.mask[row]].tolist() == chunk.ids.tolist()
            assert together.chunk[row] == chunk.chunk
            assert together.time_hours[row] == sample - seen[chunk.note]
            distinct.add((seen[chunk.note], chunk.chunk, chunk.ids.tobytes()))
    assert reader._stored.entries.n_rows == len(distinct) < len(together.sample)


def test_a_copied_line_is_back_once_its_first_note_is_out_of_sight(
    wards, make_frame, tmp_path, no_images
) -> None:
    modality, statistics = fitted(wards, drop_copied=True)
    frame = make_frame(rolling([OLD + SAME, OLD + "no edema", "mild"], window=2))
    counts = modality.write(frame, 3, statistics, tmp_path, read_image=no_images)
    assert counts == {"copied_lines": 1}
    tokens = modality.open([tmp_path], statistics).collate(np.array([1, 2]))
    words = parse(statistics["tokenizer"], where="x").decode_batch(tokens.ids.tolist())
    assert "oxygen" in words[0]
    assert "oxygen" not in words[1]
    assert "oxygen" in words[2]


def test_an_explanation_finds_each_piece_in_the_text(wards) -> None:
    modality, statistics = fitted(wards, max_tokens=24, max_notes=3, drop_copied=True)
    texts = ["left out", " \n", OLD, "Mild edema. " + OLD + LONG, "no"]
    found = modality.read(texts, statistics)
    assert sorted({chunk.note for chunk in found}) == [2, 3, 4]
    tokenizer = parse(statistics["tokenizer"], where="x")
    for chunk in found:
        assert chunk.spans[[0, -1]].tolist() == [[0, 0], [0, 0]]
        for piece, (start, end) in zip(chunk.ids[1:-1], chunk.spans[1:-1], strict=True):
            written = texts[chunk.note][start:end].lower()
            assert tokenizer.id_to_token(int(piece)).removeprefix("##") == written
    (first, *rest) = [chunk for chunk in found if chunk.note == 3]
    read = "".join(texts[3][a:b] for chunk in (first, *rest) for a, b in chunk.spans)
    assert "Mildedema." in read
    assert "oxygen" not in read


def test_bytes_of_given_weights_become_chunks_too(
    byte_level, make_frame, tmp_path, no_images
) -> None:
    from transformers import ModernBertConfig

    size = byte_level.get_vocab_size()
    ends = {f"{name}_token_id": None for name in ("pad", "bos", "eos", "cls", "sep")}
    ModernBertConfig(vocab_size=size, hidden_size=16, **ends).save_pretrained(tmp_path)
    byte_level.save(str(tmp_path / "tokenizer.json"))
    frame = make_frame([note(s, "Mild dyspnoea. No oedema. " * 9) for s in range(12)])
    modality, statistics = fitted(frame, weights=tmp_path, max_tokens=40)
    statistics = json.loads(json.dumps(statistics))
    assert statistics["special_pieces"] == list(range(size - 5, size))
    assert modality.sizes(statistics)["special"] == 0
    modality.write(frame, 12, statistics, tmp_path, read_image=no_images)
    tokens = modality.open([tmp_path], statistics).collate(np.array([3]))
    sizes = modality.sizes(statistics)
    assert len(tokens.ids) > 2
    assert set(tokens.ids[:, 0].tolist()) == {sizes["cls"]}
    for ids, mask in zip(tokens.ids, tokens.mask, strict=True):
        assert ids[mask][-1] == sizes["sep"]
        assert set(ids[~mask].tolist()) <= {sizes["pad"]}
        said = parse(statistics["tokenizer"], where="x").decode(ids[mask][1:-1].tolist())
        assert said.replace(" ", "") in "Milddyspnoea.Nooedema." * 9


def test_statistics_hold_all_that_writing_needs_even_with_weights(
    wards, tmp_path, make_frame, no_images
) -> None:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "pain"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary))
    (tmp_path / "config.json").write_text(
        '{"vocab_size": 6, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,'
        ' "intermediate_size": 32, "max_position_embeddings": 64, "type_vocab_size": 2}'
    )
    modality, statistics = fitted(wards, weights=tmp_path, max_tokens=64)
    assert modality.sizes(statistics)["hidden_size"] == 16
    assert statistics["config"]["num_hidden_layers"] == 1
    plain = Notes(codes=["NOTE"])
    plain.write(make_frame([note(0, "Pain")]), 1, statistics, tmp_path, read_image=no_images)
    assert plain.open([tmp_path], statistics).collate(np.array([0])).ids.tolist() == [[2, 5, 3]]
    with pytest.raises(ConfigError, match=r"max_tokens: 65 is more than the 64 positions"):
        fitted(wards, weights=tmp_path, max_tokens=65)


def test_a_size_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^notes: max_tokens must be at least 3"):
        Notes(max_tokens=2)
    with pytest.raises(ConfigError, match=r"notes.overlap: 8 does not lie between 0 and 7, a qu"):
        Notes(max_tokens=32, overlap=8)


@pytest.mark.shared_data("mtsamples")
def test_real_language_is_encoded_almost_without_unknown_pieces(make_frame) -> None:
    with gzip.open(SHARED_DATA / "mtsamples" / "mtsamples.csv.gz") as file:
        texts = pl.read_csv(file.read(), columns=["transcription"]).to_series().drop_nulls()
    chosen = texts.unique(maintain_order=True).head(300).to_list()
    modality = Notes(codes=["NOTE"])
    frame = make_frame([note(s, text) for s, text in enumerate(chosen)])
    statistics = modality.fit(lambda: [frame], seed=0)
    tokenizer = parse(statistics["tokenizer"], where="x")
    ids = [i for encoding in tokenizer.encode_batch_fast(chosen[:50]) for i in encoding.ids]
    assert ids.count(1) / len(ids) < 1e-4
    n_words = sum(len(text.split()) for text in chosen[:50])
    assert len(ids) / n_words < 2


def test_there_are_fewer_topics_where_more_subjects_must_use_a_phrase(wards) -> None:
    modality, statistics = fitted(wards, max_tokens=32, topics=40, min_subjects=2)
    sizes = modality.sizes(statistics)
    assert 0 < sizes["topics"] <= sizes["phrases"]
    few, alone = fitted(wards, max_tokens=32, topics=40, min_subjects=10)
    assert few.sizes(alone)["topics"] < sizes["topics"]


def test_another_run_s_tokenizer_and_phrases_are_taken_over_and_kinds_are_not(
    wards, make_frame, tmp_path, no_images
) -> None:
    modality, given = fitted(wards)
    here = make_frame([note(s, f"Severe cough since day {s}.", code="LETTER") for s in range(12)])
    own = modality.fit(lambda: [here], seed=0)
    adopted = modality.adopt(own, given)
    for name in ("tokenizer", "special_pieces", "phrases"):
        assert adopted[name] == given[name]
        assert adopted[name] != own[name] or name == "special_pieces"
    assert adopted["kinds"] == own["kinds"] == ["LETTER"]
    sizes = modality.sizes(adopted)
    assert sizes == {**modality.sizes(given), "kinds": 2}
    modality.write(here, 12, adopted, tmp_path, read_image=no_images)
    read = modality.open([tmp_path], adopted).collate(np.arange(12))
    assert read.ids.max() < sizes["vocabulary"]
    assert read.phrases.shape[1] == sizes["phrases"]


def test_notes_of_given_weights_take_over_none_that_were_learned(wards) -> None:
    modality, learned = fitted(wards)
    given = {**learned, "config": {"model_type": "bert"}}
    with pytest.raises(ConfigError, match="is learned here and given in the bundle; give the same"):
        modality.adopt(learned, given)
    other = {**given, "config": {"model_type": "roberta"}}
    with pytest.raises(ConfigError, match="are of another model than the bundle's"):
        modality.adopt(given, other)
    assert modality.adopt(given, given)["config"] == given["config"]
